"""The ids that most envelopes of known sources have: the next sequence, or an id that isn't a sequence.

`compiled_usual_ids.pyx` does the same. The ledger judges all other envelopes. Pure.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from hashlib import blake2b
from struct import Struct

from busmon.bare import bare
from busmon.registry.ledger.source_record import SourceRecord, Verdict

NO_DIGEST = blake2b(digest_size=8)
"""A digest of nothing; its copy takes half the time of a new one."""

_unpack_digest = Struct(">Q").unpack


def digest_of(source: str, stated: bytes) -> int:
    """Return the digest of a source and its id or body, in 8 bytes."""
    state = NO_DIGEST.copy()
    state.update(b"%b\0%b" % (source.encode(), stated))
    digest: int = _unpack_digest(state.digest())[0]
    return digest


def admit(  # noqa: PLR0913 - called in one place
    sources: Sequence[str],
    message_ids: Sequence[str | None],
    users: Sequence[str | None],
    now: float,
    verdicts: list[Verdict],
    *,
    known: Mapping[str, SourceRecord],
    opened: MutableMapping[str, SourceRecord],
    ring: Mapping[int, float],
    digests: MutableMapping[int, float],
    is_free: bool,
) -> None:
    """Judge the envelopes behind those with a verdict, up to one that isn't usual, and note those that are new.

    Args:
        sources: of the envelopes.
        message_ids: of the envelopes.
        users: that published the envelopes.
        now: seconds since the epoch.
        verdicts: of the first envelopes; those of the next ones are appended.
        known: the committed records of sources.
        opened: the open batch's, which are changed.
        ring: the committed digests.
        digests: the open batch's, with their times, which are changed.
        is_free: a source takes envelopes of any user.
    """
    begun = len(verdicts)
    for source, message_id, user in zip(sources[begun:], message_ids[begun:], users[begun:], strict=True):
        seen = opened.get(source) or known.get(source)
        if seen is None or not message_id:
            return
        high, floor, gaps, _, owner, opener = seen
        if user != owner and owner and not is_free:
            return
        if not message_id.startswith(source):
            digest = digest_of(source, message_id.encode())
            if digest in ring or digest in digests:
                verdicts.append(Verdict.DUPLICATE)
                continue
            digests[digest] = now
        elif message_id == f"{source}:{high + 1}":
            high += 1
        else:
            return
        opened[source] = bare(SourceRecord, (high, floor, gaps, now, owner, opener))
        verdicts.append(Verdict.NEW)
