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
from libc.stdint cimport int8_t, int16_t, int32_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from busmon.bare cimport bare
from busmon.registry.fold.cut cimport ADD_BUCKET, ADD_SUM, COUNT, LIST, OBSERVE, SET, SET_SINCE, SINCE
from busmon.registry.fold.cut cimport Change, Cut, Number
from busmon.wire.json_tokens cimport find_text_end, is_number, read_number

import os

from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import FORMAT

cdef enum:
    _START = 0
    _END = -1

START = _START
"""The state before a body's head, which ends with the name of the envelope's time."""
END = _END
"""The state behind a body."""

cdef enum:
    _FEWEST = 1024  # a power of two
    _MOST_NUMBERS = 32768  # of a body; one with more is parsed
    _MOST_TEXT_BYTES = 512
    _MOST_FACTORS = 2 + (_MOST_TEXT_BYTES >> 2)  # one for each four bytes of a text

MAX_TEXT_BYTES = _MOST_TEXT_BYTES
"""A longer text isn't learned."""
MAX_BODY_BYTES = 1_000_000
"""A longer body may have more samples than are taken from one, and is not read."""

cdef Py_ssize_t _MOST_BODY_BYTES = MAX_BODY_BYTES
cdef type _ENVELOPE = Envelope
cdef str _FORMAT = FORMAT
cdef list _NOTHING = []  # the samples and tables of an envelope with a cut

cdef double _MOST_OBSERVED = 1e300  # so that no list of observations has an infinite sum
cdef uint64_t[_MOST_FACTORS] _FACTORS  # of a hash, and random, so that nobody chooses texts whose hashes collide
cdef int _factor
for _factor in range(_MOST_FACTORS):
    _FACTORS[_factor] = int.from_bytes(os.urandom(8), "little")


cdef struct Edge:
    PyObject *meaning
    uint32_t hash
    uint32_t text  # its place among all texts
    uint16_t length
    int16_t bucket
    int32_t state
    int32_t next
    int32_t cell
    int32_t follower  # the edge that came behind it last, and probably comes again
    int8_t change


