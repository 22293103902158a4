"""Authentication of a request: a user with a password, or the bearer of a token.

A password costs its bcrypt hash once; what was right or wrong is then remembered by a keyed digest, as exporter-toolkit
does it, so that fifty scrapers cost what one does. An unknown user costs a hash, too. Hashes are computed in a thread,
one at a time, and only so many may wait for theirs: guessing takes no more than a core, and no scrape's time. Lives on
the event loop.
"""

import asyncio
import hmac
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256

import bcrypt

MAX_WAITING = 32
"""Passwords that may wait for their hash; beyond that, whoever offers one not seen before is told to come again."""

_REMEMBERED = 1024
_BCRYPT_BYTES = 72


class BusyError(Exception):
    """Too many passwords wait for their hash."""


class Authentication:
    """The users and tokens of one configuration.

    Args:
        users: bcrypt hashes by user.
        tokens: SHA-256 digests of tokens by name.
    """

    def __init__(self, users: Mapping[str, bytes], tokens: Mapping[str, bytes]) -> None:
        self._users = users
        self._tokens = tokens
        # An unknown user's password is compared with the costliest hash of all, and never accepted.
        self._decoy = max(users.values(), key=lambda hashed: hashed.split(b"$")[2], default=b"")
        self._secret = secrets.token_bytes(32)
        # Apart, so that guesses can't push out what scrapers are known by.
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._hashing = asyncio.Lock()
        self._learning: set[asyncio.Task[bool]] = set()

    @property
    def challenge(self) -> str:
        """The `WWW-Authenticate` header of a refusal (RFC 7617, RFC 6750)."""
        schemes = ['Basic realm="busmon", charset="UTF-8"'] if self._users else []
        return ", ".join([*schemes, *(['Bearer realm="busmon"'] if self._tokens else [])])

    async def knows(self, authorization: bytes) -> bool:
        """Return True if an `Authorization` header is a known user's or token's.

        Raises:
            BusyError: that would take a hash, and too many wait for one.
        """
        scheme, _, credentials = authorization.strip().partition(b" ")
        if scheme.lower() == b"bearer":
            return self._knows_token(credentials.strip())
        if scheme.lower() == b"basic" and self._users:
            try:
                user, colon, password = b64decode(credentials.strip(), validate=True).partition(b":")
            except (Base64Error, ValueError):
                return False
            return bool(colon) and await self._knows_password(user, password)
        return False

    def _knows_token(self, token: bytes) -> bool:
        digest = sha256(token).digest()
        # All of them, so that the time doesn't tell which was nearly right.
        return any([hmac.compare_digest(digest, known) for known in self._tokens.values()])  # noqa: C419 - see above

    async def _knows_password(self, user: bytes, password: bytes) -> bool:
        offered = hmac.digest(self._secret, len(user).to_bytes(8, "big") + user + password, "sha256")
        if offered in self._right or offered in self._wrong:
            return self._recall(offered)
        if len(self._learning) >= MAX_WAITING:
            raise BusyError
        # A client that goes away cancels its own wait, not the hash: the next would run at the same time.
        task = asyncio.create_task(self._learn(offered, user, password))
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)
        return await asyncio.shield(task)

    async def _learn(self, offered: bytes, user: bytes, password: bytes) -> bool:
        async with self._hashing:
            # Another request may have brought the same, and waited before this one.
            if offered not in self._right and offered not in self._wrong:
                self._remember(offered, right=await asyncio.to_thread(self._matches, user, password))
            return self._recall(offered)

    def _matches(self, user: bytes, password: bytes) -> bool:
        hashed = self._users.get(user.decode(errors="replace"))
        # bcrypt looks at 72 bytes and no more; the library refuses longer ones, Go's and htpasswd's cut them.
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed or self._decoy) and hashed is not None

    def _remember(self, offered: bytes, *, right: bool) -> None:
        known = self._right if right else self._wrong
        known[offered] = None
        if len(known) > _REMEMBERED:
            known.popitem(last=False)

    def _recall(self, offered: bytes) -> bool:
        known = self._right if offered in self._right else self._wrong
        known.move_to_end(offered)
        return known is self._right
