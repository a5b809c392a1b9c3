"""Over TLS too: a certificate that is not trusted sends nothing, and a slow answer ends in time."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aquachat.cloud.wire import NoAnswerWireError, NotSentWireError, WireRequest, exchange

FAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


class TlsServer:
    """Answers each connection with `answer`, one byte at a time where `is_slow`."""

    def __init__(self, certificate: Path) -> None:
        self.answer = FAST
        self.is_slow = False
        self.received: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/x"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as peer:
                    self.received.append(_whole_request(peer))
                    step = 1 if self.is_slow else max(1, len(self.answer))
                    for start in range(0, len(self.answer), step):
                        peer.sendall(self.answer[start : start + step])
                        time.sleep(0.05 if self.is_slow else 0)

    def close(self) -> None:
        self._listener.close()


def _whole_request(peer: ssl.SSLSocket) -> bytes:
    """Closing with part of a request unread would reset the connection and lose the answer."""
    request = b""
    while not request.endswith(b"\r\n\r\n{}") and (block := peer.recv(65536)):
        request += block
    return request


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TlsServer]:
    made = TlsServer(_certificate(tmp_path))
    yield made
    made.close()


def _ask(server: TlsServer, timeout_s: float = 10.0) -> bytes:
    return exchange(WireRequest("POST", server.url, {"A": "b"}, b"{}", timeout_s)).body


def test_a_certificate_that_is_not_trusted_sends_nothing(server: TlsServer) -> None:
    with pytest.raises(NotSentWireError, match="certificate is not valid"):
        _ask(server)
    assert server.received == []


def test_a_trusted_certificate_is_enough(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    assert _ask(server) == b"{}"


def test_an_answer_that_trickles_in_ends_at_the_time_out(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time; a time-out per read would wait for all of them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    server.answer = FAST[:-2] + b"x" * 5000
    server.is_slow = True
    with pytest.raises(NoAnswerWireError):
        _ask(server, timeout_s=0.5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nX-A: y",
        b"HTTP/1.1 200 OK\r\nX-A: y\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=range(11),
)
def test_an_answer_that_is_no_whole_http_is_no_answer(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    server.answer = answer
    with pytest.raises(NoAnswerWireError):
        _ask(server)
    assert len(server.received) == 1
