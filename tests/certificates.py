"""Certificates for the tests: a CA of their own, and what it signs, as files of the test's directory."""

import datetime as dt
from pathlib import Path

import trustme


class Authority:
    """A CA, and a directory of what it signed.

    Attributes:
        ca: its certificate's path.
    """

    def __init__(self, directory: Path) -> None:
        self._signing = trustme.CA()
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self.ca = directory / "ca.pem"
        self._signing.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *identities: str, expires: dt.datetime | None = None) -> tuple[Path, Path]:
        """The paths of a certificate for these identities, and of its key; `name` names both files and the subject."""
        leaf = self._signing.issue_cert(*identities, common_name=name, not_after=expires)
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def for_this_host(self, name: str = "server", expires: dt.datetime | None = None) -> tuple[Path, Path]:
        """Those of a server on the loopback interface."""
        return self.issue(name, "localhost", "127.0.0.1", expires=expires)
