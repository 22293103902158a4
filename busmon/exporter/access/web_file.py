"""The web configuration file: a user's YAML in, a `WebFile` out, or one line that names the file and the key.

Its keys are those of Prometheus' exporter-toolkit
(https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md), and below `busmon` our own. What
can't be honoured is refused: a key that is passed over would leave open what its writer believes is closed. Pure, but
for reading that one file.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from busmon.errors import WebFileError
from busmon.suggestion import suggestion

OPENABLE = ("/health", "/ready", "/-/healthy", "/-/ready")
"""The paths that may stay open to everyone: they tell no figure."""

CLIENT_AUTH = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
"""Go's other policies take a certificate that nobody vouches for."""

VERSIONS = ("TLS12", "TLS13")

CIPHERS: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""OpenSSL's names of the suites that Go has for TLS 1.2 and that keep forward secrecy; those of TLS 1.3 are fixed."""

CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("", "nosniff"),
    "X-Frame-Options": ("", "deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, with the values that they take; none are named where any is taken."""

_MAX_BYTES = 1_048_576
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_BCRYPT_COSTS = range(4, 32)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|µs|ns))+")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

Value = TypeVar("Value")

_EXPECTED = "expected a web configuration file in web_config_file (BUSMON_WEB_CONFIG_FILE)"


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a key: the text itself where it stood in the file, else the path to read it from."""

    key: str
    path: Path | None
    text: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class TlsKeys:
    """`tls_server_config`, in OpenSSL's words."""

    certificate: Pem
    private_key: Pem
    client_auth: str
    client_ca: Pem | None
    client_names: frozenset[str]
    versions: tuple[str, str]
    ciphers: tuple[str, ...]
    server_prefers: bool
    curve: str | None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`rate_limit`: one request each `interval_seconds`, and up to `burst` at once."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebFile:
    """The whole file.

    Attributes:
        users: bcrypt hashes by user.
        tokens: SHA-256 digests by name.
        open_paths: what everyone may ask.
    """

    path: Path
    tls: TlsKeys | None
    headers: Mapping[str, str]
    users: Mapping[str, bytes] = field(repr=False)
    tokens: Mapping[str, bytes] = field(repr=False)
    rate_limit: RateLimit | None
    open_paths: frozenset[str]

    @property
    def authenticates(self) -> bool:
        """True if the file asks for a password or a token."""
        return bool(self.users or self.tokens)


