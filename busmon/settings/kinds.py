"""What values a setting takes: how each kind is parsed, what it accepts in words, and how it is shown if it is secret.

Pure. A parser raises ValueError for what it doesn't accept; whoever calls it knows which setting that is, and whence.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes, and how it shows them.

    Attributes:
        parse: the value of a text; raises ValueError where it isn't accepted.
        accepts: what a value may be, for an error's line.
        metavar: what stands for a value in `--help`.
        toml: the types that the value may have in a TOML file, beside text.
        masked: how a secret's text is shown; None where there is nothing to hide.
        empty: the text of an empty list, where an empty text would mean the default.
    """

    parse: Callable[[str], Any]
    accepts: str
    metavar: str
    toml: tuple[type, ...] = ()
    masked: Callable[[str], str] | None = None
    empty: str = ""

    def show(self, text: str) -> str:
        """The text, with what is secret in it masked."""
        return self.masked(text) if self.masked else text


def whole(low: int, high: int, unit: str = "") -> Kind:
    """Whole numbers from `low` to `high`; `unit` is for the words, as in "of bytes "."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a whole number {unit}from {low} to {high}", "N", (int,))


def seconds(low: float, high: float) -> Kind:
    """Numbers of seconds from `low` to `high`, and so neither NaN nor infinite."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return Kind(parse, f"a number of seconds from {low:g} to {high:g}", "SECONDS", (int, float))


def choice(*words: str) -> Kind:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind(parse, f"{', '.join(words[:-1])} or {words[-1]}", "|".join(words))


def url(*schemes: str) -> Kind:
    """URLs of these schemes, with a host; a password inside is masked."""

    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0 or re.search(r"[\s\x00-\x1f]", text):
            raise ValueError(text)
        return text

    shapes = " or ".join(f"{scheme}://…" for scheme in schemes)
    accepts = f"a URL {shapes} with a host, special characters in user and password written as %XX"
    return Kind(parse, accepts, "URL", masked=mask)


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
    """Where to listen; port 0 lets the system choose one."""

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


def _parse_address(text: str) -> str:
    address(text)
    return text


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


def _parse_labels(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in re.split("[,:]", text) if part.strip())
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ValueError(text)
    return () if names == ("none",) else names


ADDRESS = Kind(_parse_address, f"HOST:PORT or [IPV6]:PORT, the port from 0 to {MAX_PORT}", "HOST:PORT")
_LABELS = "label names, separated by ',' or in a TOML array, or none"
LABELS = Kind(_parse_labels, _LABELS, "NAMES", (list,), empty="none")
NAME = Kind(_parse_name, "1 to 100 letters, digits, '_', '-' or '.'", "NAME")
PASSWORD = Kind(_parse_password, "a text without control characters", "PASSWORD", masked=lambda text: text and "***")
PATH = Kind(_parse_path, "a path", "PATH")
PATHS = Kind(_parse_paths, f"paths, separated by '{os.pathsep}' or in a TOML array", "PATHS", (list,))


def as_text(value: Any) -> str:
    """A value as the text that it is parsed from; empty for None."""
    if value is None:
        return ""
    return os.pathsep.join(map(str, value)) if isinstance(value, tuple | list) else str(value)
