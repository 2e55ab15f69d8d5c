"""Downloads from a server on this machine that does what servers, networks and disks do."""

import collections
import gc
import hashlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_convnext.errors import WeightsError
from keras_convnext.weights import download as module
from keras_convnext.weights.download import ATTEMPTS, download

pytestmark = pytest.mark.backend_free
pytest_plugins = ["web_fixtures"]

BODY = np.random.default_rng(0).bytes(4000)
OTHER = np.random.default_rng(1).bytes(4000)
SHA256 = hashlib.sha256(BODY).hexdigest()
FIRST = {"ETag": '"first"'}
SECOND = {"ETag": '"second"'}
IN_A_PROCESS = """
import sys
from pathlib import Path
from keras_convnext.weights.download import download
print("ready", flush=True)
print(download(sys.argv[1], Path(sys.argv[2])))
"""
FILES_OF_A_MEBIBYTE_AT_MOST = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
"""


@pytest.fixture
def start_process(server, tmp_path):
    """Starts a download in a process of its own and waits until it is about to begin."""
    processes = []

    def start(path, before=""):
        command = [sys.executable, "-c", before + IN_A_PROCESS, server.url(path), tmp_path]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def files(directory):
    """Names of what a download has left, but for the lock that two of them meet at."""
    return sorted(path.name for path in directory.iterdir() if path.suffix != ".lock")


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_is_downloaded_under_the_name_in_its_address(server, tmp_path):
    server.serve("/of/weights.bin?download=true", BODY, headers=FIRST)
    path = download(server.url("/of/weights.bin?download=true"), tmp_path / "made" / "for it")
    assert path == tmp_path / "made" / "for it" / "weights.bin"
    assert path.read_bytes() == BODY
    assert files(path.parent) == ["weights.bin"]


def test_a_downloaded_file_is_not_requested_again(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST)
    first = download(server.url("/weights.bin"), tmp_path)
    server.close()
    assert download(server.url("/weights.bin"), tmp_path) == first
    assert download(server.url("/weights.bin"), tmp_path, sha256=SHA256) == first
    assert len(server.requests) == 1


def test_an_address_may_lead_to_another(server, tmp_path):
    server.serve("/weights.bin", status=302, headers={"Location": server.url("/kept/here")})
    server.serve("/kept/here", BODY, headers=FIRST, cuts=[1500])
    path = download(server.url("/weights.bin"), tmp_path)
    assert (path.name, path.read_bytes()) == ("weights.bin", BODY)
    assert server.requests[-1].range == "bytes=1500-"


@pytest.mark.parametrize("length", [True, False, "chunked"])
def test_the_length_need_not_be_known(server, tmp_path, length):
    server.serve("/weights.bin", BODY, length=length)
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY


def test_progress_is_not_a_result(server, tmp_path, capfd):
    server.serve("/weights.bin", BODY)
    download(server.url("/weights.bin"), tmp_path)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "weights.bin" in shown.err


def test_what_breaks_off_is_gone_on_with_at_once(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1500, 500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, "bytes=1500-", "bytes=2000-"]
    assert [request.if_range for request in server.requests] == [None, '"first"', '"first"']
    assert sum(request.sent for request in server.requests) == len(BODY)


def test_what_breaks_off_is_gone_on_with_later(server, tmp_path, refused):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with refused("broke off 3 times: 3,000 of 4,000 bytes arrived.* try again"):
        download(server.url("/weights.bin"), tmp_path)
    assert len(server.requests) == ATTEMPTS
    assert not (tmp_path / "weights.bin").exists()

    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert server.requests[-1].range == "bytes=3000-"
    assert sum(request.sent for request in server.requests) == len(BODY)
    assert files(tmp_path) == ["weights.bin"]


def test_a_connection_that_is_reset_is_gone_on_with(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1500], reset=True)
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_break_is_noticed_where_the_length_is_not_known(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, length="chunked", cuts=[1500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "old, new",
    [
        (FIRST, SECOND),
        (FIRST, {}),
        (
            {"Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"},
            {"Last-Modified": "Sun, 02 Jan 2022 00:00:00 GMT"},
        ),
    ],
    ids=["another tag", "no tag", "another date"],
)
def test_a_part_is_not_gone_on_with_where_the_file_has_changed(server, tmp_path, old, new):
    server.serve("/weights.bin", BODY, headers=old, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    server.serve("/weights.bin", OTHER, headers=new)
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == OTHER
    assert (server.requests[-1].range, server.requests[-1].status) == ("bytes=3000-", 200)


def test_the_version_of_the_new_file_is_remembered(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    server.serve("/weights.bin", OTHER, headers=SECOND, cuts=[1500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == OTHER
    assert server.requests[-1].range == "bytes=1500-"
    assert server.requests[-1].if_range == '"second"'


def test_a_server_may_send_the_whole_file_again(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000, 1500], ranges=False)
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, "bytes=1000-", "bytes=1500-"]


def test_a_weak_tag_gives_way_to_the_date(server, tmp_path):
    date = "Sat, 01 Jan 2022 00:00:00 GMT"
    headers = {"ETag": 'W/"first"', "Last-Modified": date}
    server.serve("/weights.bin", BODY, headers=headers, cuts=[1500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert (server.requests[1].range, server.requests[1].if_range) == ("bytes=1500-", date)


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"first"'}], ids=["none", "weak"])
def test_without_a_version_a_download_starts_anew(server, tmp_path, headers):
    server.serve("/weights.bin", BODY, headers=headers, cuts=[1500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert [request.range for request in server.requests] == [None, None]


def test_a_part_loses_its_version_where_the_new_file_has_none(server, tmp_path):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    server.serve("/weights.bin", OTHER, cuts=[1500])
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == OTHER
    assert server.requests[-1].range is None


def test_a_part_that_is_longer_than_the_file_is_dropped(server, tmp_path):
    served = server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    served.body = OTHER[:2000]
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == OTHER[:2000]
    assert [request.status for request in server.requests[ATTEMPTS:]] == [416, 200]
    assert server.requests[-1].range is None


def test_a_server_without_any_fitting_part_is_given_up(server, tmp_path, refused):
    server.serve("/weights.bin", status=416)
    with refused("broke off 3 times: the partial file did not match the server's file"):
        download(server.url("/weights.bin"), tmp_path)
    assert files(tmp_path) == []


def test_another_part_than_was_asked_for_is_not_put_into_the_file(server, tmp_path, refused):
    served = server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    served.status, served.ranges = 206, False
    served.headers = {**FIRST, "Content-Range": "bytes 0-3999/4000"}
    try:
        content = download(server.url("/weights.bin"), tmp_path).read_bytes()
    except WeightsError:
        content = None
    assert content in (None, BODY)


def test_a_file_that_always_arrives_short_is_none(server, tmp_path, refused):
    server.serve("/weights.bin", BODY, cuts=[3999] * ATTEMPTS)
    with refused("broke off 3 times: 3,999 of 4,000 bytes arrived"):
        download(server.url("/weights.bin"), tmp_path)
    assert len(server.requests) == ATTEMPTS
    assert not (tmp_path / "weights.bin").exists()
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY


def test_another_file_than_was_meant_is_refused(server, tmp_path, refused):
    server.serve("/weights.bin", OTHER, headers=FIRST)
    received = hashlib.sha256(OTHER).hexdigest()
    with refused(f"weights.bin is not the file .* should be {SHA256}. Received: {received}"):
        download(server.url("/weights.bin"), tmp_path, sha256=SHA256)
    assert files(tmp_path) == []

    server.serve("/weights.bin", BODY, headers=FIRST)
    assert download(server.url("/weights.bin"), tmp_path, sha256=SHA256).read_bytes() == BODY
    assert server.requests[-1].range is None


def test_an_existing_wrong_file_is_replaced(server, tmp_path):
    (tmp_path / "weights.bin").write_bytes(OTHER)
    server.serve("/weights.bin", BODY)
    assert download(server.url("/weights.bin"), tmp_path, sha256=SHA256).read_bytes() == BODY
    assert len(server.requests) == 1


def test_hashes_may_be_in_capitals(server, tmp_path):
    server.serve("/weights.bin", BODY)
    path = download(server.url("/weights.bin"), tmp_path, sha256=SHA256.upper())
    assert download(server.url("/weights.bin"), tmp_path, sha256=SHA256.upper()) == path
    assert len(server.requests) == 1


def test_a_file_is_checked_before_it_gets_its_name(server, tmp_path):
    seen = []

    def check(path):
        seen.append((path.read_bytes(), (tmp_path / "weights.bin").exists()))

    server.serve("/weights.bin", BODY)
    for _ in range(2):
        download(server.url("/weights.bin"), tmp_path, check=check)
    assert seen == [(BODY, False)]


def test_a_file_that_fails_its_check_is_dropped(server, tmp_path, refused):
    def check(path):
        raise WeightsError("it is cut short.")

    server.serve("/weights.bin", BODY, headers=FIRST)
    with refused("/weights.bin is not the file it should be: it is cut short."):
        download(server.url("/weights.bin"), tmp_path, check=check)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "status, words",
    [
        (403, "403 \\(Forbidden\\)"),
        (404, "404 \\(Not Found\\)"),
        (500, "500 \\(Internal Server Error\\)"),
        (503, "503 \\(Service Unavailable\\)"),
    ],
)
def test_the_servers_refusal_is_told(server, tmp_path, refused, status, words):
    server.serve("/weights.bin", b"Sorry", status=status)
    with refused(f"/weights.bin cannot be downloaded: the server answered {words}"):
        download(server.url("/weights.bin"), tmp_path)
    assert files(tmp_path) == []
    assert len(server.requests) == 1


def test_a_web_page_is_no_file(server, tmp_path, refused):
    headers = {"Content-Type": "text/html; charset=utf-8"}
    server.serve("/weights.bin", b"<html>Log in</html>", headers=headers)
    with refused("/weights.bin answered with a web page instead of a file. Open it in a browser"):
        download(server.url("/weights.bin"), tmp_path)
    assert files(tmp_path) == []


def test_a_part_survives_a_servers_bad_day(server, tmp_path):
    good = server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    for trouble in ({"status": 503}, {"headers": {"Content-Type": "text/html"}}):
        server.serve("/weights.bin", b"Sorry", **trouble)
        with pytest.raises(WeightsError, match="cannot be downloaded|a web page"):
            download(server.url("/weights.bin"), tmp_path)
    server.files["/weights.bin"] = good
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    assert server.requests[-1].range == "bytes=3000-"


def test_a_server_that_is_not_there_is_named(server, tmp_path, refused):
    server.close()
    with refused("/weights.bin cannot be reached: Connection refused. Is this machine online?"):
        download(server.url("/weights.bin"), tmp_path)


@pytest.mark.parametrize(
    "address",
    ["http://", "http://127.0.0.1:port/weights.bin", "http://[/weights.bin", "/weights.bin"],
)
def test_what_is_no_address_is_refused(tmp_path, refused, address):
    with refused("cannot be"):
        download(address, tmp_path)


def test_an_address_without_a_files_name_is_refused(server, tmp_path, refused):
    server.serve("/", BODY)
    with refused("names no file"):
        download(server.url("/"), tmp_path)


def test_an_address_may_hold_any_letters(server, tmp_path):
    server.serve("/%C3%84pfel%20und%20Birnen.bin", BODY)
    path = download(server.url("/Äpfel und%20Birnen.bin"), tmp_path)
    assert path.read_bytes() == BODY


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    stall = threading.Event()
    server.serve("/weights.bin", BODY, cuts=[1000] * ATTEMPTS, stall=stall)
    with refused("/weights.bin broke off 3 times: .*timed out"):
        download(server.url("/weights.bin"), tmp_path)
    stall.set()
    assert not (tmp_path / "weights.bin").exists()


def test_what_came_before_the_silence_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    monkeypatch.setattr(module, "CHUNK", 100)
    stall = threading.Event()
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1550], stall=stall)
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY
    stall.set()
    assert server.requests[1].range == "bytes=1500-"


def test_what_does_not_fit_on_the_disk_is_not_begun(server, tmp_path, monkeypatch, refused):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**6, 0, 3999))
    server.serve("/weights.bin", BODY, headers=FIRST)
    with refused("needs another 4,000 bytes, and only 3,999 are free in "):
        download(server.url("/weights.bin"), tmp_path)
    assert "weights.bin" not in files(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**6, 0, 4000))
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY


def test_only_the_rest_has_to_fit_on_the_disk(server, tmp_path, monkeypatch):
    server.serve("/weights.bin", BODY, headers=FIRST, cuts=[1000] * ATTEMPTS)
    with pytest.raises(WeightsError, match="broke off"):
        download(server.url("/weights.bin"), tmp_path)
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**6, 0, 1000))
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == BODY


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_told(server, tmp_path, refused):
    (tmp_path / "weights.bin.partial").symlink_to("/dev/full")
    server.serve("/weights.bin", BODY)
    with refused("/weights.bin cannot be kept as .*/weights.bin: No space left on device"):
        download(server.url("/weights.bin"), tmp_path)
    assert not (tmp_path / "weights.bin").exists()


def test_what_fitted_on_a_full_disk_is_gone_on_with(server, tmp_path, start_process):
    body = np.random.default_rng(2).bytes(2_500_000)
    server.serve("/weights.bin", body, headers=FIRST)
    _, error = start_process("/weights.bin", FILES_OF_A_MEBIBYTE_AT_MOST).communicate()
    assert f"WeightsError: {server.url('/weights.bin')} cannot be kept as" in error
    assert error.endswith("weights.bin: File too large.\n")
    assert not (tmp_path / "weights.bin").exists()

    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == body
    assert server.requests[-1].range == f"bytes={1 << 20}-"


def test_a_directory_that_cannot_be_is_named(server, tmp_path, refused):
    (tmp_path / "file").write_bytes(b"")
    server.serve("/weights.bin", BODY)
    with refused(f"cannot be kept as {tmp_path}/file/cache/weights.bin: Not a directory"):
        download(server.url("/weights.bin"), tmp_path / "file" / "cache")
    assert server.requests == []


def test_two_processes_share_one_download(server, tmp_path, start_process):
    stall = threading.Event()
    body = np.random.default_rng(2).bytes(2_500_000)
    served = server.serve("/weights.bin", body, headers=FIRST, cuts=[1_500_000], stall=stall)
    processes = [start_process("/weights.bin") for _ in range(2)]
    wait_until(lambda: server.requests)
    time.sleep(0.3)  # for the other process to ask as well, if it does not wait
    stall.set()
    results = [process.communicate(timeout=20) for process in processes]
    assert [out for out, _ in results] == [f"{tmp_path / 'weights.bin'}\n"] * 2, results
    assert (tmp_path / "weights.bin").read_bytes() == body
    assert [request.range for request in server.requests] == [None, "bytes=1500000-"]
    assert served.cuts == []


def test_a_process_that_was_killed_is_gone_on_from(server, tmp_path, start_process):
    stall = threading.Event()
    body = np.random.default_rng(2).bytes(2_500_000)
    server.serve("/weights.bin", body, headers=FIRST, cuts=[1_500_000], stall=stall)
    process = start_process("/weights.bin")
    part = tmp_path / "weights.bin.partial"
    wait_until(lambda: part.exists() and part.stat().st_size == 1 << 20)
    process.kill()
    process.wait()
    stall.set()
    assert not (tmp_path / "weights.bin").exists()
    assert download(server.url("/weights.bin"), tmp_path).read_bytes() == body
    assert server.requests[-1].range == f"bytes={1 << 20}-"


def test_no_connection_is_left_open(server, tmp_path):
    server.serve("/page.bin", headers={"Content-Type": "text/html"})
    server.serve("/unfit.bin", status=416)
    for path in ("/missing.bin", "/page.bin", "/unfit.bin"):
        with pytest.raises(WeightsError):
            download(server.url(path), tmp_path)
    gc.collect()  # a connection that is found open here is a warning, which is an error
