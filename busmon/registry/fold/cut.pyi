from collections import Counter
from collections.abc import MutableMapping
from enum import IntEnum
from typing import final

from busmon.registry.series.shares import Shares

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
    author: tuple[str, str]
    at: float
    samples: int
    def fold(self, source: str, at: float, now: float, folded: Counter[str]) -> None: ...
