# cython: language_level=3, boundscheck=False, wraparound=False
"""The scan of bodies whose texts between the numbers are known: from the bytes to a cut, which is folded later.

A *text* is what stands between two numbers, and a *state* what is known of all before it; `learning.py` gives both. A
number has the value that `orjson` gives it; one that few bodies have is not read. Python's bytes end with a NUL that
isn't counted. Each loop ends at a NUL, so no read is behind it. One thread.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.math cimport floor, isfinite
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from busmon.registry.fold.cut cimport ADD_BUCKET, ADD_SUM, COUNT, LIST, OBSERVE, SET, SET_SINCE, SINCE, Cut, Number, Way
from busmon.wire.json_tokens cimport find_text_end, is_number, read_number

import os

START = 0
"""The state before a body's head, which ends with the name of the envelope's time."""
END = -1
"""The state behind a body."""

cdef enum:
    _FEWEST_NUMBERS = 256
    _MOST_NUMBERS = 32768  # of a body; one with more is parsed
    _MOST_HEAD_BYTES = 1024

cdef double _MOST_OBSERVED = 1e300  # so that no list of observations has an infinite sum
cdef uint64_t _SEED = int.from_bytes(os.urandom(8), "little")  # so that nobody chooses texts whose hashes collide


cdef struct Edge:
    uint64_t hash
    const char *text
    Py_ssize_t length
    int32_t state
    int32_t next
    int32_t way
    int32_t bucket
    int32_t follower  # the edge that came behind it last, and probably comes again
    PyObject *meaning


cdef class Scanner:
    """The known texts by state, in a hash table with open addressing that is at most half full.

    Args:
        most: how many texts there may be.

    Attributes:
        missed_state: of the first text that the last read body has and nobody knows.
        missed_at: where this text begins.
    """

    cdef readonly int missed_state
    cdef readonly Py_ssize_t missed_at
    cdef Edge *edges
    cdef int32_t *slots
    cdef uint32_t mask
    cdef int32_t count, most
    cdef list kept
    cdef Number *numbers
    cdef Py_ssize_t room

    def __cinit__(self, int32_t most):
        cdef uint32_t size = 64
        while size < 2 * <uint32_t>most:
            size *= 2
        self.mask, self.most, self.room = size - 1, most, _FEWEST_NUMBERS
        self.slots = <int32_t *>PyMem_Malloc(size * sizeof(int32_t))
        self.edges = <Edge *>PyMem_Malloc((most + 1) * sizeof(Edge))
        self.numbers = <Number *>PyMem_Malloc(self.room * sizeof(Number))
        if self.slots is NULL or self.edges is NULL or self.numbers is NULL:
            raise MemoryError
        self.clear()

    def __dealloc__(self):
        PyMem_Free(self.slots)
        PyMem_Free(self.edges)
        PyMem_Free(self.numbers)

    def __len__(self):
        return self.count

    def clear(self):
        """Forget all texts; what was read stays."""
        memset(self.slots, 0, (self.mask + 1) * sizeof(int32_t))
        self.count, self.kept = 0, []

    def find(self, int32_t state, bytes text not None):
        """Return the state behind a text; None for one that isn't known in this state."""
        cdef const char *begin = PyBytes_AS_STRING(text)
        cdef int32_t found = self._look(state, begin, PyBytes_GET_SIZE(text))
        return self.edges[found].next if found else None

    def learn(self, int32_t state, bytes text not None, int32_t behind, Way way, meaning, int32_t bucket=0):
        """Learn a text that isn't known in this state, if there is room.

        Args:
            state: before the text.
            text: without a number outside of strings, but for a head.
            behind: the state behind the number that follows.
            way: the change that this number makes.
            meaning: the `Series` that it changes, or what a head names.
            bucket: the place of the bucket that it counts.
        """
        if self.count >= self.most:
            return
        cdef Edge *edge = &self.edges[self.count + 1]
        edge.text, edge.length, edge.state = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), state
        edge.hash = _hash(state, edge.text, edge.length)
        edge.next, edge.way, edge.bucket, edge.follower, edge.meaning = behind, way, bucket, 0, <PyObject *>meaning
        self.kept.append((text, meaning))
        cdef uint32_t slot = edge.hash & self.mask
        while self.slots[slot]:
            slot = (slot + 1) & self.mask
        self.count += 1
        self.slots[slot] = self.count

    def read(self, bytes body not None):
        """Read a body whose texts are all known; None for any other body."""
        cdef const char *start = PyBytes_AS_STRING(body)
        cdef const char *end = start + PyBytes_GET_SIZE(body)
        cdef const char *position = start
        cdef Edge *edge = NULL
        cdef Edge *head = NULL
        cdef double at = 0.0
        cdef Py_ssize_t count = 0, samples = 0
        cdef int32_t state = 0, found = 0
        cdef Number number
        self.missed_state = END
        while True:
            found = self._next(state, found, &position, end)
            if found == 0:
                self.missed_at = position - start
                return None
            edge = &self.edges[found]
            if edge.next < 0:
                break
            position = read_number(position, &number.value, &number.is_whole)
            if position is NULL or not _is_usual(&number, edge.way, state):
                return None
            if state == 0:
                head, at = edge, number.value
            else:
                if count == self.room and not self._widen():
                    return None
                number.series, number.way, number.bucket = edge.meaning, edge.way, edge.bucket
                self.numbers[count] = number
                count += 1
                samples += edge.way in (COUNT, SET, SET_SINCE, OBSERVE, ADD_SUM)
            state = edge.next
        cdef Cut cut = self._cut(body, count)
        cut.author, cut.at, cut.samples = <object>head.meaning, at, samples
        return cut

    cdef Cut _cut(self, bytes body, Py_ssize_t count):
        cdef Cut cut = Cut.__new__(Cut)
        cut.body, cut.count, cut.kept = body, count, self.kept
        cut.numbers = <Number *>PyMem_Malloc((count or 1) * sizeof(Number))
        if cut.numbers is NULL:
            raise MemoryError
        memcpy(cut.numbers, self.numbers, count * sizeof(Number))
        return cut

    cdef bint _widen(self) except -1:
        """Make room for more numbers; return whether a body may have more."""
        if self.room >= _MOST_NUMBERS:
            return False
        cdef Number *wider = <Number *>PyMem_Realloc(self.numbers, 2 * self.room * sizeof(Number))
        if wider is NULL:
            raise MemoryError
        self.numbers, self.room = wider, 2 * self.room
        return True

    cdef int32_t _next(self, int32_t state, int32_t before, const char **position, const char *end) noexcept:
        """Find the known text at a position, and move the position behind it; 0 where it isn't known."""
        cdef const char *begin = position[0]
        cdef int32_t found = self.edges[before].follower if before else 0
        cdef Edge *edge = &self.edges[found]
        if found and edge.state == state and edge.length <= end - begin and memcmp(begin, edge.text, edge.length) == 0:
            if begin + edge.length == end if edge.next < 0 else is_number(begin[edge.length]):
                position[0] = begin + edge.length
                return found
        cdef const char *behind = _find_head_end(begin, end) if state == 0 else find_text_end(begin, end)
        if behind is NULL:
            return 0
        found = self._look(state, begin, behind - begin)
        if found == 0 or (self.edges[found].next < 0) != (behind == end):
            self.missed_state = state
            return 0
        if before:
            self.edges[before].follower = found
        position[0] = behind
        return found

    cdef int32_t _look(self, int32_t state, const char *text, Py_ssize_t length) noexcept:
        """Return the number of a text's edge; 0 where it isn't known."""
        cdef uint64_t hash_ = _hash(state, text, length)
        cdef uint32_t slot = hash_ & self.mask
        cdef Edge *edge
        while self.slots[slot]:
            edge = &self.edges[self.slots[slot]]
            if edge.hash == hash_ and edge.state == state and edge.length == length:
                if memcmp(edge.text, text, length) == 0:
                    return self.slots[slot]
            slot = (slot + 1) & self.mask
        return 0


