import asyncio
import ssl
from hashlib import sha256
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from busmon.errors import WebFileError
from busmon.exporter.access import access as access_module
from busmon.exporter.access import gate
from busmon.exporter.access.access import Access
from busmon.exporter.access.gate import PIECE_BYTES, Gate
from tests.certificates import Authority

TOKENS = f"busmon: {{bearer_tokens: {{a: {sha256(b'token').hexdigest()}}}, open_paths: [/health]}}\n"


@pytest.fixture(autouse=True)
def _looking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "LOOK_SECONDS", 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def web(tmp_path: Path, authority: Authority) -> Path:
    """A file with TLS and a token."""
    authority.for_this_host()
    path = tmp_path / "web.yml"
    path.write_text(f"tls_server_config: {{cert_file: server.pem, key_file: server.key}}\n{TOKENS}")
    return path


def samples(access: Access) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in access.families()
        for sample in family.samples
    }


def get(app: ASGIApp, path: str = "/metrics", **headers: str) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    named = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(app({"type": "http", "method": "GET", "path": path, "headers": named}, receive, send))  # type: ignore[arg-type]
    return sent


async def said(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"said at {Request(scope).url.path}")(scope, receive, send)


def test_a_renewed_certificate_holds_for_the_next_connection(web: Path, authority: Authority) -> None:
    access = Access(web)
    before = access.terms
    assert before.context is not None
    assert access.terms is before
    authority.for_this_host()
    assert access.terms.context is not before.context
    assert access.terms.authentication is before.authentication
    assert samples(access)["busmon_web_config_reloads_total", "success"] == 1


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_broken_certificate_keeps_the_old_one_and_is_logged_and_counted_once(web: Path, content: str) -> None:
    access = Access(web)
    before = access.terms
    (web.parent / "server.pem").write_text(content)
    with capture_logs() as lines:
        assert access.terms is before
        assert access.terms is before
    assert [line["event"] for line in lines] == ["access.reload_refused"]
    assert lines[0]["cause"].startswith(f"{web}: tls_server_config.cert_file: {web.parent / 'server.pem'}")
    assert samples(access)["busmon_web_config_reloads_total", "failure"] == 1


@pytest.mark.parametrize(
    "text", ["", TOKENS, "tls_server_config: {cert_file: server.pem, key_file: server.key}\n", "a: ["]
)
def test_a_file_that_is_met_half_written_opens_nothing(web: Path, text: str) -> None:
    access = Access(web)
    before = access.terms
    whole = web.read_text()
    web.write_text(text)
    assert access.terms is before
    web.write_text(whole)
    assert access.terms.authentication is before.authentication


def test_a_file_that_is_wrong_at_the_start_starts_nothing(web: Path) -> None:
    (web.parent / "server.key").write_text("no key")
    with pytest.raises(
        WebFileError, match=r"server.pem with tls_server_config.key_file: expected a PEM certificate and"
    ):
        Access(web)
    (web.parent / "server.key").unlink()
    with pytest.raises(WebFileError, match=r"tls_server_config.key_file: can't read .*server.key: No such file"):
        Access(web)


def test_a_client_ca_that_is_none_is_named(web: Path) -> None:
    keys = "cert_file: server.pem, key_file: server.key, client_auth_type: RequireAndVerifyClientCert"
    web.write_text(f"tls_server_config: {{{keys}, client_ca_file: server.key}}\n")
    with pytest.raises(WebFileError, match=r"client_ca_file: .*server.key: expected PEM certificates"):
        Access(web)


def test_certificates_may_stand_in_the_file_itself(web: Path) -> None:
    certificate, key = (
        (web.parent / name).read_text().replace("\n", "\n    ") for name in ("server.pem", "server.key")
    )
    web.write_text(f"tls_server_config:\n  cert: |\n    {certificate}\n  key: |\n    {key}\n")
    access = Access(web)
    assert access.terms.context is not None
    assert samples(access)["busmon_certificate_expiry_timestamp_seconds", "server", "inline"] > 0


def test_every_key_of_tls_reaches_openssl(web: Path) -> None:
    web.write_text("""
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: ca.pem
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]
  curve_preferences: [CurveP384]
""")
    context = Access(web).terms.context
    assert context
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert context.maximum_version == context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" in {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" not in {cipher["name"] for cipher in context.get_ciphers()}
    assert len(context.get_ca_certs()) == 1


