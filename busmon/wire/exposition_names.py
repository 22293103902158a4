"""The names of an exposition whose content type states how it escapes them: the parameter `escaping`.

By the schemes of Prometheus' own libraries. `allow-utf-8` quotes names and `underscores` drops characters, so that
neither has anything to undo. Pure.
"""

import re
from collections.abc import Callable, Mapping

_PARAMETER = re.compile(r'(?:^|;)\s*escaping\s*=\s*"?(dots|values)"?\s*(?:;|$)', re.IGNORECASE)
_DOT = re.compile(r"__|_dot_")
_CODE_POINT = re.compile(r"__|_([0-9a-fA-F]{1,6})_")
_PREFIX = "U__"
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)

Unescape = Callable[[str], str]


def unescaping(parameters: str) -> Unescape | None:
    """Find how names are read under a content type with these parameters; None for as they are."""
    stated = _PARAMETER.search(parameters)
    return _SCHEMES[stated[1].lower()] if stated else None


def _dots(name: str) -> str:
    return _DOT.sub(lambda found: "_" if found[0] == "__" else ".", name)


def _values(name: str) -> str:
    return _CODE_POINT.sub(_character, name[len(_PREFIX) :]) if name.startswith(_PREFIX) else name


def _character(found: re.Match[str]) -> str:
    if found[1] is None:
        return "_"
    code_point = int(found[1], 16)
    return found[0] if code_point > _LAST_CODE_POINT or code_point in _SURROGATES else chr(code_point)


_SCHEMES: Mapping[str, Unescape] = {"dots": _dots, "values": _values}
