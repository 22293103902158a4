"""The garbage collector of a process with tables of series: it passes over what lives long.

A full collection traverses every object that the collector knows, and nothing else runs meanwhile. In an exporter of
100,000 series it took 0.1 to 0.25 s, once a second under a crowd, whose connections are what there is to collect.
Python's permanent generation (`gc.freeze`) is never traversed. Reference counts free its objects all the same, but
cycles that become garbage there stay. Tables have none; connections that are open at that moment have. So what is
permanent is collected again where that costs little: while the tables are empty.
"""

import ctypes
import gc
from contextlib import suppress

_FEWEST = 10_000
"""Objects of 10,000 series are traversed in 10 ms at most, so they may wait."""

_GROWTH = 0.25
"""Python's collector runs in full when a quarter of the known objects is new, too."""


def tune_for_deliveries() -> None:
    """Run the collector rarely: reference counts free deliveries, and the collector took a fifth of a worker's time.

    Objects of the start, modules and series, are never examined again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def give_back() -> None:
    """Give the memory of much that was freed back to the system: the C library keeps it otherwise.

    Only glibc can. The supervisor keeps 12 MB instead of 50 of a recovery that read 80 MB of journals.
    """
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class PermanentTables:
    """Tables without cycles, which are filled at once, grow, and are dropped as a whole. One thread at a time."""

    def __init__(self) -> None:
        self._size = 0
        self._is_filling = False

    def begin(self) -> None:
        """Collect everything, and then nothing until `settle`, while the empty tables are filled."""
        self._size = 0
        gc.unfreeze()
        gc.collect()
        gc.disable()
        self._is_filling = True

    def settle(self, size: int) -> None:
        """Make the tables permanent if they were filled, or grew much.

        Args:
            size: how many series they have.
        """
        if self._is_filling:
            self._is_filling = False
            gc.enable()
        elif size - self._size >= max(_FEWEST, _GROWTH * self._size):
            gc.collect()
        else:
            return
        gc.freeze()
        self._size = size