def test_every_answer_carries_the_security_headers_but_for_those_that_are_unset(web: Path) -> None:
    web.write_text(f'http_server_config: {{headers: {{X-Frame-Options: ""}}}}\n{TOKENS}')
    for authorization in ("", "Bearer token"):
        start, *_ = get(Gate(said, Access(web)), Authorization=authorization)
        headers = dict(start["headers"])
        assert headers[b"content-security-policy"].startswith(b"default-src 'self'; ")
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert b"x-frame-options" not in headers


def test_what_is_open_is_open_and_nothing_else(web: Path) -> None:
    gate_ = Gate(said, Access(web))
    assert get(gate_, "/health")[0]["status"] == 200
    assert get(gate_, "/metrics", Authorization="Bearer token")[0]["status"] == 200
    for path in ("/metrics", "/", "/health/", "//health", "/health/../metrics", "/overview"):
        start, body = get(gate_, path)
        assert start["status"] == 401
        assert dict(start["headers"])[b"www-authenticate"] == b'Bearer realm="busmon"'
        assert body["body"] == b"Unauthorized\n"


def test_a_request_with_a_body_is_refused_and_its_connection_closed() -> None:
    access = Access(None)
    for name, value in (("content_length", "5"), ("transfer_encoding", "chunked")):
        start, _ = get(Gate(said, access), **{name: value})
        assert (start["status"], dict(start["headers"])[b"connection"]) == (413, b"close")
    assert samples(access)["busmon_http_requests_refused_total", "body"] == 2


def test_a_rate_limit_answers_a_burst_and_then_one_each_interval(web: Path) -> None:
    web.write_text("rate_limit: {interval: 1h, burst: 2}\n")
    gate_ = Gate(said, Access(web))
    assert [get(gate_)[0]["status"] for _ in range(4)] == [200, 200, 429, 429]


def test_a_large_answer_is_handed_over_piece_by_piece() -> None:
    page = bytes(range(256)) * 1000

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(page)(scope, receive, send)

    _, *pieces = get(Gate(large, Access(None)))
    assert b"".join(piece["body"] for piece in pieces) == page
    assert max(len(piece["body"]) for piece in pieces) == PIECE_BYTES
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


def test_others_have_their_turn_between_two_pieces() -> None:
    pieces: list[int] = []

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(bytes(4 * PIECE_BYTES))(scope, receive, send)

    async def send(message: Message) -> None:
        pieces.extend([len(message["body"])] if "body" in message else [])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def answer() -> list[int]:
        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
        answering = asyncio.ensure_future(Gate(large, Access(None))(scope, receive, send))
        sent = []
        while not answering.done():
            await asyncio.sleep(0)
            sent.append(len(pieces))
        await answering
        return sent

    assert {1, 2, 3, 4} <= {*asyncio.run(answer())}


def test_what_is_not_answered_in_time_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.01)

    async def hanging(*_: object) -> None:
        await asyncio.Event().wait()

    start, body = get(Gate(hanging, Access(None)))
    assert (start["status"], body["body"]) == (503, b"busmon can't answer this in time\n")


def test_an_answer_that_is_not_read_in_time_ends_its_connection_and_a_stream_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.01)

    async def slowly(kind: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"the end", "more_body": False})

    async def text(_: Scope, __: Receive, send: Send) -> None:
        await slowly(b"text/plain", send)

    async def stream(_: Scope, __: Receive, send: Send) -> None:
        await slowly(b"text/event-stream; charset=utf-8", send)

    with pytest.raises(TimeoutError):
        get(Gate(text, Access(None)))
    assert get(Gate(stream, Access(None)))[-1]["body"] == b"the end"


def test_the_first_to_expire_of_each_file_is_told(web: Path, authority: Authority) -> None:
    access = Access(web, [("amqp_ca", authority.ca), ("amqp_client", Path("/nowhere"))])
    told = samples(access)
    assert told["busmon_certificate_expiry_timestamp_seconds", "server", str(web.parent / "server.pem")] > 0
    assert told["busmon_certificate_expiry_timestamp_seconds", "amqp_ca", str(authority.ca)] > 0
    assert ("busmon_certificate_expiry_timestamp_seconds", "amqp_client", "/nowhere") not in told
