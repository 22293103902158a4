from collections.abc import Sequence
from typing import final

from busmon.registry.fold.cut import Change
from busmon.wire.envelope import Envelope

START: int
END: int
MAX_TEXT_BYTES: int
MAX_BODY_BYTES: int

@final
class Scanner:
    text_bytes: int
    missed_state: int
    missed_at: int
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
    def find(self, state: int, text: bytes) -> int | None: ...
    def learn(
        self, state: int, text: bytes, behind: int, change: Change, meaning: object, cell: int = 0, bucket: int = 0
    ) -> None: ...
    def read(self, bodies: Sequence[bytes], envelopes: list[Envelope | None]) -> None: ...