cdef uint64_t _hash(int32_t state, const char *text, Py_ssize_t length) noexcept:
    """Hash eight bytes at a time, with the multipliers of MurmurHash3's finalizer."""
    cdef uint64_t mixed = _SEED ^ <uint64_t>state << 32 ^ <uint64_t>length
    cdef uint64_t word
    while length > 0:
        word = 0
        memcpy(&word, text, min(length, 8))
        mixed = (mixed ^ word) * 0xFF51AFD7ED558CCDULL
        mixed ^= mixed >> 32
        text += 8
        length -= 8
    mixed *= 0xC4CEB9FE1A85EC53ULL
    return mixed ^ mixed >> 33


cdef bint _is_usual(const Number *number, int way, int32_t state) noexcept:
    """Return whether the ordinary way accepts a number at once."""
    if not isfinite(number.value):
        return False
    if state == 0 or way == SINCE:
        return number.value > 0
    if way == OBSERVE or way == LIST:
        return -_MOST_OBSERVED <= number.value <= _MOST_OBSERVED
    if way == ADD_BUCKET:
        return number.value >= 0 and floor(number.value) == number.value
    return way != COUNT or number.value >= 0


cdef const char *_find_head_end(const char *position, const char *end) noexcept:
    """Return the place of the envelope's time, if the head is short; else NULL."""
    if end - position > _MOST_HEAD_BYTES:
        end = position + _MOST_HEAD_BYTES
    while end - position > 5:
        if memcmp(position, b'"ts":', 5) == 0:
            position += 5
            while position[0] == c" ":
                position += 1
            return position
        position += 1
    return NULL
