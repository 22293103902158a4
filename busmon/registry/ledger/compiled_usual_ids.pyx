# cython: language_level=3, boundscheck=False, wraparound=False
"""The ids that most envelopes of known sources have, judged as in `usual_ids.py`. One thread."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Contains, PyDict_GetItemWithError, PyDict_SetItem
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Tailmatch
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from busmon.bare cimport bare

from busmon.registry.ledger.source_record import SourceRecord, Verdict
from busmon.registry.ledger.usual_ids import NO_DIGEST

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(str text, Py_ssize_t *length) except NULL

cdef enum:
    _HEAD = -1  # of `PyUnicode_Tailmatch`: the beginning is compared

cdef object _NEW = Verdict.NEW
cdef object _DUPLICATE = Verdict.DUPLICATE
cdef type _RECORD = SourceRecord
cdef object _begin_digest = NO_DIGEST.copy


def admit(
    sources,
    message_ids,
    users,
    double now,
    list verdicts not None,
    *,
    dict known not None,
    dict opened not None,
    ring,
    dict digests not None,
    bint is_free,
):
    """Judge the envelopes behind those with a verdict, up to one that isn't usual, and note those that are new."""
    cdef Py_ssize_t place
    cdef str source
    cdef tuple seen
    cdef PyObject *found
    if not len(sources) == len(message_ids) == len(users):
        raise ValueError("an id and a user for each source")
    at = now
    for place in range(len(verdicts), len(sources)):
        source, message_id, user = sources[place], message_ids[place], users[place]
        found = PyDict_GetItemWithError(opened, source)
        if found is NULL:
            found = PyDict_GetItemWithError(known, source)
        if found is NULL or not message_id:
            return
        seen = <tuple>found
        high, owner = seen[0], seen[4]
        if not is_free and owner and user != owner:
            return
        if not PyUnicode_Tailmatch(message_id, source, 0, len(message_id), _HEAD):
            digest = _digest_of(source, message_id)
            if digest in ring or PyDict_Contains(digests, digest):
                verdicts.append(_DUPLICATE)
                continue
            PyDict_SetItem(digests, digest, at)
        elif message_id == f"{source}:{high + 1}":
            high = high + 1
        else:
            return
        fields = (high, seen[1], seen[2], at, owner, seen[5])
        PyDict_SetItem(opened, source, bare(_RECORD, fields))
        verdicts.append(_NEW)


cdef object _digest_of(str source, str message_id):
    """Return `usual_ids.digest_of` of a source and its id."""
    cdef Py_ssize_t source_length, length
    cdef const char *source_start = PyUnicode_AsUTF8AndSize(source, &source_length)
    cdef const char *start = PyUnicode_AsUTF8AndSize(message_id, &length)
    cdef bytes stated = PyBytes_FromStringAndSize(NULL, source_length + 1 + length)
    cdef char *position = PyBytes_AS_STRING(stated)
    memcpy(position, source_start, source_length)
    position[source_length] = 0
    memcpy(position + source_length + 1, start, length)
    state = _begin_digest()
    state.update(stated)
    cdef bytes digest = state.digest()
    cdef const unsigned char *byte = <const unsigned char *>PyBytes_AS_STRING(digest)
    cdef uint64_t number = 0
    for place in range(8):
        number = number << 8 | byte[place]
    return number
