# cython: language_level=3, boundscheck=False, wraparound=False
"""The numbers of scanned bodies, each with the series that it changes, and their changes of the open batch.

They are those that the short way of the fold makes of the parsed body (`shortcuts.py`), to the last bit. One thread.
"""

from cpython.dict cimport PyDict_GetItemWithError, PyDict_SetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memset

from busmon.bare cimport bare
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM
from busmon.registry.series.latest import Share
from busmon.wire.envelope import Envelope

cdef type _SHARE = Share
cdef Py_ssize_t _SOURCE, _AGENT, _TS, _CUT
_SOURCE, _AGENT, _TS, _CUT = map(Envelope._fields.index, ("source", "agent", "ts", "cut"))


cdef class Target:
    """The part of a column that the numbers of a family change.

    Args:
        changed: the increments of the column, or the shares of its gauges.
        bounds: the upper bounds of a histogram's buckets but for +Inf, ascending.
        total: the place of the sum, from a series' first cell on.
    """

    def __cinit__(self, object changed, tuple bounds, int32_t total):
        cdef Py_ssize_t place
        self.changed, self.width, self.total = changed, len(bounds), total
        self.bounds = <double *>PyMem_Malloc((self.width or 1) * sizeof(double))
        if self.bounds is NULL:
            raise MemoryError
        for place in range(self.width):
            self.bounds[place] = bounds[place]

    def __dealloc__(self):
        PyMem_Free(self.bounds)

    cdef int add(self, int32_t cell, double change) except -1:
        cdef object key = cell
        cdef PyObject *held = PyDict_GetItemWithError(self.changed, key)
        cdef double before = 0.0 if held is NULL else <double>(<object>held)
        PyDict_SetItem(self.changed, key, before + change)
        return 0

    cdef int observe(self, int32_t first, double value) except -1:
        """Count an observation in its bucket, the first one whose bound isn't below it."""
        cdef Py_ssize_t low = 0, high = self.width, middle
        while low < high:
            middle = (low + high) // 2
            if self.bounds[middle] < value:
                low = middle + 1
            else:
                high = middle
        return self.add(first + <int32_t>low, 1.0)


def fold(envelopes, times, Py_ssize_t place, room, folded):
    """Fold scanned envelopes into the open batch, up to one that is parsed, or may have too many gauges.

    Args:
        envelopes: in their order.
        times: the present as each one is told it, in seconds since the epoch; no time of a sample is later.
        place: the first envelope to fold.
        room: the shard's, for the gauges of its sources.
        folded: the samples that were folded, by type; those of these envelopes are added.

    Returns:
        the place of the envelope that isn't folded, or the number of envelopes.

    Raises:
        ValueError: there isn't a time for each envelope.
    """
    cdef Counts counts
    cdef Cut cut
    cdef tuple envelope
    cdef double now, at
    cdef Py_ssize_t left = room.left
    cdef object agent = None
    if len(envelopes) != len(times):
        raise ValueError("a time for each envelope")
    memset(&counts, 0, sizeof(Counts))
    while place < len(envelopes):
        envelope = <tuple>envelopes[place]
        if type(envelope[_CUT]) is not Cut:
            break
        cut, now, at = <Cut>envelope[_CUT], times[place], envelope[_TS]
        if envelope[_AGENT] is not agent:
            agent = room.agent = envelope[_AGENT]
        left -= cut.samples
        if left < 0 and not room.is_wide(envelope[_SOURCE], cut.samples):
            break
        cut._fold(<str>envelope[_SOURCE], min(at, now), now, &counts)
        place += 1
    for type_, count in ((COUNTER, counts.counters), (GAUGE, counts.gauges), (HISTOGRAM, counts.histograms)):
        if count:
            folded[type_] += count
    return place


cdef class Cut:
    """The numbers of one body, each with the series that it changes.

    Attributes:
        body: as delivered.
        samples: how many samples it has.
    """

    def __dealloc__(self):
        PyMem_Free(self.numbers)

    cdef int _fold(self, str source, double at, double now, Counts *counts) except -1:
        """Fold the samples of a source whose envelope has this time into the open batch, and count them."""
        cdef Py_ssize_t place = 0
        cdef double since = at
        cdef Number *number
        cdef Target target = None
        cdef int32_t cell = 0
        cdef object shares = None
        cdef dict opened = None, held = None
        while place < self.count:
            number = &self.numbers[place]
            place += 1
            if number.change == SINCE:
                since = min(number.value, now)
                continue
            if <object>number.target is not None:
                target, cell = <Target>number.target, number.cell
            if number.change == COUNT:
                counts.counters += 1
                target.add(cell, number.value)
            elif number.change == SET or number.change == SET_SINCE:
                counts.gauges += 1
                if target.changed is not shares:
                    shares = target.changed
                    opened, held = shares.find(source)
                _set(shares, opened, held, cell, source, number.value, at if number.change == SET else since)
            elif number.change == OBSERVE:
                counts.histograms += 1
                target.observe(cell, number.value)
                if place < self.count and self.numbers[place].change == LIST:
                    place = self._fold_list(target, cell, place)
                else:
                    target.add(cell + target.total, number.value)
            elif number.change == ADD_SUM:
                counts.histograms += 1
                target.add(cell + target.total, number.value)
            elif number.value > 0:  # a bucket
                target.add(cell + number.bucket, number.value)
        return 0

    cdef Py_ssize_t _fold_list(self, Target target, int32_t cell, Py_ssize_t place) except -1:
        """Fold the observations from the second one of a list on, and the sum of the list; return the place behind."""
        cdef list listed = [self._find(place - 1)]
        while place < self.count and self.numbers[place].change == LIST:
            listed.append(self._find(place))
            target.observe(cell, self.numbers[place].value)
            place += 1
        target.add(cell + target.total, sum(listed))
        return place

    cdef object _find(self, Py_ssize_t place):
        """Return a number as JSON has it, since Python's `sum` adds whole numbers and others in different ways."""
        cdef Number *number = &self.numbers[place]
        return <long>number.value if number.is_whole else number.value


cdef int _set(shares, dict opened, dict held, object cell, str source, double value, double at) except -1:
    """Set a gauge: at once where the source said an earlier value.

    Args:
        shares: of the gauge's column.
        opened: the source's shares in the open batch, by cell.
        held: its committed shares.
        cell: the gauge's.
        source: that says the value.
        value: the value.
        at: its time, in seconds since the epoch.
    """
    cdef PyObject *known = PyDict_GetItemWithError(opened, cell)
    if known is NULL or <object>known is None:
        known = PyDict_GetItemWithError(held, cell)
    if known is not NULL and not (<tuple>known)[2] and at > <double>(<tuple>known)[0]:
        PyDict_SetItem(opened, cell, bare(_SHARE, (at, value, False)))
    else:
        shares.set(cell, source, value, at)
    return 0
