"""The exporter closed to strangers: a real process, real certificates, a real Prometheus, and who mean no good."""

import json
import secrets
import socket
import ssl
import subprocess
import urllib.request
from base64 import b64encode
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest
import yaml

from busmon.demo.rabbitmq import free_ports
from busmon.errors import ExporterUnreachableError
from busmon.exporter.server.server import MAX_CONNECTIONS
from busmon.top.client import Client
from tests.certificates import Authority
from tests.patience import wait_until

from .exporting import BUSMON, SECONDS, exporter, get, with_series

DOCS = Path(__file__).parents[2] / "docs" / "security.md"
LARGE = 100_000
"""Series, whose answer is larger than the kernel's buffers."""

PASSWORD = secrets.token_urlsafe()
BASIC = f"Basic {b64encode(f'prometheus:{PASSWORD}'.encode()).decode()}"


@pytest.fixture
def registry_dir(tmp_path: Path) -> Path:
    return with_series(tmp_path / "registry")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def web(authority: Authority) -> Path:
    """TLS, a user, a token, and `/health` open."""
    authority.for_this_host()
    path = authority.ca.parent / "web.yml"
    keys = {
        "tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"},
        "basic_auth_users": {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()},
        "busmon": {"bearer_tokens": {"grafana": sha256(b"a token").hexdigest()}, "open_paths": ["/health"]},
    }
    path.write_text(yaml.safe_dump(keys))
    return path


@pytest.fixture
def mutual(web: Path) -> Path:
    """The same, for clients with a certificate for `scraper.example` alone."""
    keys = yaml.safe_load(web.read_text())
    keys["tls_server_config"] |= {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.pem",
        "client_allowed_sans": ["scraper.example"],
    }
    web.write_text(yaml.safe_dump(keys))
    return web


def trusting(authority: Authority, chain: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca)
    if chain:
        context.load_cert_chain(*chain)
    return context


def served_certificate(port: int, authority: Authority) -> bytes | None:
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True)


def test_a_stranger_learns_nothing_and_those_who_are_known_everything(
    registry_dir: Path, web: Path, authority: Authority
) -> None:
    tls = trusting(authority)
    with exporter(registry_dir, "--web.config.file", web) as (_, port):
        for path in ("/", "/metrics", "/overview", "/overview/stream", "/ready", "/nowhere"):
            assert get(port, path, tls=tls) == (401, b"Unauthorized\n")
        assert get(port, "/metrics", tls=tls, Authorization="Basic cHJvbWV0aGV1czp3cm9uZw==")[0] == 401
        assert get(port, "/metrics", tls=tls, Authorization="Bearer wrong")[0] == 401
        assert get(port, "/health", tls=tls)[0] == 200
        for known in (BASIC, "Bearer a token"):
            status, text = get(port, "/metrics", tls=tls, Authorization=known)
            assert status == 200
            assert b'tasks_processed_total{agent="analyzer"} 42' in text
        assert b'busmon_http_requests_refused_total{reason="unauthenticated"} 8.0' in text


