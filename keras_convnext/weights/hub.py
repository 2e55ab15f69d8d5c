"""Fetches files from the Hugging Face Hub with `huggingface_hub`, its cache and its settings."""

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
    """Returns the first of some files that a repository has, downloading it if it is not cached.

    Args:
        repository: `owner/name` or `owner/name@revision`.
        names: Names of files, the preferred one first. If one is an index of safetensors shards,
            all shards are fetched too and the path of the index is returned.

    Raises:
        WeightsError: If the repository has none of the files, or they cannot be downloaded.
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
    """Returns one file; `ask` says whether to ask the Hub for a file that is not cached."""
    address = f"hf://{repo_id}/{name}"
    try:
        cached = huggingface_hub.try_to_load_from_cache(repo_id, name, revision=revision)
        if not isinstance(cached, str):
            if not ask:
                raise _Unreachable
            _check_reachable(repo_id, name, revision)
        path = Path(huggingface_hub.hf_hub_download(repo_id, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # the server that answered is not a Hub
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
            f"{address} cannot be downloaded: the Hub answered {error.response.status_code}."
        ) from None
    except errors.HFValidationError:
        raise WeightsError(
            f"{address} cannot be downloaded: {repo_id!r} names no repository, which is owner/name."
        ) from None
    except (OSError, ValueError, errors.HTTPError) as error:  # the last is the HTTP client's
        raise WeightsError(f"{address} cannot be downloaded: {_first_line(error)}.") from None
    if str(path) != cached:
        _check_sha256(path, address)
    return path


def _check_reachable(repo_id, name, revision):
    """Asks for the file once, since a download would retry for half a minute."""
    url = huggingface_hub.hf_hub_url(repo_id, name, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500:
            raise _Unreachable(f"it answered {error.response.status_code}") from None
        raise
    except errors.HFValidationError:
        raise
    except Exception as error:  # the HTTP client's, which differs between versions
        raise _Unreachable(_first_line(error)) from None


def _first_line(error) -> str:
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return re.sub(r"^\[Errno \d+\] ", "", reason.splitlines()[0]).rstrip(".")


def _check_sha256(path, address):
    """Compares a new file with its SHA-256, which is the name of large files in the Hub's cache."""
    if not path.is_symlink():
        return
    blob = path.parent / os.readlink(path)  # one step: it may link to a file named by Xet's hash
    if re.fullmatch("[0-9a-f]{64}", blob.name) and file_sha256(blob) != blob.name:
        kept = blob.resolve()
        for damaged in (path, blob, kept):
            damaged.unlink(missing_ok=True)
        raise WeightsError(
            f"{address} arrived damaged: its SHA-256 is not {blob.name}. It was removed; try again."
        )
