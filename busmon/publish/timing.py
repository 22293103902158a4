"""The context managers and decorators that `time()`, `count_exceptions()` and `track_inprogress()` return.

A decorated coroutine function is measured while it runs, not while its coroutine is made. Any thread; a `Timer` used as
a context manager belongs to one block at a time, a decorator makes one for each call.
"""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Labelled(Protocol):
    """An instrument with a series for each of its label values."""

    def labels(self, *values: object, **named: object) -> Self:
        """Return the series with these label values."""


LabelledT = TypeVar("LabelledT", bound=Labelled)


class Around:
    """A context manager that a function can be decorated with."""

    __slots__ = ()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap a function, so that each call runs inside."""
        if iscoroutinefunction(function):

            @wraps(function)
            async def wrap_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", wrap_coroutine)

        @wraps(function)
        def wrap_call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._fresh():
                return function(*args, **kwargs)

        return wrap_call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def _fresh(self) -> Self:
        return self


class Timer(Around, Generic[LabelledT]):
    """Records how long its block ran, in seconds.

    Attributes:
        duration: of the last block, None before its end.
    """

    __slots__ = ("_instrument", "_record", "_started", "duration")

    def __init__(self, instrument: LabelledT, record: Callable[[LabelledT, float], None]) -> None:
        self._instrument = instrument
        self._record = record
        self._started = 0.0
        self.duration: float | None = None

    def labels(self, *values: object, **named: object) -> None:
        """Choose the series inside the block, when its label values are known."""
        self._instrument = self._instrument.labels(*values, **named)

    def __enter__(self) -> Self:
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.duration = perf_counter() - self._started
        self._record(self._instrument, self.duration)

    def _fresh(self) -> Self:
        return type(self)(self._instrument, self._record)


class ExceptionCounter(Around):
    """Counts the exceptions that leave its block."""

    __slots__ = ("_count", "_kinds")

    def __init__(self, count: Callable[[], None], kinds: type[BaseException] | tuple[type[BaseException], ...]) -> None:
        self._count = count
        self._kinds = kinds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, self._kinds):
            self._count()


class InprogressTracker(Around):
    """Counts a block as running while it runs."""

    __slots__ = ("_begin", "_end")

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin = begin
        self._end = end

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