cdef class Scanner:
    """The known texts by state, in a hash table with open addressing that is at most half full.

    Attributes:
        text_bytes: of all known texts.
        missed_state: of the first text that the last read body has and nobody knows; `END` where there is none.
        missed_at: where this text begins.
    """

    cdef readonly Py_ssize_t text_bytes
    cdef readonly int missed_state
    cdef readonly Py_ssize_t missed_at
    cdef Edge *edges  # from the second one on; 0 is no edge
    cdef char *texts
    cdef int32_t *slots
    cdef Number *numbers
    cdef int32_t count
    cdef Py_ssize_t edge_room, text_room, slot_room, number_room
    cdef dict kept

    def __cinit__(self):
        self.clear()

    def __dealloc__(self):
        PyMem_Free(self.edges)
        PyMem_Free(self.texts)
        PyMem_Free(self.slots)
        PyMem_Free(self.numbers)

    def __len__(self):
        return self.count

    def clear(self):
        """Forget all texts; what was read stays."""
        self.count, self.text_bytes, self.kept = 0, 0, {}
        self.missed_state, self.missed_at = _END, 0
        self.slot_room = _widen(<void **>&self.slots, 0, _FEWEST, sizeof(int32_t))
        memset(self.slots, 0, self.slot_room * sizeof(int32_t))
        self.edge_room = _widen(<void **>&self.edges, 0, _FEWEST, sizeof(Edge))
        self.text_room = _widen(<void **>&self.texts, 0, _FEWEST, 1)
        self.number_room = _widen(<void **>&self.numbers, 0, _FEWEST, sizeof(Number))

    def find(self, int32_t state, bytes text not None):
        """Return the state behind a text; None for one that isn't known in this state."""
        cdef const char *begin = PyBytes_AS_STRING(text)
        cdef int32_t found = self._look(state, begin, PyBytes_GET_SIZE(text))
        return self.edges[found].next if found else None

    def learn(
        self,
        int32_t state,
        bytes text not None,
        int32_t behind,
        Change change,
        meaning,
        int32_t cell=0,
        int16_t bucket=0,
    ):
        """Learn a text that isn't known in this state.

        Args:
            state: before the text.
            text: without a number outside of strings, but for a head; of at most `MAX_TEXT_BYTES`.
            behind: the state behind the number that follows.
            change: the one that this number makes.
            meaning: the `Target` that it changes, or what a head names.
            cell: the first one of the series that it changes.
            bucket: the place of the bucket that it counts.

        Raises:
            OverflowError: the text is too long, or the texts have 4 GiB.
        """
        cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
        cdef Edge edge
        edge.text, edge.length, edge.state, edge.next = self.text_bytes, length, state, behind
        if edge.text != self.text_bytes or length > _MOST_TEXT_BYTES:
            raise OverflowError
        edge.hash = _hash(state, PyBytes_AS_STRING(text), length)
        edge.change, edge.meaning, edge.cell, edge.bucket, edge.follower = change, <PyObject *>meaning, cell, bucket, 0
        self.edge_room = _widen(<void **>&self.edges, self.edge_room, self.count + 2, sizeof(Edge))
        self.text_room = _widen(<void **>&self.texts, self.text_room, self.text_bytes + length, 1)
        if 2 * (self.count + 1) > self.slot_room:
            self._spread()
        self.kept[id(meaning)] = meaning
        memcpy(self.texts + self.text_bytes, PyBytes_AS_STRING(text), length)
        self.text_bytes += length
        self.count += 1
        self.edges[self.count] = edge
        self._place(self.count)

    cdef int _spread(self) except -1:
        """Double the hash table."""
        cdef int32_t number
        self.slot_room = _widen(<void **>&self.slots, self.slot_room, 2 * self.slot_room, sizeof(int32_t))
        memset(self.slots, 0, self.slot_room * sizeof(int32_t))
        for number in range(1, self.count + 1):
            self._place(number)
        return 0

    cdef void _place(self, int32_t number) noexcept:
        cdef uint32_t mask = <uint32_t>self.slot_room - 1
        cdef uint32_t slot = self.edges[number].hash & mask
        while self.slots[slot]:
            slot = (slot + 1) & mask
        self.slots[slot] = number

    def read(self, bodies, list envelopes not None):
        """Read the bodies behind those that were read, up to the first one with a text that isn't known.

        Args:
            bodies: as delivered.
            envelopes: of the bodies that were read; those of the next ones are appended, with cuts.
        """
        cdef Py_ssize_t place
        for place in range(len(envelopes), len(bodies)):
            envelope = self._read(bodies[place])
            if envelope is None:
                return
            envelopes.append(envelope)

    cdef object _read(self, bytes body):
        """Return the envelope of a body whose texts are all known; None for any other body."""
        cdef const char *start = PyBytes_AS_STRING(body)
        cdef const char *end = start + PyBytes_GET_SIZE(body)
        cdef const char *position = start
        cdef Edge *edge = NULL
        cdef Edge *head = NULL
        cdef double at = 0.0
        cdef Py_ssize_t count = 0, samples = 0
        cdef int32_t state = _START, found = 0
        cdef Number number
        self.missed_state = _END
        if end - start > _MOST_BODY_BYTES:
            return None
        while True:
            found = self._next(state, found, &position, end)
            if found == 0:
                self.missed_at = position - start
                return None
            edge = &self.edges[found]
            if edge.next == _END:
                break
            position = read_number(position, &number.value, &number.is_whole)
            if position is NULL or not _is_usual(&number, edge.change, state):
                return None
            if state == _START:
                head, at = edge, number.value
            else:
                if count == self.number_room:
                    if count == _MOST_NUMBERS:
                        return None
                    self.number_room = _widen(<void **>&self.numbers, count, 2 * count, sizeof(Number))
                number.change, number.target = edge.change, edge.meaning
                number.cell, number.bucket = edge.cell, edge.bucket
                self.numbers[count] = number
                count += 1
                samples += edge.change in (COUNT, SET, SET_SINCE, OBSERVE, ADD_SUM)
            state = edge.next
        source, agent = <tuple>head.meaning
        fields = (source, agent, at, _NOTHING, _NOTHING, False, (), None, _FORMAT, self._cut(body, count, samples), False)
        return bare(_ENVELOPE, fields)

    cdef Cut _cut(self, bytes body, Py_ssize_t count, Py_ssize_t samples):
        cdef Cut cut = Cut.__new__(Cut)
        cut.body, cut.count, cut.samples, cut.kept = body, count, samples, self.kept
        cut.numbers = <Number *>PyMem_Malloc((count or 1) * sizeof(Number))
        if cut.numbers is NULL:
            raise MemoryError
        memcpy(cut.numbers, self.numbers, count * sizeof(Number))
        return cut

    cdef int32_t _next(self, int32_t state, int32_t before, const char **position, const char *end) noexcept:
        """Find the known text at a position, and move the position behind it; 0 where it isn't known."""
        cdef const char *begin = position[0]
        cdef int32_t found = self.edges[before].follower if before else 0
        cdef Edge *edge = &self.edges[found]
        if found and edge.state == state and edge.length <= end - begin and self._has_text(edge, begin):
            if begin + edge.length == end if edge.next == _END else is_number(begin[edge.length]):
                position[0] = begin + edge.length
                return found
        cdef const char *behind = _find_head_end(begin, end) if state == _START else find_text_end(begin, end)
        if behind is NULL:
            return 0
        found = self._look(state, begin, behind - begin)
        if found == 0 or (self.edges[found].next == _END) != (behind == end):
            self.missed_state = state
            return 0
        if before:
            self.edges[before].follower = found
        position[0] = behind
        return found

    cdef int32_t _look(self, int32_t state, const char *text, Py_ssize_t length) noexcept:
        """Return the number of a text's edge; 0 where it isn't known."""
        if length > _MOST_TEXT_BYTES:
            return 0
        cdef uint32_t hash_ = _hash(state, text, length)
        cdef uint32_t mask = <uint32_t>self.slot_room - 1
        cdef uint32_t slot = hash_ & mask
        cdef Edge *edge
        while self.slots[slot]:
            edge = &self.edges[self.slots[slot]]
            if edge.hash == hash_ and edge.state == state and edge.length == length and self._has_text(edge, text):
                return self.slots[slot]
            slot = (slot + 1) & mask
        return 0

    cdef bint _has_text(self, const Edge *edge, const char *begin) noexcept:
        return memcmp(self.texts + edge.text, begin, edge.length) == 0


