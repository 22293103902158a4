"""Where settings come from: the first of flag, environment, file and default.

A variable is named `BUSMON_<NAME>`, or for a secret `BUSMON_<NAME>_FILE`, and counts as unset when empty. The file is
`busmon.toml` or the one that `BUSMON_CONFIG` names. Pure but for those reads.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from busmon.errors import SettingsError
from busmon.settings.kinds import Kind
from busmon.settings.schema import CONFIG_VARIABLE, SCHEMA, Setting, Settings
from busmon.suggestion import closest, suggestion
from busmon.text_files import read_text, read_toml

CONFIG_FILE = Path("busmon.toml")
_PREFIX = "BUSMON_"
_OF_A_SERVICE = re.compile("_(?:SERVICE|PORT)(?:_|$)")
_LIKENESS = 0.8


class _Given(NamedTuple):
    """A value as it was given, and where; not text only where a TOML file has another type."""

    value: Any
    origin: str


def load(
    flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None, *, caller: str = ""
) -> Settings:
    """Load settings from flags (by setting name), environment, file and defaults, in that order.

    Args:
        flags: values by setting name; one that is None counts as not given.
        environ: by default this process'.
        caller: whose arguments the flags are, where they are no command line's.

    Raises:
        SettingsError: a value isn't accepted, the file can't be read, or it has a key that doesn't exist.
    """
    environ = os.environ if environ is None else environ
    given = _from_file(environ) | _from_environment(environ) | _from_flags(flags or {}, caller)
    values = {setting.name: _parse(setting, given[setting.name]) for setting in SCHEMA if setting.name in given}
    return Settings(**values, origins={name: origin for name, (_, origin) in given.items()})


def misspelt(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find variables that resemble a setting's, each with the meant variable.

    Variables that Kubernetes sets for a Service, such as `BUSMON_SERVICE_HOST`, aren't reported.
    """
    environ = os.environ if environ is None else environ
    known = {row.variable for row in SCHEMA} | {row.file_variable for row in SCHEMA if row.secret} | {CONFIG_VARIABLE}
    meant = {name.removeprefix(_PREFIX): name for name in known}
    found = {}
    for name in sorted(name for name in environ.keys() - known if name.startswith(_PREFIX)):
        near = closest(name.removeprefix(_PREFIX).upper(), meant, _LIKENESS)
        if near and not _OF_A_SERVICE.search(name):
            found[name] = meant[near]
    return found


def _from_flags(flags: Mapping[str, str | None], caller: str) -> dict[str, _Given]:
    return {
        setting.name: _Given(text, f"{caller}'s argument" if caller else f"flag {setting.flag}")
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
    named = f"{setting.name} from {origin}: {path}"
    return _Given(read_text(path, SettingsError, "a file with the value", named=named).strip(), origin)


def _from_file(environ: Mapping[str, str]) -> dict[str, _Given]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else CONFIG_FILE
    where = f"{path} from environment {CONFIG_VARIABLE}" if named else str(path)
    try:
        table = read_toml(path, SettingsError, "a TOML file of settings", named=where, may_have_secrets=True)
    except SettingsError as error:
        if not named and isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise
    known = {setting.name for setting in SCHEMA}
    if unknown := sorted(table.keys() - known):
        hint = suggestion(unknown[0], known, "`busmon settings` lists all settings")
        raise SettingsError(f"{path}: unknown setting {unknown[0]!r}; {hint}")
    return {name: _Given(value, str(path)) for name, value in table.items()}


def _parse(setting: Setting, given: _Given) -> Any:
    try:
        return setting.kind.parse(_to_text(setting.kind, given.value))
    except (ValueError, OverflowError, RuntimeError) as error:
        message = f"{setting.name} from {given.origin}: {_show(setting, given.value)} is not {setting.kind.accepts}"
        # urllib's own error quotes a piece of the URL, which may be of the password.
        raise SettingsError(message) from (None if setting.secret else error)


def _to_text(kind: Kind, value: Any) -> str:
    """Return a TOML value as text; refuse a type that this kind can't have, such as in `workers = true`."""
    if isinstance(value, str):
        return value
    if type(value) not in kind.toml or (isinstance(value, list) and not all(isinstance(part, str) for part in value)):
        raise ValueError(value)
    return kind.text(value)


def _show(setting: Setting, value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    if isinstance(value, str):
        return repr(setting.kind.show(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
