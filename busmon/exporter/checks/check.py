"""What every check is: one question to one dependency, and what is said of the errors that it meets.

A check keeps nothing between two questions. It opens a connection of its own each time, since that is what a service
that starts now would have to do: names are looked up, certificates and passwords tried, a server at its limit refuses.
"""

import os
import socket
import ssl
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """How a condition stands; the cause says in words why it isn't met, and is empty if it is."""

    met: bool
    cause: str = ""


class Check(Protocol):
    """One dependency's check.

    Attributes:
        conditions: the names of what else than an answer it sees to.
    """

    conditions: tuple[str, ...]

    async def look(self) -> dict[str, Answer]:
        """How each condition stands, now that the dependency has answered as it should.

        Whatever it leaves open is closed without waiting, so that a cancelled look ends at once.

        Raises:
            DependencyError: it hasn't.
        """
        ...


def in_words(error: BaseException) -> str:
    """What went wrong, on one line: the system's own word where there is one."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {root.verify_message}"
    if isinstance(root, socket.gaierror):
        return f"its name is not found: {root.strerror}"
    if isinstance(root, OSError) and not isinstance(root, ssl.SSLError) and root.errno:
        return os.strerror(root.errno)
    return next(iter(str(root).splitlines()), "") or type(root).__name__


def _root(error: BaseException) -> BaseException:
    """The system's error, where a library's was made of one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and (found.errno is not None or isinstance(found, ssl.SSLError)):
            return found
        found = found.__cause__ or found.__context__
    return error
