"""The terms of a new connection or request: the web configuration file, as it is on the disk now.

Its files are looked at once a second, while somebody asks; whatever changed is read as a whole. What can't be read, or
would take away TLS, a client's certificate or a password that was asked for, is logged and counted, and what held
goes on to hold: a file that is met half written opens nothing. Lives on the event loop; the families are made in the
scrape's thread, from what is replaced whole.
"""

import ssl
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import structlog
from prometheus_client.core import Metric

from busmon.errors import WebFileError
from busmon.exporter.access import tls, web_file
from busmon.exporter.access.authentication import Authentication
from busmon.exporter.access.certificates import INLINE, Expiry, expiries, expiry
from busmon.exporter.access.rate import Bucket
from busmon.exporter.access.web_file import WebFile
from busmon.exporter.families import counter, gauge

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
}
"""What each answer says unless the file says otherwise."""

REFUSALS = ("unauthenticated", "busy", "rate_limited", "body")
CUTS = ("slow", "crowded", "name")

_Marks = dict[Path, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that a connection and its requests have to meet.

    Attributes:
        context: of TLS; None without.
        client_names: one of which a client's certificate has to be for, if there are some.
        authentication: None where everyone may ask.
        open_paths: which everyone may ask all the same.
    """

    context: ssl.SSLContext | None
    client_names: frozenset[str]
    authentication: Authentication | None
    open_paths: frozenset[str]
    headers: tuple[tuple[bytes, bytes], ...]
    bucket: Bucket | None

    @property
    def closed(self) -> bool:
        """True where a client without a certificate, password or token reads no figure."""
        verified = self.context is not None and self.context.verify_mode == ssl.CERT_REQUIRED
        return verified or self.authentication is not None


OPEN = Terms(
    None, frozenset(), None, frozenset(), tuple((k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items()), None
)
"""The terms without a web configuration file."""


class Access:
    """The terms, kept in step with their files.

    Args:
        path: the web configuration file; None leaves everything open.
        others: further certificates whose expiry is told, each with its use.

    Attributes:
        refused: requests that were not answered, by reason of `REFUSALS`.
        cut: connections that were cut, by reason of `CUTS`.

    Raises:
        WebFileError: the file, or one that it names, is wrong.
    """

    def __init__(self, path: Path | None, others: Iterable[tuple[str, Path]] = ()) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.cut: Counter[str] = Counter(dict.fromkeys(CUTS, 0))
        self._path = path
        self._others = tuple(others)
        self._reloads = Counter(success=0, failure=0)
        self._terms, self._marks, self._looked_at = OPEN, _Marks(), time.monotonic()
        self._expiries: tuple[Expiry, ...] = ()
        self._web: WebFile | None = None
        if path:
            self._marks = _marks([path])
            self._take(web_file.read(path))

    @property
    def terms(self) -> Terms:
        """The current terms."""
        now = time.monotonic()
        if self._path and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            if self._marks != _marks(self._marks):
                self._reload(self._path)
        return self._terms

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.terms.context else "http"

    def note_cut(self, reason: str) -> None:
        """Count a connection that is cut, by reason of `CUTS`."""
        self.cut[reason] += 1

    def families(self) -> Iterator[Metric]:
        """Yield the metric families of certificates, reloads and refusals."""
        yield gauge(
            "busmon_certificate_expiry_timestamp_seconds",
            "When the first of the file's certificates ends to be good.",
            ("use", "file"),
            {(found.use, found.file): found.at for found in chain(self._expiries, expiries(self._others))},
        )
        if self._path:
            yield counter(
                "busmon_web_config_reloads",
                "Times that the web configuration file or a certificate had changed, and was taken or refused.",
                ("result",),
                {(result,): count for result, count in self._reloads.items()},
            )
        yield counter(
            "busmon_http_requests_refused",
            "HTTP requests that were refused, by reason.",
            ("reason",),
            {(reason,): count for reason, count in self.refused.items()},
        )
        yield counter(
            "busmon_http_connections_cut",
            "HTTP connections that were cut off, by reason.",
            ("reason",),
            {(reason,): count for reason, count in self.cut.items()},
        )

    def _reload(self, path: Path) -> None:
        self._marks = _marks(self._marks)
        try:
            web = web_file.read(path)
            _refuse_opening(self._web, web)
            self._take(web)
        except WebFileError as error:
            self._reloads["failure"] += 1
            log.warning("access.reload_refused", cause=str(error), holds="what held before")
        else:
            self._reloads["success"] += 1
            log.info("access.reloaded", path=str(path))

    def _take(self, web: WebFile) -> None:
        """Put this configuration into force.

        Raises:
            WebFileError: a file that it names is wrong.
        """
        # Marked before they are read, so that what is written meanwhile is seen as a change.
        marks = _marks([web.path, *(tls.files(web.tls) if web.tls else [])])
        context = tls.context(web, web.tls) if web.tls else None
        self._expiries = tuple(_read_expiries(web))
        self._terms = Terms(
            context,
            web.tls.client_names if web.tls else frozenset(),
            self._authentication(web),
            web.open_paths,
            tuple((k.lower().encode(), v.encode()) for k, v in {**SECURITY_HEADERS, **web.headers}.items() if v),
            self._bucket(web),
        )
        self._marks = {**marks, web.path: self._marks[web.path]}
        self._web = web

    def _authentication(self, web: WebFile) -> Authentication | None:
        """Return the current one where users and tokens are the same, for it remembers its scrapers; else make one."""
        if self._web and (self._web.users, self._web.tokens) == (web.users, web.tokens):
            return self._terms.authentication
        return Authentication(web.users, web.tokens) if web.authenticates else None

    def _bucket(self, web: WebFile) -> Bucket | None:
        if self._web and self._web.rate_limit == web.rate_limit:
            return self._terms.bucket
        return Bucket(web.rate_limit, time.monotonic()) if web.rate_limit else None


def _refuse_opening(before: WebFile | None, web: WebFile) -> None:
    """Refuse a file that would open a closed exporter, as a truncated file does.

    Raises:
        WebFileError: it would.
    """
    if before is None:
        return
    verified = [each.tls.client_auth == "RequireAndVerifyClientCert" if each.tls else False for each in (before, web)]
    lost = {
        "tls_server_config": before.tls and not web.tls,
        "tls_server_config.client_auth_type": verified[0] and not verified[1],
        "basic_auth_users": before.authenticates and not web.authenticates,
    }
    for key in (key for key, is_lost in lost.items() if is_lost):
        raise WebFileError(f"{web.path}: {key}: expected to stay; to remove it, restart the exporter")


def _read_expiries(web: WebFile) -> Iterator[Expiry]:
    if not web.tls:
        return
    for use, part in (("server", web.tls.certificate), ("client_ca", web.tls.client_ca)):
        if part and (found := expiry(use, str(part.path or INLINE), tls.read(web, part))):
            yield found


def _marks(paths: Iterable[Path]) -> _Marks:
    return {path: _mark(path) for path in paths}


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return the marks of a file's state; None if it is missing. Links are followed: mounted secrets are links."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
