"""Files from the Hugging Face Hub, through `huggingface_hub`: its cache and its settings hold."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from keras_convnext.errors import WeightsError
from keras_convnext.weights.download import file_sha256
from keras_convnext.weights.tensor_files.safetensors_file import SHARDS, shards_of


def fetch_from_hub(repository: str, names: Sequence[str]) -> Path:
    """Returns the first of some files that a repository has, downloading it unless it was before.

    Args:
        repository: `owner/name` or `owner/name@revision`.
        names: Names of files, the preferred one first. Of an index of several safetensors files,
            all of them are fetched, and the path is the index's.

    Raises:
        WeightsError: If none of the files is there or can be had.
    """
    repo_id, _, revision = repository.partition("@")
    unreachable = None
    for name in names:
        try:
            path = _fetch(repo_id, name, revision or None, ask=unreachable is None)
            if name.endswith(SHARDS):
                _fetch_shards(path, repo_id, revision or None)
            return path
        except _Unreachable as error:  # another of the files may be in the cache
            unreachable = unreachable or error
        except errors.EntryNotFoundError:
            continue
    if unreachable:
        raise WeightsError(
            f"hf://{repository} is not in the cache of the Hugging Face Hub, and the Hub cannot be "
            f"reached: {unreachable}."
        )
    raise WeightsError(f"hf://{repository} holds no weights: none of {', '.join(names)} is there.")


def _fetch_shards(index, repo_id, revision):
    for shard in sorted(set(shards_of(index).values())):
        try:
            _fetch(repo_id, shard, revision)
        except errors.EntryNotFoundError:
            raise WeightsError(
                f"hf://{repo_id} holds no {shard}, which {index.name} names."
            ) from None


class _Unreachable(Exception):
    """The file is not in the cache, and the Hub does not answer."""


def _fetch(repo_id, name, revision, ask=True):
    """Returns one file; one that is not in the cache only if `ask`ing the Hub is worth it."""
    address = f"hf://{repo_id}/{name}"
    try:
        cached = huggingface_hub.try_to_load_from_cache(repo_id, name, revision=revision)
        if not isinstance(cached, str):
            if not ask:
                raise _Unreachable
            _refuse_unreachable(repo_id, name, revision)
        path = Path(huggingface_hub.hf_hub_download(repo_id, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # the Hub's answer was none of a Hub
        raise _Unreachable(_first_line(error)) from None
    except errors.EntryNotFoundError:
        raise
    except errors.GatedRepoError:
        raise WeightsError(f"{address} is gated: accept its terms, and `hf auth login`.") from None
    except errors.RepositoryNotFoundError:
        raise WeightsError(
            f"There is no repository {repo_id} on the Hugging Face Hub, or it is private."
        ) from None
    except errors.RevisionNotFoundError:
        raise WeightsError(f"hf://{repo_id} has no revision {revision!r}.") from None
    except errors.HfHubHTTPError as error:
        raise WeightsError(
            f"{address} cannot be had: the Hub answered {error.response.status_code}."
        ) from None
    except errors.HFValidationError:
        raise WeightsError(
            f"{address} cannot be had: {repo_id!r} names no repository, which is owner/name."
        ) from None
    except (OSError, ValueError, errors.HTTPError) as error:  # the last of the HTTP client
        raise WeightsError(f"{address} cannot be had: {_first_line(error)}.") from None
    if str(path) != cached:
        _refuse_damaged(path, address)
    return path


def _refuse_unreachable(repo_id, name, revision):
    """Asks for the file once, where a download would try for half a minute."""
    url = huggingface_hub.hf_hub_url(repo_id, name, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500:
            raise _Unreachable(f"it answered {error.response.status_code}") from None
        raise
    except errors.HFValidationError:
        raise
    except Exception as error:  # of the HTTP client, which differs between versions
        raise _Unreachable(_first_line(error)) from None


def _first_line(error) -> str:
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return re.sub(r"^\[Errno \d+\] ", "", reason.splitlines()[0]).rstrip(".")


def _refuse_damaged(path, address):
    """Compares a new file with its SHA-256, which the Hub's cache calls great files by."""
    if not path.is_symlink():
        return
    blob = path.parent / os.readlink(path)  # one step: behind it may be one that Xet's hash names
    if re.fullmatch("[0-9a-f]{64}", blob.name) and file_sha256(blob) != blob.name:
        kept = blob.resolve()
        for damaged in (path, blob, kept):
            damaged.unlink(missing_ok=True)
        raise WeightsError(
            f"{address} arrived damaged: its SHA-256 is not {blob.name}. It was removed; try again."
        )
