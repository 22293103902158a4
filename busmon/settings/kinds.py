"""The kinds of settings: parsing, the accepted values in words, and masking of secrets.

Pure. A parser raises ValueError for what it doesn't accept; whoever calls it knows which setting that is, and whence.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

MAX_PORT = 65_535

_BETWEEN_URLS = re.compile(r"[,\s]+(?=(?:amqps?|https?)://)")


@dataclass(frozen=True, slots=True)
class Kind:
    """The values of a setting, and their form as text.

    Attributes:
        parse: the value of a text; raises ValueError where it isn't accepted.
        accepts: what a value may be, for an error's line.
        metavar: what stands for a value in `--help`.
        toml: the types that the value may have in a TOML file, in addition to text.
        masked: how a secret's text is shown; None where there is nothing to hide.
        empty: the text of an empty value, where an empty text would mean the default.
        separator: what stands between the parts of a list's text.
    """

    parse: Callable[[str], Any]
    accepts: str
    metavar: str
    toml: tuple[type, ...] = ()
    masked: Callable[[str], str] | None = None
    empty: str = ""
    separator: str = os.pathsep

    def text(self, value: Any) -> str:
        """Format a value as the text that it is parsed from; empty for None."""
        if value is None:
            return ""
        return self.separator.join(map(str, value)) if isinstance(value, tuple | list) else str(value)

    def show(self, text: str) -> str:
        """Return the text with its secrets masked."""
        return self.masked(text) if self.masked else text


def whole(low: int, high: int, unit: str = "") -> Kind:
    """Make the kind of whole numbers from `low` to `high`; `unit` is for the words, as in "of bytes "."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a whole number {unit}from {low} to {high}", "N", (int,))


def seconds(low: float, high: float) -> Kind:
    """Make the kind of numbers of seconds from `low` to `high`: neither NaN nor infinite."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a number of seconds from {low:.12g} to {high:.12g}", "SECONDS", (int, float))


def ratio() -> Kind:
    """Make the kind of shares of a whole, from 0 to 1."""

    def parse(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 1:
            raise ValueError(text)
        return value

    return Kind(parse, "a number from 0 to 1", "RATIO", (int, float))


def choice(*words: str) -> Kind:
    """Make the kind of one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    toml = (int,) if all(word.isdigit() for word in words) else ()
    return Kind(parse, f"{', '.join(words[:-1])} or {words[-1]}", "|".join(words), toml)


def url(*schemes: str) -> Kind:
    """Make the kind of URLs of these schemes, with a host; a password inside is masked."""
    accepts = f"a URL {_shapes(schemes)} with a host, special characters in user and password written as %XX"
    return Kind(partial(_parse_url, schemes), accepts, "URL", masked=mask)


def urls(*schemes: str) -> Kind:
    """Describe lists of URLs of these schemes: the addresses of one server, so all name the same user and path."""

    def parse(text: str) -> str:
        found = [_parse_url(schemes, part) for part in split_urls(text.strip(", \t\r\n"))]
        if len({_account(part) for part in found}) != 1:
            raise ValueError(text)
        return ",".join(found)

    accepts = (
        f"a URL {_shapes(schemes)} with a host, or several for one user and path, separated by ','. "
        "Special characters in user and password are written as %XX"
    )
    return Kind(parse, accepts, "URL[,URL…]", (list,), masked=mask, separator=",")


def split_urls(text: str) -> list[str]:
    """Return the URLs of a list; a comma within a URL separates only where another URL follows."""
    return _BETWEEN_URLS.split(text)


def _parse_url(schemes: Sequence[str], text: str) -> str:
    parts = urlsplit(text)
    host = parts.hostname
    if parts.scheme not in schemes or not host or "," in host or parts.port == 0 or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError(text)
    return text


def _account(url: str) -> tuple[str, str]:
    """Return the user and the path that a URL names, an AMQP URL's defaults in place of what is left out."""
    parts = urlsplit(url)
    is_amqp = parts.scheme in {"amqp", "amqps"}
    path = parts.path or ("/%2F" if is_amqp else "/")
    return unquote(parts.username or ("guest" if is_amqp else "")), unquote(path)


def _shapes(schemes: Sequence[str]) -> str:
    return " or ".join(f"{scheme}://…" for scheme in schemes)


def mask(text: str) -> str:
    """Return a URL, or a list of URLs, without passwords, however malformed: what may be one is replaced by `***`."""
    return ",".join(map(_mask_url, split_urls(text)))


