"""Downloads a file: resumes an interrupted download, checks the file, then gives it its name."""

import hashlib
import http.client
import os
import shutil
import ssl
import string
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from keras_convnext.console import console
from keras_convnext.errors import WeightsError

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3  # for a connection that breaks off; each resumes where the last one stopped


class _BrokenOff(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    directory: Path,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Returns the file of a web address, downloading it if it is not here yet.

    Until it is complete and checked the file is called `NAME.partial`, so that no later call takes
    a part for the whole. A partial file is resumed if the server's file has not changed. If two
    processes want one file, the second waits for the first.

    Args:
        url: Address of the file.
        directory: Where the file goes, under the last part of its address.
        sha256: Its SHA-256 in hexadecimal, if known; an existing file is checked too.
        check: Called with the path of the complete file before it gets its name; raises a
            `WeightsError` if it is the wrong file.

    Raises:
        WeightsError: If the file cannot be downloaded or is the wrong one.
    """
    name = _file_name(url)
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists() and (sha256 is None or file_sha256(path) == sha256.lower()):
                return path
            part = _Part(path)
            _download_all(url, part)
            _check_file(url, part, sha256, check)
            os.replace(part.path, path)
            part.version_file.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{url} cannot be kept as {path}: {_reason(error)}.") from error
    return path


def _file_name(url):
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        known = False
    if not known:
        raise WeightsError(f"{url!r} cannot be an address of the web: it names no server.")
    name = Path(parts.path).name
    if not name:
        raise WeightsError(f"{url} names no file: its last part is empty.")
    return name


def file_sha256(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Part:
    """A partial file, and the version of the server's file that it is a part of."""

    def __init__(self, whole: Path) -> None:
        self.path = Path(f"{whole}.partial")
        self.version_file = Path(f"{whole}.version")

    def size(self) -> int:
        """Bytes that a download can resume after."""
        known = self.path.exists() and self.version_file.exists()
        return self.path.stat().st_size if known else 0

    def remember_version(self, headers) -> None:
        # Without a strong validator a download cannot be resumed safely.
        tag = headers.get("ETag", "W/")
        version = headers.get("Last-Modified") if tag.startswith("W/") else tag
        if version is None:
            self.version_file.unlink(missing_ok=True)
        else:
            self.version_file.write_text(version)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)


def _download_all(url, part):
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _download_rest(url, part)
            return
        except _BrokenOff as error:
            if attempt == ATTEMPTS:
                raise WeightsError(
                    f"{url} broke off {ATTEMPTS} times: {error}. The part that arrived is kept "
                    f"if the server can resume it: try again."
                ) from None


def _download_rest(url, part):
    start = part.size()
    headers = {"Accept-Encoding": "identity"}
    if start:
        # If the file has changed, the server sends all of the new one.
        headers |= {"Range": f"bytes={start}-", "If-Range": part.version_file.read_text()}
    try:
        with _open(url, headers, part) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                start = 0
                part.remember_version(response.headers)
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.discard()
                raise _BrokenOff("the server sent another part than was requested")
            _write(url, response, part.path, start)
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _BrokenOff(_reason(error)) from error


def _open(url, headers, part):
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(_ascii(url), headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()  # the partial file is longer than the server's file
            raise _BrokenOff("the partial file did not match the server's file") from None
        raise WeightsError(
            f"{url} cannot be downloaded: the server answered {error.code} ({error.reason})."
        ) from None
    except urllib.error.URLError as error:
        raise WeightsError(
            f"{url} cannot be reached: {_reason(error.reason)}. Is this machine online?"
        ) from None
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise WeightsError(
            f"{url} answered with a web page instead of a file. Open it in a browser to see which."
        )
    return response


def _ascii(url):
    """Percent-encodes characters that addresses may not hold; encoded ones stay as they are."""
    return urllib.parse.quote(url, safe=string.punctuation)


def _write(url, response, path, start):
    """Writes the response after the first `start` bytes of the file at `path`."""
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - start > free:
        raise WeightsError(
            f"{url} needs another {total - start:,} bytes, and only {free:,} are free in "
            f"{path.parent}."
        )
    with path.open("ab" if start else "wb") as file, _progress() as progress:
        bar = progress.add_task(Path(path).stem, total=total, completed=start)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            progress.advance(bar, len(chunk))
        arrived = file.tell()
    if total is not None and arrived < total:
        raise _BrokenOff(f"{arrived:,} of {total:,} bytes arrived")


def _progress():
    return Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        SpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _check_file(url, part, sha256, check):
    try:
        received = file_sha256(part.path) if sha256 else None
        if sha256 and received != sha256.lower():
            raise WeightsError(f"its SHA-256 should be {sha256.lower()}. Received: {received}.")
        if check is not None:
            check(part.path)
    except WeightsError as error:
        part.discard()
        raise WeightsError(f"{url} is not the file it should be: {error}") from None


def _reason(error) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