def read(path: Path) -> WebFile:
    """Read a web configuration file.

    Raises:
        WebFileError: it can't be read, or a key or a value isn't accepted.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WebFileError(f"{path}: can't be read: {error.strerror}; {_EXPECTED}") from error
    if len(text) > _MAX_BYTES:
        raise WebFileError(f"{path}: larger than {_MAX_BYTES} bytes; {_EXPECTED}")
    return parse(text, path)


def parse(text: bytes, path: Path) -> WebFile:
    """Parse the text of a web configuration file.

    Raises:
        WebFileError: a key or a value isn't accepted.
    """
    try:
        document = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader, which also refuses a key given twice
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise WebFileError(f"{path}: not YAML: {_where(error)}") from None
    top = _Table(path, "", document if document is not None else {})
    http, own = top.table("http_server_config"), top.table("busmon")
    if http.take("http2", default=False, accepts=_is_bool, expected="false"):
        raise http.refuse("http2", "false, for busmon answers HTTP/1.1 only")
    found = WebFile(
        path=path,
        tls=_tls(top.table("tls_server_config")) if "tls_server_config" in top else None,
        headers=http.mapping("headers", _is_header, f"one of {', '.join(HEADERS)}, with a value that it takes"),
        users={
            name: hashed.encode()
            for name, hashed in top.mapping("basic_auth_users", _is_user, "a bcrypt hash by user name").items()
        },
        tokens={
            name: bytes.fromhex(digest)
            for name, digest in own.mapping("bearer_tokens", _is_token, "a SHA-256 digest in hex by name").items()
        },
        rate_limit=_rate_limit(top.table("rate_limit")),
        open_paths=frozenset(own.words("open_paths", OPENABLE)),
    )
    for table in (top, http, own):
        table.finish()
    if not top.given:
        raise WebFileError(f"{path}: closes nothing; expected tls_server_config, basic_auth_users or another key")
    if found.open_paths and not found.authenticates:
        raise own.refuse("open_paths", "basic_auth_users or bearer_tokens, too: without them everything is open")
    return found


def _tls(table: "_Table") -> TlsKeys:
    certificate, private_key, client_ca = (table.pem(key) for key in ("cert", "key", "client_ca"))
    client_auth = table.word("client_auth_type", CLIENT_AUTH, CLIENT_AUTH[0])
    names = frozenset(table.words("client_allowed_sans"))
    versions = (table.word("min_version", VERSIONS, "TLS12"), table.word("max_version", VERSIONS, "TLS13"))
    ciphers = tuple(CIPHERS[name] for name in table.words("cipher_suites", CIPHERS))
    prefer = table.take("prefer_server_cipher_suites", default=True, accepts=_is_bool, expected="true or false")
    curves = table.words("curve_preferences", CURVES)
    # Before what is missing: a key that was misspelt is why.
    table.finish()
    if certificate is None or private_key is None:
        raise table.refuse("cert_file" if certificate is None else "key_file", "a path")
    if (client_ca is None) != (client_auth == CLIENT_AUTH[0]):
        expected = f"{' or '.join(CLIENT_AUTH[1:])} with a client_ca_file, or neither"
        raise table.refuse("client_auth_type", expected)
    if names and client_auth != "RequireAndVerifyClientCert":
        raise table.refuse("client_allowed_sans", "client_auth_type RequireAndVerifyClientCert, too")
    if versions[0] > versions[1]:
        raise table.refuse("max_version", "no older than min_version")
    if len(curves) > 1:
        raise table.refuse("curve_preferences", "at most one curve, for OpenSSL is told one through Python")
    curve = CURVES[curves[0]] if curves else None
    return TlsKeys(certificate, private_key, client_auth, client_ca, names, versions, ciphers, prefer, curve)


def _rate_limit(table: "_Table") -> RateLimit | None:
    expected = "a duration such as 100ms or 1s"
    interval = _seconds(table.take("interval", default="0s", accepts=_is_duration, expected=expected))
    burst = table.take("burst", default=0, accepts=lambda value: type(value) is int, expected="a whole number")
    table.finish()
    if interval and burst < 1:
        raise table.refuse("burst", "at least 1, or nothing would be answered")
    return RateLimit(interval, burst) if interval else None


class _Strict(yaml.SafeLoader):
    """YAML's safe part, without keys given twice, of which the last would win."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - as yaml has it
    ) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        texts = [str(key) for key in keys]
        if len(set(texts)) < len(texts):
            raise yaml.constructor.ConstructorError(None, None, "a key is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Table:
    """One table of the file; what nobody took from it at the end is a key that doesn't exist."""

    def __init__(self, path: Path, name: str, content: Any) -> None:
        self._path = path
        self._name = name
        if not isinstance(content, dict):
            raise WebFileError(f"{path}: {name or 'the file'}: expected a table of keys")
        self.given = dict(content)
        self._left = dict(content)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self.given

    def refuse(self, key: str, expected: str) -> WebFileError:
        """Make the error of a key whose value isn't accepted, without the value, which may be secret."""
        return WebFileError(f"{self._path}: {self._full(key)}: expected {expected}")

    def take(self, key: str, *, default: Value, accepts: Callable[[Any], bool], expected: str) -> Value:
        """Take the key's value, or the default where the key isn't given."""
        self._known.append(key)
        if key not in self._left:
            return default
        if not accepts(value := self._left.pop(key)):
            raise self.refuse(key, expected)
        return value  # type: ignore[no-any-return]  # which `accepts` has made sure of

    def table(self, key: str) -> "_Table":
        """Take the table below this key; it is empty where the key isn't given."""
        self._known.append(key)
        content = self._left.pop(key, None)
        return _Table(self._path, self._full(key), {} if content is None else content)

    def mapping(self, key: str, accepts: Callable[[str, str], bool], expected: str) -> dict[str, str]:
        """Take a table of texts by name."""
        table = self.table(key)
        for name, value in table.given.items():
            if not (isinstance(name, str) and isinstance(value, str) and accepts(name, value)):
                raise table.refuse(str(name), expected)
        return table.given

    def words(self, key: str, known: Iterable[str] = ()) -> list[str]:
        """Take a list of texts, each of which must be known if known ones are named."""
        expected = f"a list of {', '.join(known) or 'texts'}"
        found: list[str] = self.take(key, default=[], accepts=lambda value: isinstance(value, list), expected=expected)
        if not all(isinstance(word, str) and (word in known or not known) for word in found):
            raise self.refuse(key, expected)
        return found

    def word(self, key: str, known: tuple[str, ...], default: str) -> str:
        """Take one text, which must be known."""
        return self.take(key, default=default, accepts=lambda value: value in known, expected=" or ".join(known))

    def pem(self, key: str) -> Pem | None:
        """Take the text under `key`, or the path under `key_file`; a relative path begins at this file's directory."""
        text = self.take(key, default="", accepts=_is_pem, expected="PEM text")
        name = self.take(f"{key}_file", default="", accepts=_is_path, expected="a path")
        if text and name:
            raise self.refuse(f"{key}_file", f"it or {key}, not both")
        if text:
            return Pem(self._full(key), None, text)
        return Pem(self._full(f"{key}_file"), self._path.parent / name) if name else None

    def finish(self) -> None:
        """Refuse each key that was not taken."""
        if self._left:
            key = str(next(iter(self._left)))
            hint = suggestion(key, self._known, "see docs/security.md")
            raise WebFileError(f"{self._path}: {self._full(key)}: unknown key; {hint}")

    def _full(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def _where(error: Exception) -> str:
    """Describe the YAML error and its line number, without the line's text, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return _EXPECTED


def _seconds(duration: str) -> float:
    """Convert a duration in Go's form, such as `1m30s`, to seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", duration)
    return sum(float(amount) * _UNIT_SECONDS[unit] for amount, unit in parts)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_duration(value: Any) -> bool:
    return isinstance(value, str) and (value == "0" or _DURATION.fullmatch(value) is not None)


def _is_header(name: str, value: str) -> bool:
    allowed = HEADERS.get(name)
    return allowed is not None and value.isprintable() and value.isascii() and (not allowed or value in allowed)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_pem(value: Any) -> bool:
    return isinstance(value, str) and "-----BEGIN " in value


def _is_token(name: str, value: str) -> bool:
    return bool(name) and _SHA256.fullmatch(value) is not None


def _is_user(name: str, value: str) -> bool:
    hashed = _BCRYPT.fullmatch(value)
    return bool(name) and ":" not in name and hashed is not None and int(hashed[1]) in _BCRYPT_COSTS
