"""TLS as the web configuration file asks for it: an `ssl.SSLContext`, and which clients it lets in.

A context is made whole from what the files hold now, and never changed: a connection keeps the one that it began with.
Keys go to OpenSSL through an anonymous file in memory, since Python's `ssl` takes them from files alone. Pure, but for
reading the files that the configuration names.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from busmon.errors import WebFileError
from busmon.exporter.access.web_file import Pem, TlsKeys, WebFile

_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def context(web: WebFile, keys: TlsKeys) -> ssl.SSLContext:
    """Make a server's context.

    Raises:
        WebFileError: a certificate or key can't be read, or doesn't fit; the line names the file and the key.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = (_VERSIONS[version] for version in keys.versions)
    made.set_alpn_protocols(["http/1.1"])
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    made.options = _with(made.options, ssl.OP_CIPHER_SERVER_PREFERENCE, on=keys.server_prefers)
    if keys.ciphers:
        made.set_ciphers(":".join(keys.ciphers))
    if keys.curve:
        made.set_ecdh_curve(keys.curve)
    _load_chain(made, web, keys)
    if keys.client_ca:
        _trust(made, web, keys.client_ca)
    made.verify_mode = _VERIFY[keys.client_auth]
    return made


def files(keys: TlsKeys) -> list[Path]:
    """List the files that a context is made from."""
    parts = (keys.certificate, keys.private_key, keys.client_ca)
    return [part.path for part in parts if part and part.path]


def read(web: WebFile, part: Pem) -> bytes:
    """Read the text of certificates or of a key.

    Raises:
        WebFileError: its file can't be read.
    """
    if part.path is None:
        return part.text.encode()
    try:
        return part.path.read_bytes()
    except OSError as error:
        raise WebFileError(f"{web.path}: {part.key}: can't read {part.path}: {error.strerror}") from error


def names(certificate: Mapping[str, Any]) -> frozenset[str]:
    """List a certificate's names: DNS names, addresses, e-mail addresses and URIs, as `client_allowed_sans` lists them.

    Args:
        certificate: as `SSLObject.getpeercert` gives it.
    """
    return frozenset(_plain(kind, name) for kind, name in certificate.get("subjectAltName", ()))


def _plain(kind: str, name: str) -> str:
    with suppress(ValueError):
        return str(ip_address(name.strip())) if kind == "IP Address" else name
    return name


def _with(options: ssl.Options, option: ssl.Options, *, on: bool) -> ssl.Options:
    return options | option if on else options & ~option


def _load_chain(made: ssl.SSLContext, web: WebFile, keys: TlsKeys) -> None:
    certificate, private_key = read(web, keys.certificate), read(web, keys.private_key)
    source = keys.certificate.path or "the certificate"
    try:
        with _in_memory(certificate + b"\n" + private_key) as path:
            # A key that is encrypted would otherwise ask for its password on the terminal.
            made.load_cert_chain(path, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        expected = "a PEM certificate and its unencrypted key"
        raise WebFileError(
            f"{web.path}: {keys.certificate.key}: {source} with {keys.private_key.key}: expected {expected}: "
            f"{_reason(error)}"
        ) from error


def _trust(made: ssl.SSLContext, web: WebFile, client_ca: Pem) -> None:
    try:
        made.load_verify_locations(cadata=read(web, client_ca).decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        where = f"{web.path}: {client_ca.key}: {client_ca.path or 'its text'}"
        raise WebFileError(f"{where}: expected PEM certificates") from error


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Provide a path that reads as this content, of a file that is in no directory."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or "not understood"
    return str(reason).lower().replace("_", " ")
