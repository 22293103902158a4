"""The interface of checks: one question to one dependency, and the wording of its errors.

A check keeps nothing between two questions. It opens a connection of its own each time, since that is what a service
that starts now would have to do: names are looked up, certificates and passwords tried, a server at its limit refuses.
"""

import os
import socket
import ssl
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """The state of a condition; the cause says in words why it isn't met, and is empty if it is."""

    met: bool
    cause: str = ""


class Check(Protocol):
    """One dependency's check.

    Attributes:
        conditions: the names of what else than an answer it sees to.
    """

    conditions: tuple[str, ...]

    async def look(self) -> dict[str, Answer]:
        """Ask the dependency, and return the state of each condition once it has answered.

        Whatever it leaves open is closed without waiting, so that a cancelled look ends at once.

        Raises:
            DependencyError: it hasn't.
        """
        ...


def in_words(error: BaseException) -> str:
    """Describe an error on one line, in the system's own words where it has some."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {root.verify_message}"
    if isinstance(root, socket.gaierror):
        return f"its name is not found: {root.strerror}"
    if isinstance(root, OSError) and not isinstance(root, ssl.SSLError) and root.errno:
        return os.strerror(root.errno)
    return next(iter(str(root).splitlines()), "") or type(root).__name__


def _root(error: BaseException) -> BaseException:
    """Find the system's error that a library's error was made of."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and (found.errno is not None or isinstance(found, ssl.SSLError)):
            return found
        found = found.__cause__ or found.__context__
    return error
