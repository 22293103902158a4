import re
from hashlib import sha256
from pathlib import Path

import pytest

from busmon.errors import WebFileError
from busmon.exporter.access import web_file
from busmon.exporter.access.web_file import HEADERS, RateLimit, WebFile

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
DIGEST = sha256(b"a token").hexdigest()

WHOLE = f"""
tls_server_config:
  cert_file: server.pem
  key_file: /etc/busmon/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [scraper.example]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: ""
basic_auth_users:
  prometheus: {HASH}
rate_limit:
  interval: 1m0.5s
  burst: 20
busmon:
  bearer_tokens:
    grafana: {DIGEST}
  open_paths: [/health]
"""


def parsed(text: str) -> WebFile:
    return web_file.parse(text.encode(), Path("/etc/busmon/web.yml"))


def test_every_key_is_understood() -> None:
    found = parsed(WHOLE)
    assert found.tls
    assert found.tls.certificate.path == Path("/etc/busmon/server.pem")
    assert found.tls.private_key.path == Path("/etc/busmon/server.key")
    assert found.tls.client_ca
    assert found.tls.client_names == {"scraper.example"}
    assert found.tls.versions == ("TLS12", "TLS13")
    assert found.tls.ciphers == ("ECDHE-ECDSA-AES128-GCM-SHA256",)
    assert not found.tls.server_prefers
    assert found.tls.curve == "X25519"
    assert found.headers == {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": ""}
    assert found.users == {"prometheus": HASH.encode()}
    assert found.tokens == {"grafana": sha256(b"a token").digest()}
    assert found.rate_limit == RateLimit(60.5, 20)
    assert found.open_paths == {"/health"}


def test_a_configuration_shows_no_secret() -> None:
    shown = repr(parsed(f"{WHOLE}\n".replace("cert_file: server.pem", "cert: '-----BEGIN CERTIFICATE-----'")))
    assert not re.search(r"\$2y\$|BEGIN|" + DIGEST, shown)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "closes nothing; expected tls_server_config, basic_auth_users or another key"),
        ("[]", "the file: expected a table of keys"),
        ("a: [", "not YAML: line 1: expected the node content, but found '<stream end>'"),
        ("basic_auth_users: {}\nbasic_auth_users: {}", "not YAML: line 1: a key is given twice"),
        ("basic_auth_user: {a: b}", "basic_auth_user: unknown key; did you mean 'basic_auth_users'?"),
        ("basic_auth_users: {joe: hunter2}", "basic_auth_users.joe: expected a bcrypt hash by user name"),
        (f"basic_auth_users: {{joe: {HASH}x}}", "basic_auth_users.joe: expected a bcrypt hash by user name"),
        (
            "busmon: {bearer_tokens: {joe: hunter2}}",
            "busmon.bearer_tokens.joe: expected a SHA-256 digest in hex by name",
        ),
        (
            "busmon: {open_paths: [/metrics]}",
            "busmon.open_paths: expected a list of /health, /ready, /-/healthy, /-/ready",
        ),
        (
            "busmon: {open_paths: [/health]}",
            "busmon.open_paths: expected basic_auth_users or bearer_tokens, too: without them everything is open",
        ),
        ("busmon: {bearer_token: x}", "busmon.bearer_token: unknown key; did you mean 'bearer_tokens'?"),
        (
            "http_server_config: {http2: true}",
            "http_server_config.http2: expected false, for busmon answers HTTP/1.1 only",
        ),
        (
            "http_server_config: {headers: {Server: apache}}",
            f"http_server_config.headers.Server: expected one of {', '.join(HEADERS)}, with a value that it takes",
        ),
        ("rate_limit: {interval: 1}", "rate_limit.interval: expected a duration such as 100ms or 1s"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst: expected at least 1, or nothing would be answered"),
        ("tls_server_config: {key_file: a}", "tls_server_config.cert_file: expected a path"),
        ("tls_server_config: {cert_file: a}", "tls_server_config.key_file: expected a path"),
        ("tls_server_config: {cert_fil: a}", "tls_server_config.cert_fil: unknown key; did you mean 'cert_file'?"),
        ("tls_server_config: {cert_file: a, cert: b}", "tls_server_config.cert: expected PEM text"),
        ("tls_server_config: {cert_file: 7, key_file: b}", "tls_server_config.cert_file: expected a path"),
    ],
)
def test_what_is_not_understood_is_one_line_that_names_file_and_key(text: str, line: str) -> None:
    with pytest.raises(WebFileError) as error:
        parsed(text)
    assert str(error.value) == f"/etc/busmon/web.yml: {line}"


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("client_auth_type: RequireAnyClientCert", "client_auth_type"),
        ("client_auth_type: RequireAndVerifyClientCert", "client_auth_type"),
        ("client_ca_file: ca.pem", "client_auth_type"),
        ("client_allowed_sans: [a.example]", "client_allowed_sans"),
        ("min_version: TLS10", "min_version"),
        ("min_version: TLS13\n  max_version: TLS12", "max_version"),
        ("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "cipher_suites"),
        ("curve_preferences: [CurveP256, X25519]", "curve_preferences"),
        ("prefer_server_cipher_suites: 1", "prefer_server_cipher_suites"),
        ("client_auth: NoClientCert", "client_auth"),
    ],
)
def test_what_tls_cannot_honour_is_refused(more: str, key: str) -> None:
    with pytest.raises(WebFileError, match=rf"^/etc/busmon/web.yml: tls_server_config\.{key}: (expected|unknown)"):
        parsed(f"tls_server_config:\n  cert_file: a\n  key_file: b\n  {more}\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        WebFileError, match=r"web\.yml: can't be read: No such file or directory; expected a web configuration file"
    ):
        web_file.read(tmp_path / "web.yml")
    (tmp_path / "web.yml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(WebFileError, match="larger than 1048576 bytes"):
        web_file.read(tmp_path / "web.yml")
