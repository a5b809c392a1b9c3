"""Downloads from a real server that misbehaves: the right file, or a clear error, never a half."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aquachat.data import partial_file
from aquachat.data.addresses import address_key, check_address, file_name_of, scheme_of, shown_url
from aquachat.data.download import (
    Downloader,
    DownloadEvent,
    DownloadEventKind,
    FetchedFile,
    RawFile,
    RetryPolicy,
)
from aquachat.data.http_headers import content_range, retry_after_s
from aquachat.data.http_transport import HttpTransport
from aquachat.data.partial_file import read_record
from aquachat.errors import ConfigError, DataError, RemoteError
from tests.data.http_server import Fault, Server

CONTENT = random.Random(1).randbytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


class Client:
    """A downloader that never really waits, and what it waited for and told."""

    def __init__(self, *, timeout_s: float = 5.0, num_workers: int = 4, now_s: float = 0.0) -> None:
        self.waits_s: list[float] = []
        self.events: list[DownloadEvent] = []
        self.downloader = Downloader(
            HttpTransport(timeout_s=timeout_s, linger_s=min(2.0, timeout_s)),
            policy=RetryPolicy(),
            num_workers=num_workers,
            on_event=self.events.append,
            pause=lambda seconds, cancelled: self.waits_s.append(seconds),
            now=lambda: now_s,
            draw=lambda: 0.0,
        )

    def fetch(self, url: str, path: Path, **known: object) -> FetchedFile:
        return self.downloader.fetch(RawFile(url, path, **known))  # type: ignore[arg-type]

    def retries(self) -> list[str]:
        return [event.detail for event in self.events if event.kind is DownloadEventKind.RETRY]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def check_no_half_file(path: Path, content: bytes = CONTENT) -> None:
    assert not path.exists() or path.read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_arrives_whole_with_its_hash(
    server: Server, tmp_path: Path, size: int, chunked: bool
) -> None:
    url = server.put("/a.bin", CONTENT[:size], Fault(chunked=chunked))
    fetched = Client().fetch(url, tmp_path / "new" / "a.bin")
    assert fetched.path.read_bytes() == CONTENT[:size]
    assert fetched.num_bytes == size
    assert fetched.sha256 == hashlib.sha256(CONTENT[:size]).hexdigest()
    assert names(tmp_path / "new") == {"a.bin", "a.bin.download"}


def test_a_second_fetch_asks_nobody(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT)
    first = Client().fetch(url, tmp_path / "a.bin")
    again = Client().fetch(url, tmp_path / "a.bin", sha256=HASH)
    assert (first.was_there, again.was_there) == (False, True)
    assert (again.sha256, again.num_bytes) == (HASH, len(CONTENT))
    assert server.count("/a.bin") == 1


@pytest.mark.parametrize("damage", ["shorter", "other bytes", "no record", "other address"])
def test_a_file_that_is_no_longer_what_was_downloaded_is_downloaded_anew(
    server: Server, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "a.bin"
    url = server.put("/a.bin", CONTENT)
    Client().fetch(url, path)
    if damage == "shorter":
        path.write_bytes(CONTENT[:-1])
    elif damage == "other bytes":
        path.write_bytes(CONTENT[:-1] + b"?")
        os.utime(path, ns=(1, 1))
    elif damage == "no record":
        (tmp_path / "a.bin.download").unlink()
    else:
        url = server.put("/b.bin", CONTENT)
    assert not Client().fetch(url, path).was_there
    assert path.read_bytes() == CONTENT


def test_a_touched_file_is_hashed_and_kept(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT)
    Client().fetch(url, tmp_path / "a.bin")
    os.utime(tmp_path / "a.bin", ns=(1, 1))
    assert Client().fetch(url, tmp_path / "a.bin").was_there


def test_a_cut_connection_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, Fault(cut_after=1000), Fault(cut_after=500))
    client = Client()
    assert client.fetch(url, tmp_path / "a.bin").sha256 == HASH
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert all(headers["If-Range"] for _, headers in server.requests[1:])
    assert client.waits_s == [0.5, 0.5]  # bytes came each time, so it stays the first failure
    assert "1,000 of 300,000 bytes; trying again in 0.5 s" in client.retries()[0]


def test_many_cuts_with_progress_are_not_many_failures(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, *[Fault(cut_after=9000)] * 33)
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert server.count("/a.bin") == 34


def test_another_start_of_the_program_goes_on_where_the_last_ended(
    server: Server, tmp_path: Path
) -> None:
    url = server.put("/a.bin", CONTENT, Fault(cut_after=1000), *[Fault(status=500)] * 6)
    with pytest.raises(RemoteError, match="HTTP 500"):
        Client().fetch(url, tmp_path / "a.bin")
    assert names(tmp_path) == {"a.bin.partial", "a.bin.download"}
    assert (tmp_path / "a.bin.partial").read_bytes() == CONTENT[:1000]
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert server.requests[-1][1]["Range"] == "bytes=1000-"
    assert names(tmp_path) == {"a.bin", "a.bin.download"}


def test_a_whole_partial_file_is_checked_with_the_server_and_installed(
    server: Server, tmp_path: Path
) -> None:
    url = server.put("/a.bin", CONTENT, Fault(cut_after=1000))
    path = tmp_path / "a.bin"
    Client().fetch(url, path)
    path.rename(tmp_path / "a.bin.partial")
    assert Client().fetch(url, path).sha256 == HASH
    assert server.requests[-1][1]["Range"] == f"bytes={len(CONTENT) - 1}-"


@pytest.mark.parametrize(
    "first",
    [Fault(cut_after=1000, ignores_range=True), Fault(cut_after=1000, without_validators=True)],
)
def test_a_server_that_cannot_resume_starts_again(
    server: Server, tmp_path: Path, first: Fault
) -> None:
    url = server.put("/a.bin", CONTENT, first, Fault(ignores_range=True))
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert server.count("/a.bin") == 2


def test_without_validators_a_known_hash_allows_to_resume(server: Server, tmp_path: Path) -> None:
    fault = Fault(cut_after=1000, without_validators=True)
    url = server.put("/a.bin", CONTENT, fault, Fault(without_validators=True))
    assert Client().fetch(url, tmp_path / "a.bin", sha256=HASH).sha256 == HASH
    assert server.requests[1][1]["Range"] == "bytes=1000-"
    assert "If-Range" not in server.requests[1][1]


def test_a_weak_etag_is_no_reason_to_resume(server: Server, tmp_path: Path) -> None:
    server.etags["/a.bin"] = 'W/"weak"'
    url = server.put("/a.bin", CONTENT, Fault(cut_after=1000))
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert "Range" not in server.requests[1][1]


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changes_between_attempts_is_never_mixed(
    server: Server, tmp_path: Path, honest: bool
) -> None:
    other = CONTENT[::-1]
    url = server.put("/a.bin", CONTENT, Fault(cut_after=1000), Fault(ignores_if_range=not honest))
    server.changes["/a.bin"] = [other]
    assert Client().fetch(url, tmp_path / "a.bin").path.read_bytes() == other
    assert server.count("/a.bin") == (2 if honest else 3)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(longer_by=500),
        Fault(longer_by=-500),
        Fault(chunked=True, cut_after=4000),
        Fault(wrong_bytes=True),
        Fault(hangs_after=4000),
        Fault(cut_after=0),
        Fault(status=206, headers={"Content-Range": "bytes 7-9/300000"}, body=b"123"),
        Fault(status=206, headers={}, body=b"123"),
        Fault(status=200, headers={"Content-Length": "3"}, body=b"abc"),
        Fault(status=416),
        *(Fault(status=status) for status in (408, 429, 500, 502, 503, 504)),
    ],
    ids=str,
)
def test_one_fault_is_outlived_and_the_same_fault_for_ever_is_an_error(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    path = tmp_path / "a.bin"
    url = server.put("/a.bin", CONTENT, fault)
    client = Client(timeout_s=0.3)
    assert client.fetch(url, path, sha256=HASH, num_bytes=len(CONTENT)).sha256 == HASH
    assert len(client.waits_s) == 1
    path = tmp_path / "never" / "b.bin"
    url = server.put("/b.bin", CONTENT, *[fault] * 40)
    with pytest.raises(RemoteError, match="could not download") as caught:
        Client(timeout_s=0.1).fetch(url, path, sha256=HASH, num_bytes=len(CONTENT) + 1)
    assert not path.exists()
    assert url in caught.value.message
    assert 4 <= server.count("/b.bin") <= 8


@pytest.mark.parametrize("by", [500, -500, -len(CONTENT)])
def test_a_wrong_length_is_found_without_knowing_the_file(
    server: Server, tmp_path: Path, by: int
) -> None:
    url = server.put("/a.bin", CONTENT, *[Fault(longer_by=by)] * 40)
    with pytest.raises(RemoteError, match="bytes"):
        Client().fetch(url, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()


def test_a_server_that_keeps_the_connection_open_is_not_waited_for(
    server: Server, tmp_path: Path
) -> None:
    url = server.put("/a.bin", CONTENT, Fault(keeps_open=True))
    began = time.monotonic()
    assert Client(timeout_s=20).fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("header", "now_s", "expected_s"),
    [("7", 0.0, 7.05), ("Thu, 01 Jan 1970 00:01:00 GMT", 20.0, 40.05), ("soon", 0.0, 0.5)],
)
def test_a_server_that_asks_to_wait_is_waited_for(
    server: Server, tmp_path: Path, header: str, now_s: float, expected_s: float
) -> None:
    url = server.put("/a.bin", CONTENT, Fault(status=429, headers={"Retry-After": header}))
    client = Client(now_s=now_s)
    client.fetch(url, tmp_path / "a.bin")
    assert client.waits_s == [pytest.approx(expected_s)]


def test_a_server_that_asks_to_wait_for_hours_is_an_error(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, Fault(status=503, headers={"Retry-After": "7200"}))
    with pytest.raises(RemoteError, match="HTTP 503, come back in 7,200 s"):
        Client().fetch(url, tmp_path / "a.bin")


def test_waits_double_up_to_a_limit_and_are_spread() -> None:
    policy = RetryPolicy()
    assert [policy.delay_s(n, 0.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert policy.delay_s(3, 0.999) > 3.9


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "check the address"), (403, "needs a login"), (400, "try again")]
)
def test_a_refusal_is_an_error_at_once(
    server: Server, tmp_path: Path, status: int, hint: str
) -> None:
    url = server.put("/a.bin", CONTENT, Fault(status=status))
    with pytest.raises(RemoteError, match=f"HTTP {status}") as caught:
        Client().fetch(url, tmp_path / "gone" / "a.bin")
    assert hint in (caught.value.hint or "")
    assert server.count("/a.bin") == 1
    assert names(tmp_path) == set()


def test_nobody_listening_is_an_error_after_some_attempts(tmp_path: Path) -> None:
    with Server().running() as server:
        url = server.url + "/a.bin"
    client = Client()
    with pytest.raises(RemoteError, match="refused"):
        client.fetch(url, tmp_path / "x" / "a.bin")
    assert client.waits_s == [1, 4]
    assert names(tmp_path) == set()


def test_redirects_are_followed_with_the_range_but_not_in_circles(
    server: Server, tmp_path: Path
) -> None:
    server.put("/a.bin", CONTENT, Fault(cut_after=1000))
    moved = Fault(status=302, headers={"Location": "/a.bin"})
    url = server.put("/old", b"", moved, moved)
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert [path for path, _ in server.requests] == ["/old", "/a.bin", "/old", "/a.bin"]
    assert server.requests[3][1]["Range"] == "bytes=1000-"
    url = server.put("/loop", b"", *[Fault(status=307, headers={"Location": "/loop"})] * 30)
    with pytest.raises(RemoteError, match="redirects more than 10 times"):
        Client().fetch(url, tmp_path / "b.bin")


def test_a_redirect_never_leaves_encryption_or_the_web() -> None:
    from aquachat.data.http_transport import _next_url

    assert _next_url("http://a/b", "https://a/c d") == "https://a/c%20d"
    assert _next_url("https://a/b/c", "../d") == "https://a/d"
    with pytest.raises(RemoteError, match="not encrypted"):
        _next_url("https://a/b", "http://a/b")
    with pytest.raises(RemoteError, match="no web address"):
        _next_url("http://a/b", "file:///etc/passwd")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aquachat test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_encryption_is_used_and_an_unknown_certificate_refused_at_once(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Server(tls).running() as server:
        url = server.put("/a.bin", CONTENT, Fault(cut_after=1000), Fault(longer_by=-500))
        client = Client()
        with pytest.raises(RemoteError, match="no valid certificate"):
            client.fetch(url, tmp_path / "a.bin")
        assert client.waits_s == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH
        plain = Fault(status=302, headers={"Location": "http://127.0.0.1:1/a.bin"})
        url = server.put("/down", b"", plain)
        with pytest.raises(RemoteError, match="not encrypted"):
            Client().fetch(url, tmp_path / "b.bin")


def test_what_the_hub_tells_of_a_large_file_is_verified(server: Server, tmp_path: Path) -> None:
    def moved(digest: str, size: int) -> Fault:
        headers = {"Location": "/cdn", "X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(size)}
        return Fault(status=302, headers=headers)

    server.put("/cdn", CONTENT, Fault(wrong_bytes=True))
    url = server.put("/resolve", b"", *[moved(HASH, len(CONTENT))] * 2)
    client = Client()
    assert client.fetch(url, tmp_path / "a.bin").sha256 == HASH
    assert "its sha256 is" in client.retries()[0]
    url = server.put("/other", b"", *[moved(HASH, 5)] * 9)
    with pytest.raises(RemoteError, match="offers 300,000 bytes, not 5"):
        Client().fetch(url, tmp_path / "b.bin")


def test_a_compressed_answer_is_refused_unless_the_file_is_compressed(
    server: Server, tmp_path: Path
) -> None:
    fault = Fault(headers={"Content-Encoding": "gzip"})
    with pytest.raises(RemoteError, match="compressed as gzip"):
        Client().fetch(server.put("/a.jsonl", CONTENT, fault), tmp_path / "a.jsonl")
    url = server.put("/a.jsonl.gz", CONTENT, fault)
    assert Client().fetch(url, tmp_path / "a.jsonl.gz").sha256 == HASH


def test_a_login_in_the_address_is_sent_and_never_shown(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT).replace("://", "://me:s%40cret@") + "?token=abcdef"
    Client().fetch(url, tmp_path / "a.bin")
    assert server.requests[0][1]["Authorization"] == "Basic bWU6c0BjcmV0"
    record = (tmp_path / "a.bin.download").read_text()
    assert "cret" not in record
    assert "abcdef" not in record
    with pytest.raises(RemoteError) as caught:
        Client().fetch(url.replace("/a.bin", "/no.bin"), tmp_path / "b.bin")
    assert "cret" not in caught.value.message
    assert "token=..." in caught.value.message


def test_several_run_at_once_and_no_more_than_allowed(server: Server, tmp_path: Path) -> None:
    files = [
        RawFile(server.put(f"/{i}.bin", CONTENT[i:], Fault(cut_after=5000)), tmp_path / f"{i}.bin")
        for i in range(12)
    ]
    client = Client(num_workers=3)
    fetched = client.downloader.fetch_all(files)
    assert [file.path for file in fetched] == [file.path for file in files]
    for i, file in enumerate(fetched):
        assert file.path.read_bytes() == CONTENT[i:]
    assert server.most_at_once <= 3
    done = [event for event in client.events if event.kind is DownloadEventKind.DONE]
    assert {event.file.path for event in done} == {file.path for file in files}


def test_the_first_failure_ends_the_others_and_keeps_what_they_have(
    server: Server, tmp_path: Path
) -> None:
    slow = [
        RawFile(server.put(f"/{i}.bin", CONTENT, Fault(hangs_after=4000)), tmp_path / f"{i}.bin")
        for i in range(3)
    ]
    bad = RawFile(server.url + "/missing.bin", tmp_path / "missing.bin")
    began = time.monotonic()
    with pytest.raises(RemoteError, match=r"missing\.bin`: HTTP 404"):
        Client(num_workers=4, timeout_s=30).downloader.fetch_all([*slow, bad, slow_file(server)])
    assert time.monotonic() - began < 10
    assert server.count("/late.bin") == 0
    assert not [name for name in names(tmp_path) if name.endswith(".bin")]


def slow_file(server: Server) -> RawFile:
    return RawFile(server.put("/late.bin", CONTENT), Path("late.bin"))


PROGRAM = """
import sys
from pathlib import Path
from aquachat.cli.output import run_command
from aquachat.data.download import Downloader, RawFile

