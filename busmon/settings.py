"""The settings: one typed schema that drives flags, environment, file, `--help` and the docs table.

A value comes from the first of flag, environment (`BUSMON_<NAME>`, or for a secret `BUSMON_<NAME>_FILE`), `busmon.toml`
(or the file that `BUSMON_CONFIG` names), default; an empty variable counts as unset. This module alone reads the
environment. Loading is pure but for those reads; a `Settings` never changes.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from busmon.errors import SettingsError

CONFIG_VARIABLE = "BUSMON_CONFIG"
CONFIG_FILE = Path("busmon.toml")
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes, and how it shows them.

    Attributes:
        parse: the value of a text; raises ValueError where it isn't accepted.
        accepts: what a value may be, for an error's line.
        metavar: what stands for a value in `--help`.
        toml: the types that the value may have in a TOML file.
        masked: how a secret's text is shown; None where there is nothing to hide.
    """

    parse: Callable[[str], Any]
    accepts: str
    metavar: str
    toml: tuple[type, ...] = (str,)
    masked: Callable[[str], str] | None = None

    def show(self, text: str) -> str:
        """The text, with what is secret in it masked."""
        return self.masked(text) if self.masked else text


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the schema: how a setting is read, named and shown.

    Attributes:
        name: the key in `busmon.toml`.
        default_text: the default, in words where it depends on the user.
    """

    name: str
    kind: Kind
    help: str
    default_text: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"BUSMON_{self.name.upper()}"

    @property
    def file_variable(self) -> str:
        """The environment variable that names a file with the value; for secrets only."""
        return f"{self.variable}_FILE"

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        """Whether a password may stand in it: masked wherever it is shown, and readable from a file of its own."""
        return self.kind.masked is not None

    def show(self, value: Any) -> str:
        """The value as text, a password masked."""
        return self.kind.show(_text(value))


def mask(url: str) -> str:
    """The URL without its password, however malformed: whatever may be one is replaced by `***`."""
    url = re.sub(r"(ssl_options=)[^&]*", r"\1***", url)
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    userinfo, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        return f"{scheme}{separator}{user}{':***' if colon else ''}@{host}"
    # Without an '@' a port follows the colon; what is no port may be a password whose host was forgotten.
    return scheme + separator + re.sub(r"^([^:\[]*):(?![0-9]{0,5}(?:[/?#]|$)).*", r"\1:***", rest, flags=re.DOTALL)


class Address(NamedTuple):
    """Where the exporter listens; port 0 lets the system choose one."""

    host: str
    port: int


def address(text: str) -> Address:
    """The parts of `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\s:/@\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > MAX_PORT:
        raise ValueError(text)
    return Address(str(IPv6Address(match[1])) if match[1] else match[2], int(match[3]))


def _whole(low: int, high: int, unit: str = "") -> Kind:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a whole number {unit}from {low} to {high}", "N", (int,))


def _seconds(low: float, high: float) -> Kind:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a number of seconds from {low:g} to {high:g}", "SECONDS", (int, float))


def _url(*schemes: str) -> Kind:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0 or re.search(r"[\s\x00-\x1f]", text):
            raise ValueError(text)
        return text

    shapes = " or ".join(f"{scheme}://…" for scheme in schemes)
    accepts = f"a URL {shapes} with a host, special characters in user and password written as %XX"
    return Kind(parse, accepts, "URL", masked=mask)


def _parse_address(text: str) -> str:
    address(text)
    return text


def _choice(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind(parse, f"{', '.join(words[:-1])} or {words[-1]}", "|".join(words))


def _parse_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", text):
        raise ValueError(text)
    return text


def _parse_password(text: str) -> str:
    if not text.isprintable() or not text:
        raise ValueError(text)
    return text


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text).expanduser()


def _parse_paths(text: str) -> tuple[Path, ...]:
    return tuple(_parse_path(part) for part in text.split(os.pathsep) if part)


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/busmon")
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "busmon"
    except RuntimeError as error:
        raise SettingsError("registry_dir: this user has no home directory for a default; name a path") from error


ADDRESS = Kind(_parse_address, f"HOST:PORT or [IPV6]:PORT, the port from 0 to {MAX_PORT}", "HOST:PORT")
NAME = Kind(_parse_name, "1 to 100 letters, digits, '_', '-' or '.'", "NAME")
PASSWORD = Kind(_parse_password, "a text without control characters", "PASSWORD", masked=lambda text: text and "***")
PATH = Kind(_parse_path, "a path", "PATH")
PATHS = Kind(_parse_paths, f"paths, separated by '{os.pathsep}' or in a TOML array", "PATHS", (str, list))


def _row(kind: Kind, help_: str, default_text: str = "") -> dict[str, Any]:
    return {"kind": kind, "help": help_, "default_text": default_text}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return os.pathsep.join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value; `origins` says where each value that isn't a default came from."""

    amqp_url: str = field(
        default="amqp://guest:guest@localhost:5672/%2F",
        metadata=_row(
            _url("amqp", "amqps"),
            "the broker, with user, password and virtual host",
        ),
    )
    management_url: str | None = field(
        default=None,
        metadata=_row(
            _url("http", "https"),
            "the broker's management API, with an operator's user and password",
            "none",
        ),
    )
    publisher_password: str | None = field(
        default=None, metadata=_row(PASSWORD, "gives the agents' user, where `topology declare` creates it", "none")
    )
    consumer_password: str | None = field(
        default=None, metadata=_row(PASSWORD, "gives the fleet's user, where `topology declare` creates it", "none")
    )
    operator_password: str | None = field(
        default=None, metadata=_row(PASSWORD, "gives the operator's user, where `topology declare` creates it", "none")
    )
    exchange: str = field(
        default="telemetry",
        metadata=_row(NAME, "the topic exchange that agents publish to; the other objects' names start with it"),
    )
    topology: Path | None = field(
        default=None,
        metadata=_row(PATH, "a topology file in place of the built-in one", "the built-in one"),
    )
    registry_dir: Path = field(
        default_factory=_state_directory,
        metadata=_row(
            PATH,
            "the directory of the shards' files, on a local disk",
            "/var/lib/busmon for root, else $XDG_STATE_HOME/busmon or ~/.local/state/busmon",
        ),
    )
    listen: str = field(default="127.0.0.1:9797", metadata=_row(ADDRESS, "the exporter's address"))
    workers: int = field(default=2, metadata=_row(_whole(1, 256), "worker processes; at most one per shard"))
    catalogue: tuple[Path, ...] = field(
        default=(),
        metadata=_row(PATHS, "catalogue files that add to or override the built-in one", "none"),
    )
    prefetch: int = field(
        default=1000, metadata=_row(_whole(1, 65_535), "deliveries that a shard may hold unacknowledged")
    )
    batch_size: int = field(default=500, metadata=_row(_whole(1, 65_535), "deliveries that close a batch"))
    flush_interval_seconds: float = field(
        default=0.25, metadata=_row(_seconds(0.001, 60), "the age at which an open batch is committed")
    )
    max_body_bytes: int = field(
        default=1_048_576, metadata=_row(_whole(1, 2**31 - 1, "of bytes "), "the largest body, after decompression")
    )
    presence_ttl_seconds: float = field(
        default=300.0, metadata=_row(_seconds(0.1, 604_800), "how long a silent source's gauges count")
    )
    max_adopted_families: int = field(
        default=100, metadata=_row(_whole(0, 100_000), "metrics taken up that no catalogue names")
    )
    fsync: str = field(
        default="off",
        metadata=_row(_choice("off", "commit"), "commit survives a power cut, at a disk flush per batch"),
    )
    beat_timeout_seconds: float = field(
        default=30.0, metadata=_row(_seconds(3, 3600), "a worker silent for longer is killed and replaced")
    )
    publish_interval_seconds: float = field(
        default=1.0, metadata=_row(_seconds(0.01, 3600), "how often an agent publishes what it has gathered")
    )
    publish_buffer_bytes: int = field(
        default=16_777_216,
        metadata=_row(
            _whole(65_536, 2**40, "of bytes "),
            "what an agent keeps in memory while the broker is away; the oldest is dropped and counted",
        ),
    )
    log_level: str = field(
        default="info", metadata=_row(_choice("debug", "info", "warning", "error"), "the least severe log line")
    )
    log_format: str = field(
        default="auto", metadata=_row(_choice("auto", "console", "json"), "auto is console on a terminal, else json")
    )
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Where the setting's value came from."""
        return self.origins.get(name, "default")

    def environment(self) -> dict[str, str]:
        """The environment that gives a child process these very settings, whatever the file says by then."""
        values = {setting.variable: _text(getattr(self, setting.name)) for setting in SCHEMA}
        return {**os.environ, **values, CONFIG_VARIABLE: os.devnull}


def _schema() -> Iterator[Setting]:
    for row in fields(Settings):
        if row.name != "origins":
            kind, help_, words = row.metadata["kind"], row.metadata["help"], row.metadata["default_text"]
            yield Setting(row.name, kind, help_, words or _text(row.default))


SCHEMA: tuple[Setting, ...] = tuple(_schema())


class _Given(NamedTuple):
    """A value as it was given, and where; not text only where a TOML file has another type."""

    value: Any
    origin: str


def load(flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (by setting name), environment, file and defaults, in that order.

    Raises:
        SettingsError: a value isn't accepted, the file can't be read, or it has a key that doesn't exist.
    """
    environ = os.environ if environ is None else environ
    given = _from_file(environ) | _from_environment(environ) | _from_flags(flags or {})
    values = {setting.name: _parsed(setting, given[setting.name]) for setting in SCHEMA if setting.name in given}
    return Settings(**values, origins={name: origin for name, (_, origin) in given.items()})


def _from_flags(flags: Mapping[str, str | None]) -> dict[str, _Given]:
    return {
        setting.name: _Given(text, f"flag {setting.flag}")
        for setting in SCHEMA
        if (text := flags.get(setting.name)) is not None
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for setting in SCHEMA:
        if text := environ.get(setting.variable):
            given[setting.name] = _Given(text, f"environment {setting.variable}")
        elif setting.secret and (path := environ.get(setting.file_variable)):
            given[setting.name] = _from_secret_file(setting, Path(path))
    return given


def _from_secret_file(setting: Setting, path: Path) -> _Given:
    origin = f"environment {setting.file_variable}"
    try:
        return _Given(path.read_text().strip(), origin)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{setting.name} from {origin}: can't read {path}: {_reason(error)}") from error


def _from_file(environ: Mapping[str, str]) -> dict[str, _Given]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else CONFIG_FILE
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if not named:
            return {}
        raise SettingsError(f"{path} from environment {CONFIG_VARIABLE}: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {_reason(error)}; expected a TOML file of settings") from error
    known = {setting.name for setting in SCHEMA}
    if unknown := sorted(table.keys() - known):
        raise SettingsError(f"{path}: unknown setting {unknown[0]!r}; `busmon settings` lists them all")
    return {name: _Given(value, str(path)) for name, value in table.items()}


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _parsed(setting: Setting, given: _Given) -> Any:
    try:
        return setting.kind.parse(_typed(setting.kind, given.value))
    except (ValueError, OverflowError, RuntimeError) as error:
        message = f"{setting.name} from {given.origin}: {_shown(setting, given.value)} is not {setting.kind.accepts}"
        # urllib's own error quotes a piece of the URL, which may be of the password.
        raise SettingsError(message) from (None if setting.secret else error)


def _typed(kind: Kind, value: Any) -> str:
    """The value as text; refused where its TOML type can't be one of this kind, as `workers = true` can't."""
    if isinstance(value, str):
        return value
    if type(value) not in kind.toml or (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
        raise ValueError(value)
    return _text(value)


def _shown(setting: Setting, value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    if isinstance(value, str):
        return repr(setting.kind.show(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
