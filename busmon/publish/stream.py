"""Lines of JSON → sealed envelopes: samples that don't come from instruments.

An invalid line is reported and skipped. An envelope is yielded when it is full, or when its first sample has
waited for long enough, so a slow input is published, too. Reads a descriptor as data comes; one thread.
"""

import os
import select
from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import Any

import orjson

from busmon.publish.batch import DEFAULT_DOMAIN, MAX_BYTES, MAX_NUMBERS, Origin, Sealed
from busmon.publish.samples import SampleChecks, SampleError
from busmon.wire import json_v1

_READ_BYTES = 1 << 16


class Stream:
    """Samples on their way from a descriptor into envelopes.

    Args:
        origin: whose they are.
        checks: decide which samples are good.
        rejected: called for each invalid line, with its number and the reason.
    """

    def __init__(self, origin: Origin, checks: SampleChecks, rejected: Callable[[int, str], None]) -> None:
        self._origin = origin
        self._checks = checks
        self._rejected = rejected
        self._batch: list[orjson.Fragment] = []
        self._bytes = self._numbers = 0
        self._began = 0.0

    def envelopes(self, descriptor: int, wait_seconds: float) -> Iterator[Sealed | None]:
        """Yield every envelope, and None when the input has paused for `wait_seconds` and no envelope is left."""
        number = 0
        for line in _lines(descriptor, wait_seconds):
            if line is None:
                yield self._seal() if self._batch else None
                continue
            number += 1
            line = json_v1.trim(line)  # noqa: PLW2901 - as some editors write a file: with a byte order mark
            try:
                sample = self._sample(line)
            except SampleError as error:
                self._rejected(number, str(error))
                continue
            if sample is not None:
                numbers = _numbers(sample)
                if self._is_full(line, numbers):
                    yield self._seal()
                self._add(line, numbers)
            if self._batch and monotonic() - self._began >= wait_seconds:
                yield self._seal()
        if self._batch:
            yield self._seal()

    def _sample(self, line: bytes) -> Any:
        """Parse the sample in a line; None for an empty line."""
        if not line:
            return None
        if len(line) > MAX_BYTES:
            raise SampleError(f"longer than {MAX_BYTES} bytes")
        try:
            sample = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SampleError(f"not JSON: {error}") from error
        self._checks.check(sample)
        return sample

    def _is_full(self, line: bytes, numbers: int) -> bool:
        return bool(self._batch) and (self._numbers + numbers > MAX_NUMBERS or self._bytes + len(line) > MAX_BYTES)

    def _add(self, line: bytes, numbers: int) -> None:
        if not self._batch:
            self._began = monotonic()
        self._batch.append(orjson.Fragment(line))  # it is JSON, so it needn't be written again
        self._bytes += len(line)
        self._numbers += numbers

    def _seal(self) -> Sealed:
        batch, self._batch = self._batch, []
        self._bytes = self._numbers = 0
        return seal_samples(self._origin, batch)


def seal_samples(origin: Origin, samples: list[Any]) -> Sealed:
    """Seal samples as one envelope in the wire format's first form."""
    body = json_v1.encode(origin.source, origin.agent, time(), samples, [])
    return Sealed(DEFAULT_DOMAIN, body, len(samples))


def _numbers(sample: Any) -> int:
    values = sample.get("values")
    return len(values) if values else 1


def _lines(descriptor: int, wait_seconds: float) -> Iterator[bytes | None]:
    """Yield the lines, too long ones cut; None after each silence of this length."""
    unread = b""
    while True:
        if not select.select([descriptor], [], [], wait_seconds)[0]:
            yield None
            continue
        read = os.read(descriptor, _READ_BYTES)
        if not read:
            break
        *lines, unread = (unread + read).split(b"\n")
        unread = unread[: MAX_BYTES + 1]
        yield from lines
    if unread:
        yield unread