def main():
    Downloader().fetch_all([RawFile(sys.argv[1], Path(sys.argv[2]))])

sys.exit(run_command(main))
"""


def test_ctrl_c_leaves_a_partial_file_that_is_resumed(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, Fault(hangs_after=4000))
    path = tmp_path / "a.bin"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(path)], stderr=subprocess.PIPE, text=True
    )
    deadline_s = time.monotonic() + 30
    partial = tmp_path / "a.bin.partial"
    while not (partial.exists() and partial.stat().st_size == 4000):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=20)
    assert program.returncode == 130
    assert "interrupted with 0 of 1 downloads complete" in stderr
    assert "Traceback" not in stderr
    assert partial.read_bytes() == CONTENT[:4000]
    assert Client().fetch(url, path).sha256 == HASH
    assert server.requests[-1][1]["Range"] == "bytes=4000-"


def test_a_killed_program_leaves_a_prefix_that_is_resumed(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, Fault(hangs_after=70_000))
    path = tmp_path / "a.bin"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(path)])
    deadline_s = time.monotonic() + 30
    partial = tmp_path / "a.bin.partial"
    while not (partial.exists() and partial.stat().st_size == 70_000):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    program.kill()
    program.wait(20)
    assert not path.exists()
    assert Client().fetch(url, path).sha256 == HASH
    assert server.requests[-1][1]["Range"] == "bytes=70000-"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks open files itself")
def test_two_programs_do_not_write_into_one_file(server: Server, tmp_path: Path) -> None:
    url = server.put("/a.bin", CONTENT, Fault(hangs_after=4000))
    first = threading.Thread(
        target=lambda: Client(timeout_s=30).fetch(url, tmp_path / "a.bin"), daemon=True
    )
    first.start()
    deadline_s = time.monotonic() + 10
    while not (tmp_path / "a.bin.partial").exists() or server.count("/a.bin") == 0:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    with pytest.raises(DataError, match="another program is downloading"):
        Client().fetch(url, tmp_path / "a.bin")
    server.released.set()
    first.join(10)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_full_disk_is_one_sentence_and_what_was_written_is_resumed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/a.bin", CONTENT)
    write = partial_file.PartialFile.write

    def full(self: partial_file.PartialFile, block: bytes) -> None:
        if self.size > 50_000:
            raise partial_file.storage_error(self.final, OSError(errno.ENOSPC, "No space left"))
        write(self, block[:10_000])

    monkeypatch.setattr(partial_file.PartialFile, "write", full)
    with pytest.raises(DataError, match="the disk is full"):
        Client().fetch(url, tmp_path / "b.bin")
    assert not (tmp_path / "b.bin").exists()
    monkeypatch.undo()


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(
    server: Server, tmp_path: Path
) -> None:
    url = server.put("/a.bin", b"", Fault(longer_by=10**18, body=b"x"))
    with pytest.raises(DataError, match=r"needs 1,000,000,000,000,000,001 bytes and the disk has"):
        Client().fetch(url, tmp_path / "x" / "a.bin")
    assert names(tmp_path) == set()


FAULTS = (
    lambda r: Fault(cut_after=r.randrange(4000)),
    lambda r: Fault(cut_after=r.randrange(4000), chunked=True),
    lambda r: Fault(longer_by=r.choice((-300, -1, 1, 300))),
    lambda r: Fault(wrong_bytes=True, cut_after=r.choice((None, 700))),
    lambda r: Fault(ignores_range=True, cut_after=r.choice((None, 900))),
    lambda r: Fault(without_validators=True, cut_after=r.choice((None, 900))),
    lambda r: Fault(ignores_if_range=True, cut_after=r.choice((None, 900))),
    lambda r: Fault(status=r.choice((429, 500, 503)), headers={"Retry-After": "1"}),
    lambda r: Fault(status=r.choice((404, 416, 206))),
    lambda r: Fault(hangs_after=r.randrange(3000)),
    lambda r: Fault(),
)


def run_random_schedule(server: Server, folder: Path, seed: int) -> None:
    r = random.Random(seed)
    content = r.randbytes(r.randrange(1, 4000))
    path = folder / f"{seed}.bin"
    url = server.put(f"/{seed}.bin", content)
    known_hash = hashlib.sha256(content).hexdigest() if r.random() < 0.5 else None
    known_bytes = len(content) if known_hash is not None and r.random() < 0.5 else None
    for _ in range(r.randrange(1, 5)):  # starts of the program
        faults = [r.choice(FAULTS)(r) for _ in range(r.randrange(6))]
        if known_hash is None:  # nobody can find wrong bytes of the right length
            faults = [fault for fault in faults if not fault.wrong_bytes]
        server.faults[f"/{seed}.bin"] = faults
        fetched = None
        with suppress(RemoteError):
            fetched = Client(timeout_s=0.05).fetch(
                url, path, sha256=known_hash, num_bytes=known_bytes
            )
        if fetched is None:
            assert not path.exists()
            continue
        assert path.read_bytes() == content
        assert fetched.num_bytes == len(content)
        record = read_record(path)
        assert record is not None
        assert record.sha256 == hashlib.sha256(content).hexdigest()
    server.faults[f"/{seed}.bin"] = []
    Client().fetch(url, path, sha256=known_hash, num_bytes=known_bytes)
    assert path.read_bytes() == content


def test_any_schedule_of_faults_ends_with_the_right_file_or_an_error(
    server: Server, tmp_path: Path
) -> None:
    for seed in range(15):
        run_random_schedule(server, tmp_path, seed)


@pytest.mark.long
def test_any_long_schedule_of_faults_ends_with_the_right_file_or_an_error(
    server: Server, tmp_path: Path
) -> None:
    for seed in range(1000, 3000):
        run_random_schedule(server, tmp_path, seed)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@Host.org/a.zip", "https://host.org/a.zip"),
        ("https://h/a?X-Amz-Signature=ab&v=2#x", "https://h/a?X-Amz-Signature=...&v=2"),
        ("https://h/a?id=0123456789abcdef01234567", "https://h/a?id=..."),
        ("https://h/a.zip?download=true", "https://h/a.zip?download=true"),
        ("gs://bucket/a.zip", "gs://bucket/a.zip"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_an_address_keeps_its_key_when_its_signature_changes() -> None:
    first = "https://b.s3.amazonaws.com/a.zip?X-Amz-Signature=1&X-Amz-Expires=3&part=1"
    assert address_key(first) == address_key(first.replace("=1&X", "=2&X"))
    assert address_key(first) != address_key(first.replace("part=1", "part=2"))
    assert address_key(first) != address_key(first.replace("a.zip", "b.zip"))


@pytest.mark.parametrize("url", ["http://[::1/a.zip", "https:///a.zip", "http://h:port/a.zip"])
def test_an_address_without_a_host_is_a_mistake_of_the_user(url: str) -> None:
    with pytest.raises(ConfigError, match="address is not valid"):
        check_address(url)


def test_an_address_with_spaces_and_other_letters_is_asked_for(
    server: Server, tmp_path: Path
) -> None:
    server.put("/zwei%20W%C3%B6rter.bin", CONTENT)
    url = server.url + "/zwei Wörter.bin"
    assert Client().fetch(url, tmp_path / "a.bin").sha256 == HASH


def test_names_and_headers_are_read() -> None:
    assert file_name_of("https://h/x/rows%20of%20mine.jsonl.gz?y=/z") == "rows_of_mine.jsonl.gz"
    assert file_name_of("https://h/..%2f..%2fetc/.passwd") == "passwd"
    assert file_name_of("https://h") == "download"
    assert scheme_of("gs://b/c") == "gs"
    assert [scheme_of(path) for path in ("C:\\rows.jsonl", "/a/b", "a", "hub")] == [None] * 4
    assert content_range("bytes 5-9/10") == (5, 10)
    assert content_range("bytes */10") is None
    assert retry_after_s("x", 0.0) is None
