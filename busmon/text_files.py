"""Text files that a user writes: settings, catalogues, topologies, thresholds. All of them fail in one form.

An error names the file, the reason and what was expected; one in TOML names the line. Reads files, and nothing else.
"""

import re
import tomllib
from pathlib import Path
from typing import Any


def read_text(path: Path | int, kind: type[Exception], expected: str, *, named: str = "") -> str:
    """Read a file as UTF-8.

    Args:
        path: the file, or the descriptor of an open one, which stays open.
        kind: the error to raise.
        expected: the file's purpose, such as "a catalogue file in TOML".
        named: the name of the file in an error, if the path alone doesn't say where it came from.

    Raises:
        Exception: of that kind: it can't be read, or isn't UTF-8.
    """
    try:
        with open(path, encoding="utf-8", closefd=isinstance(path, Path)) as file:
            return file.read()
    except UnicodeDecodeError as error:
        reason = f"it isn't UTF-8 (at byte {error.start + 1})"
        raise kind(f"{named or path}: can't be read: {reason}; expected {expected}") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise kind(f"{named or path}: can't be read: {reason}; expected {expected}") from error


def read_toml(
    path: Path, kind: type[Exception], expected: str, *, named: str = "", may_have_secrets: bool = False
) -> dict[str, Any]:
    """Read a TOML file; the arguments are those of `read_text`.

    Args:
        path: the file.
        kind: the error to raise.
        expected: the file's purpose.
        named: the name of the file in an error.
        may_have_secrets: an error doesn't show the line.

    Raises:
        Exception: of that kind: it can't be read, or isn't TOML.
    """
    text = read_text(path, kind, expected, named=named)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        shown = "" if may_have_secrets else _show_line(reason, text)
        raise kind(f"{named or path}: {reason}{shown}; expected valid TOML, each key once") from error


def _show_line(reason: str, text: str) -> str:
    """Return the line that the reason names, since tomllib names its position but not its key; or nothing."""
    if number := re.search(r"at line (\d+)", reason):
        line = text.split("\n")[int(number[1]) - 1].strip()
    else:
        line = text.rstrip().rpartition("\n")[2].strip() if "end of document" in reason else ""
    return f": {line!r}" if line else ""
