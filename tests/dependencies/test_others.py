"""The checks of whatever listens and whatever speaks HTTP."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from busmon.exporter.checks.http import HttpCheck
from busmon.exporter.checks.tcp import TcpCheck

from .looking import failure, is_cut_off, look
from .servers import certificates, free_port, silent_server, web_server


@pytest.mark.parametrize("status", [200, 204])
def test_a_page_that_succeeds_is_enough(status: int) -> None:
    with web_server(status) as (port, _):
        assert look(HttpCheck(f"http://127.0.0.1:{port}/health")) == {}


@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_another_status_is_said(status: int) -> None:
    with web_server(status) as (port, _):
        assert failure(HttpCheck(f"http://127.0.0.1:{port}")) == f"it answers with status {status}"


def test_path_query_host_and_password_are_sent_as_the_url_has_them() -> None:
    with web_server() as (port, heads):
        look(HttpCheck(f"http://probe:s%2Fcret@127.0.0.1:{port}/health?deep=yes"))
    (head,) = heads
    assert head.startswith("GET /health?deep=yes HTTP/1.1\n")
    assert f"Host: 127.0.0.1:{port}\n" in head
    assert "Authorization: Basic cHJvYmU6cy9jcmV0\n" in head


def test_an_informational_answer_is_not_the_answer() -> None:
    assert _answered(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") == ""


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000]
)
def test_what_is_no_http_is_said(answer: bytes) -> None:
    assert _answered(answer).startswith("it doesn't answer in HTTP: ")


def _answered(answer: bytes) -> str:
    """Why the check of a server that says just this failed; empty if it didn't."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check = HttpCheck(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):  # the check leaves before it has heard all
                connection.recv(4096)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return "" if b"200 OK\r\n\r\n" in answer and look(check) == {} else failure(check)
        finally:
            thread.join()


def test_https_takes_a_certificate_that_holds_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, certificate, key = certificates(tmp_path)
    with web_server(identity=(certificate, key)) as (port, _):
        assert "its certificate is refused" in failure(HttpCheck(f"https://localhost:{port}"))
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert look(HttpCheck(f"https://localhost:{port}")) == {}
        assert look(TcpCheck(f"tls://localhost:{port}")) == {}
        assert "IP address mismatch" in failure(TcpCheck(f"tls://127.0.0.1:{port}"))


def test_a_socket_that_listens_is_enough_for_tcp() -> None:
    with silent_server() as port:
        assert look(TcpCheck(f"tcp://127.0.0.1:{port}")) == {}
    assert failure(TcpCheck(f"tcp://127.0.0.1:{free_port()}")) == "Connection refused"


def test_a_name_that_is_not_found_is_said() -> None:
    assert failure(TcpCheck("tcp://nowhere.invalid:1")).startswith("its name is not found: ")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_never_answers_is_cut_off(scheme: str) -> None:
    with silent_server() as port:
        assert is_cut_off(HttpCheck(f"{scheme}://127.0.0.1:{port}"))
