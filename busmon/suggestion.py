"""The name that a misspelt name resembles, for errors about names from a known set. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

_LIKENESS = 0.75
"""Share of letters in common from which on a name is suggested: `lables` has 0.83 of `labels`."""

_MAX_CHARACTERS = 80
"""Of a misspelt name that are compared: difflib's time grows with the square of the length."""


def closest(name: str, known: Iterable[str], likeness: float = _LIKENESS) -> str | None:
    """Find the known name that a misspelt name resembles most; None where no name is like it."""
    return next(iter(get_close_matches(name[:_MAX_CHARACTERS], list(known), n=1, cutoff=likeness)), None)


def suggestion(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Suggest the known name that was meant.

    Args:
        name: the misspelt name.
        known: all names that are accepted.
        otherwise: the text where no name is like it.
    """
    near = closest(name, known)
    return otherwise if near is None else f"did you mean {near!r}?"
