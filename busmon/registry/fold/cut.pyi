from collections import Counter
from collections.abc import MutableMapping, Sequence
from enum import IntEnum
from typing import final

from busmon.registry.series.shares import Room, Shares
from busmon.wire.envelope import Envelope

class Change(IntEnum):
    NOTHING = 0
    COUNT = 1
    SET = 2
    SINCE = 3
    SET_SINCE = 4
    OBSERVE = 5
    LIST = 6
    ADD_BUCKET = 7
    ADD_SUM = 8

@final
class Target:
    def __init__(self, changed: MutableMapping[int, float] | Shares, bounds: tuple[float, ...], total: int) -> None: ...

@final
class Cut:
    body: bytes
    samples: int

def fold(
    envelopes: Sequence[Envelope], times: Sequence[float], place: int, room: Room, folded: Counter[str]
) -> int: ...
