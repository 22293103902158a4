"""Expiry of certificates: the exporter's own, its clients' CA, and those by which it reaches RabbitMQ.

Read by `cryptography`, since Python's `ssl` tells it of a peer's alone. Pure, but for reading those files.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

INLINE = "inline"
"""Stands for the file of certificates whose text is in the configuration itself."""


class Expiry(NamedTuple):
    """The time at which the first of a file's certificates expires, in seconds since the epoch.

    Attributes:
        use: `server`, `client_ca`, `amqp_ca` or `amqp_client`.
    """

    use: str
    file: str
    at: float


def expiry(use: str, file: str, pem: bytes) -> Expiry | None:
    """Read the earliest expiry in a PEM file; None where it holds no readable certificate."""
    try:
        ends = [certificate.not_valid_after_utc.timestamp() for certificate in x509.load_pem_x509_certificates(pem)]
    except ValueError:
        return None
    return Expiry(use, file, min(ends)) if ends else None


def expiries(files: Iterable[tuple[str, Path]]) -> Iterator[Expiry]:
    """Read the expiries of all readable files, each with its use."""
    for use, path in files:
        try:
            found = expiry(use, str(path), path.read_bytes())
        except OSError:
            continue
        if found:
            yield found