def test_top_watches_a_closed_exporter_with_a_password(registry_dir: Path, web: Path, authority: Authority) -> None:
    with exporter(registry_dir, "--web.config.file", web) as (_, port):
        for userinfo, status in ((f"prometheus:{PASSWORD}@", 0), ("", 1)):
            url = f"https://{userinfo}localhost:{port}?cacertfile={authority.ca}"
            done = subprocess.run(
                [*BUSMON, "top", "--once", "--exporter-url", url],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == status, done.stderr
            assert PASSWORD not in done.stdout + done.stderr
        assert "doesn't know you" in done.stderr
        with pytest.raises(ExporterUnreachableError, match=r"isn't trusted \(.*\): name its CA with \?cacertfile="):
            Client("", f"https://localhost:{port}").overview()
        with pytest.raises(ExporterUnreachableError, match="if it speaks https, name it with --exporter-url https://"):
            Client(f"localhost:{port}").overview()
    with (
        exporter(registry_dir) as (_, port),
        pytest.raises(ExporterUnreachableError, match="it speaks http, not https"),
    ):
        Client("", f"https://localhost:{port}").overview()


def test_a_client_without_a_certificate_of_the_right_name_is_cut_off(
    registry_dir: Path, mutual: Path, authority: Authority
) -> None:
    known = trusting(authority, authority.issue("known", "scraper.example"))
    other = trusting(authority, authority.issue("other", "other.example"))
    foreign = trusting(authority, Authority(registry_dir.parent / "foreign").issue("foreign", "scraper.example"))
    with exporter(registry_dir, "--web.config.file", mutual) as (_, port):
        for stranger in (trusting(authority), other, foreign):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(port, "/health", tls=stranger)
        assert get(port, "/metrics", tls=known)[0] == 401
        assert get(port, "/metrics", tls=known, Authorization=BASIC)[0] == 200


def test_a_renewed_certificate_is_served_without_a_restart(registry_dir: Path, web: Path, authority: Authority) -> None:
    with exporter(registry_dir, "--web.config.file", web) as (_, port):
        before = served_certificate(port, authority)
        (web.parent / "server.pem").write_text("half a certif")
        page = wait_until(lambda: _page_with(port, authority, 'result="failure"} 1.0'), "the broken one to be refused")
        assert b"busmon_certificate_expiry_timestamp_seconds{" in page
        assert served_certificate(port, authority) == before
        authority.for_this_host()
        wait_until(lambda: served_certificate(port, authority) != before, "the new certificate")


def _page_with(port: int, authority: Authority, text: str) -> bytes | None:
    page = get(port, "/metrics", tls=trusting(authority), Authorization=BASIC)[1]
    return page if f"busmon_web_config_reloads_total{{{text}".encode() in page else None


def test_handshakes_that_never_end_keep_no_scrape_waiting(registry_dir: Path, web: Path, authority: Authority) -> None:
    with exporter(registry_dir, "--web.config.file", web) as (_, port), ExitStack() as silent:
        for number in range(MAX_CONNECTIONS + 50):
            connection = silent.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS))
            # The first bytes of a handshake, of HTTP, of nothing.
            connection.sendall((b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n", b"\0")[number % 3])
        assert get(port, "/metrics", tls=trusting(authority), Authorization=BASIC)[0] == 200


def test_clients_that_never_read_keep_no_scrape_waiting_however_few_descriptors_there_are(tmp_path: Path) -> None:
    registry_dir = with_series(tmp_path / "registry", LARGE)
    with exporter(registry_dir, descriptors=160) as (_, port), ExitStack() as stalled:
        for _ in range(100):
            connection = stalled.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(SECONDS)
            connection.connect(("127.0.0.1", port))
            with suppress(ConnectionError):
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        page = get(port, "/metrics")[1]
    assert page.count(b"tasks_processed_total{") == LARGE
    assert b'busmon_http_connections_cut_total{reason="crowded"} 0.0' not in page


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n" + b"z" * 100_000,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"\0" * 1000,
    ],
)
def test_garbage_is_answered_briefly_and_without_a_stack_trace(registry_dir: Path, garbage: bytes) -> None:
    with exporter(registry_dir) as (_, port), socket.create_connection(("127.0.0.1", port), SECONDS) as stranger:
        answer = b""
        with suppress(ConnectionError):
            stranger.sendall(garbage)
            while part := stranger.recv(4096):
                answer += part
        assert len(answer) < 1000
        assert b"Traceback" not in answer
        assert get(port, "/metrics")[0] == 200


@pytest.mark.parametrize("text", ["", "basic_auth_user: {a: b}", "tls_server_config: {cert_file: a.pem, key_file: b}"])
def test_a_wrong_file_starts_no_exporter_and_is_one_line(registry_dir: Path, tmp_path: Path, text: str) -> None:
    web = tmp_path / "web.yml"
    web.write_text(text)
    done = _refused(registry_dir, "--web-config-file", web)
    assert done.returncode == 2
    assert done.stderr.startswith(f"busmon: {web}: ")
    assert done.stderr.count("\n") == 1


def test_a_directory_that_others_can_write_to_is_not_served(registry_dir: Path) -> None:
    registry_dir.chmod(0o1777)
    done = _refused(registry_dir)
    assert done.returncode == 2
    assert done.stderr == (
        f"busmon: registry_dir from flag --registry-dir: others can write to {registry_dir} (mode 1777): name "
        f"another directory, or run `chmod go-w {registry_dir}`\n"
    )


def _refused(registry_dir: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [*BUSMON, "exporter", "--registry-dir", registry_dir, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture
def prometheus_config(tmp_path: Path) -> tuple[Path, int]:
    """Where a Prometheus finds its configuration, and the port it is to have."""
    return tmp_path / "prometheus.yml", free_ports(1)[0]


def test_prometheus_scrapes_as_the_documentation_says(
    registry_dir: Path, web: Path, authority: Authority, prometheus_config: tuple[Path, int], tmp_path: Path
) -> None:
    path, own_port = prometheus_config
    (tmp_path / "password").write_text(PASSWORD)
    documented = DOCS.read_text().split("```yaml\nscrape_configs:", 1)[1].split("```", 1)[0]
    with exporter(registry_dir, "--web.config.file", web) as (_, port):
        path.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:"
            + documented.replace("/etc/prometheus/busmon-ca.pem", str(authority.ca))
            .replace("/etc/prometheus/busmon-password", str(tmp_path / "password"))
            .replace("busmon.example:9797", f"localhost:{port}")
        )
        command = [
            "prometheus",
            f"--config.file={path}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{own_port}",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log, subprocess.Popen(command, stderr=log) as prometheus:
            try:
                value = wait_until(lambda: _asked(own_port, "tasks_processed_total"), "the first scrape")
            finally:
                prometheus.terminate()
    assert value == "42"


def _asked(port: int, query: str) -> str | None:
    with suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
        return str(result[0]["value"][1]) if result else None
    return None
