"""The declarations of `cut.pyx` for `scanning.pyx`."""

from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int16_t, int32_t

cpdef enum Change:
    # The change that a number makes.
    NOTHING
    COUNT  # added to a counter
    SET  # a gauge's value at the envelope's time
    SINCE  # a time of its own, for the gauges behind it
    SET_SINCE  # a gauge's value at that time
    OBSERVE  # a histogram's observation
    LIST  # another observation of the same sample
    ADD_BUCKET  # the count of a bucket
    ADD_SUM  # the sum of the observations that the buckets before it count


cdef struct Number:
    PyObject *target  # None where it is that of the number before
    double value
    int32_t cell
    int16_t bucket
    int8_t change
    bint is_whole


cdef class Target:
    cdef object changed
    cdef double *bounds
    cdef Py_ssize_t width
    cdef int32_t total

    cdef int add(self, int32_t cell, double change) except -1
    cdef int observe(self, int32_t first, double value) except -1


cdef struct Counts:  # of folded samples, by type
    Py_ssize_t counters
    Py_ssize_t gauges
    Py_ssize_t histograms


cdef class Cut:
    cdef readonly bytes body
    cdef readonly Py_ssize_t samples
    cdef Number *numbers
    cdef Py_ssize_t count
    cdef object kept

    cdef int _fold(self, str source, double at, double now, Counts *counts) except -1
    cdef Py_ssize_t _fold_list(self, Target target, int32_t cell, Py_ssize_t place) except -1
    cdef object _find(self, Py_ssize_t place)
