"""The management client against what isn't RabbitMQ's management API."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from busmon.bus.topology.management import Management
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, SettingsError
from tests.certificates import Authority


class Answers(BaseHTTPRequestHandler):
    """Answers every request with the status and the body that its server holds."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]
        self.server.asked = self.path  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Any, status: int, body: bytes, path: str = "") -> Any:
    server.status, server.body = status, body
    return Management(f"http://u:secret@127.0.0.1:{server.server_port}{path}").get("users", "a/b")


def test_what_is_there_is_decoded(server: Any) -> None:
    assert ask(server, 200, b'{"name": "x"}') == {"name": "x"}
    assert server.asked == "/api/users/a%2Fb"


def test_what_is_not_there_is_none(server: Any) -> None:
    assert ask(server, 404, b'{"error": "Object Not Found"}') is None


def test_a_path_before_the_api_is_kept(server: Any) -> None:
    ask(server, 200, b"{}", "/rabbit/")
    assert server.asked == "/rabbit/api/users/a%2Fb"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"reason": "Login failed"}', "Login failed; check user and password in management_url"),
        (b'{"reason": "Not_Authorized"}', "Not_Authorized; check user and password in management_url"),
        (b'{"reason": "Not\\nmanager"}', "Not manager"),
        (b"<html>\n\xff</html>", "<html> \ufffd</html>"),
        (b"[]", "[]"),
    ],
)
def test_a_refusal_is_one_line_without_the_password(server: Any, body: bytes, reason: str) -> None:
    with pytest.raises(BrokerRefusedError) as caught:
        ask(server, 401, body)
    assert str(caught.value) == f"management API as user 'u': 401 {reason}"


def test_what_answers_something_else_is_no_management_api(server: Any) -> None:
    with pytest.raises(BrokerUnreachableError, match=r"^management API at 127\.0\.0\.1:\d+: "):
        ask(server, 200, b"<html>hello</html>")


def test_over_tls_the_server_is_verified_by_the_urls_ca(server: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.load_cert_chain(*authority.for_this_host())
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = authority.issue("operator", "operator.example")
    server.status, server.body = 200, b"[]"
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://u:secret@localhost:{server.server_port}?cacertfile={authority.ca}"
    assert Management(f"{url}&certfile={certificate}&keyfile={key}").get("users") == []
    for stranger in (url, url.partition("?")[0]):
        with pytest.raises(BrokerUnreachableError, match=r"^management API at localhost:\d+: "):
            Management(stranger).get("users")


@pytest.mark.parametrize("option", ["server_name_indication", "cafile"])
def test_an_option_that_does_not_exist_is_named(option: str) -> None:
    with pytest.raises(SettingsError, match=rf"^management_url: {option}: unknown option; expected cacertfile, "):
        Management(f"https://localhost?{option}=x")


def test_where_nobody_answers_there_is_one_line() -> None:
    with pytest.raises(
        BrokerUnreachableError,
        match=r"^management API at 127\.0\.0\.1:1: Connection refused; check host and port in management_url; ",
    ):
        Management("http://u:secret@127.0.0.1:1").get("users")