cdef Py_ssize_t _widen(void **items, Py_ssize_t room, Py_ssize_t needed, size_t size) except -1:
    """Make room for so many items of a size, by doubling it; return the room."""
    if needed <= room:
        return room
    room = room or _FEWEST
    while room < needed:
        room *= 2
    cdef void *wider = PyMem_Realloc(items[0], room * size)
    if wider is NULL:
        raise MemoryError
    items[0] = wider
    return room


cdef uint32_t _hash(int32_t state, const char *text, Py_ssize_t length) noexcept:
    """Hash four bytes at a time by random factors, so that nobody can choose many texts that have one hash.

    The sum is Carter and Wegman's multilinear hash: two texts have the same one by a chance of at most 1 in 2**33. The
    rest spreads the sums over the table.
    """
    cdef const uint64_t *factor = &_FACTORS[2]
    cdef uint64_t mixed = _FACTORS[0] * <uint32_t>state + _FACTORS[1] * <uint32_t>length
    cdef uint32_t word
    while length >= 4:
        memcpy(&word, text, 4)
        mixed += factor[0] * word
        factor += 1
        text += 4
        length -= 4
    if length:
        word = 0
        memcpy(&word, text, length)
        mixed += factor[0] * word
    mixed = (mixed ^ mixed >> 32) * 0xFF51AFD7ED558CCDULL
    return <uint32_t>(mixed >> 32)


cdef bint _is_usual(const Number *number, int change, int32_t state) noexcept:
    """Return whether the ordinary way accepts a number at once."""
    if not isfinite(number.value):
        return False
    if state == _START or change == SINCE:
        return number.value > 0
    if change == OBSERVE or change == LIST:
        return -_MOST_OBSERVED <= number.value <= _MOST_OBSERVED
    if change == ADD_BUCKET:
        return number.value >= 0 and floor(number.value) == number.value
    return change != COUNT or number.value >= 0


cdef const char *_find_head_end(const char *position, const char *end) noexcept:
    """Return the place of the envelope's time, if the head is short; else NULL."""
    if end - position > _MOST_TEXT_BYTES:
        end = position + _MOST_TEXT_BYTES
    while end - position > 5:
        if memcmp(position, b'"ts":', 5) == 0:
            position += 5
            while position[0] == c" ":
                position += 1
            return position
        position += 1
    return NULL