def _mask_url(url: str) -> str:
    url = re.sub(r"((?:ssl_options|\w*password)=)[^&]*", r"\1***", url)
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    userinfo, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        return f"{scheme}{separator}{user}{':***' if colon else ''}@{host}"
    # Without an '@' a port follows the colon; anything but a port may be a password whose host was forgotten.
    return scheme + separator + re.sub(r"^([^:\[]*):(?![0-9]{0,5}(?:[/?#]|$)).*", r"\1:***", rest, flags=re.DOTALL)


class Dependency(NamedTuple):
    """A further dependency of the platform: a name of the user's own, and the URL to check."""

    name: str
    url: str

    def __str__(self) -> str:
        return f"{self.name}={self.url}"


class FormatRule(NamedTuple):
    """The format of bodies whose routing key or queue matches a glob."""

    pattern: str
    format: str

    def __str__(self) -> str:
        return f"{self.pattern}={self.format}"


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose one."""

    host: str
    port: int


def address(text: str) -> Address:
    """Split `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\s:/@\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > MAX_PORT:
        raise ValueError(text)
    return Address(str(IPv6Address(match[1])) if match[1] else match[2], int(match[3]))


def _parse_address(text: str) -> str:
    address(text)
    return text


def _parse_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", text):
        raise ValueError(text)
    return text


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(_parse_name(part) for part in re.split(r"[,\s]+", text) if part)


_DEPENDENCY_URL = url("http", "https", "tcp", "tls")
_TAKEN = frozenset({"rabbitmq", "postgres", "redis"})


def _parse_dependencies(text: str) -> tuple[Dependency, ...]:
    parts = [part.partition("=") for part in text.split()]
    found = tuple(Dependency(_parse_name(name), _DEPENDENCY_URL.parse(url)) for name, _, url in parts)
    names = {dependency.name for dependency in found}
    portless = [url for _, url in found if url.startswith("t") and urlsplit(url).port is None]
    if len(names) < len(found) or names & _TAKEN or portless:
        raise ValueError(text)
    return found


def _mask_dependencies(text: str) -> str:
    return re.sub(r"(?<==)\S+", lambda url: mask(url[0]), text)


FORMAT_NAMES = ("json", "otlp", "cloudevents", "celery", "statsd", "dogstatsd", "etsy_statsd", "influx", "prometheus")


def _parse_formats(text: str) -> tuple[FormatRule, ...]:
    if text == "none":
        return ()
    parts = [part.rpartition("=") for part in re.split(r"[,\s]+", text) if part]
    rules = tuple(FormatRule(pattern, format_) for pattern, _, format_ in parts)
    if not all(rule.pattern and rule.format in FORMAT_NAMES for rule in rules):
        raise ValueError(text)
    return rules


def _parse_line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError(text)
    return text


def _parse_query(text: str) -> str:
    return "" if text == "none" else _parse_line(" ".join(text.split()))


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


def _parse_labels(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in re.split("[,:]", text) if part.strip())
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ValueError(text)
    return () if names == ("none",) else names


ADDRESS = Kind(_parse_address, f"HOST:PORT or [IPV6]:PORT, the port from 0 to {MAX_PORT}", "HOST:PORT")
_LABELS = "label names, separated by ',' or in a TOML array, or none"
LABELS = Kind(_parse_labels, _LABELS, "NAMES", (list,), empty="none", separator=",")
DEPENDENCIES = Kind(
    _parse_dependencies,
    "NAME=URL with http://…, https://…, tcp://HOST:PORT or tls://HOST:PORT, separated by spaces or in a TOML array, "
    "each name once and none of rabbitmq, postgres and redis",
    "NAME=URL…",
    (list,),
    masked=_mask_dependencies,
    separator=" ",
)
FORMATS = Kind(
    _parse_formats,
    f"PATTERN=FORMAT, a glob and {', '.join(FORMAT_NAMES[:-1])} or {FORMAT_NAMES[-1]}, separated by ',' or in a TOML "
    "array, or none",
    "PATTERN=FORMAT…",
    (list,),
    empty="none",
    separator=",",
)
LINE = Kind(_parse_line, "a line of text", "TEXT")
NAME = Kind(_parse_name, "1 to 100 letters, digits, '_', '-' or '.'", "NAME")
NAMES = Kind(_parse_names, "names, separated by ',' or in a TOML array", "NAMES", (list,), separator=",")
PASSWORD = Kind(_parse_password, "a text without control characters", "PASSWORD", masked=lambda text: text and "***")
PATH = Kind(_parse_path, "a path", "PATH")
PATHS = Kind(_parse_paths, f"paths, separated by '{os.pathsep}' or in a TOML array", "PATHS", (list,))
QUERY = Kind(_parse_query, "one SQL query, or none", "SQL", empty="none")
