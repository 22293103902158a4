"""The declarations of `cut.pyx` for `scanning.pyx`."""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t

cpdef enum Way:
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
    PyObject *series
    double value
    int32_t way
    int32_t bucket
    bint is_whole


cdef class Series:
    cdef object changed
    cdef object first
    cdef object sum_cell
    cdef long cell
    cdef double *bounds
    cdef Py_ssize_t width

    cdef int add(self, object cell, double change) except -1
    cdef int observe(self, double value) except -1


cdef class Cut:
    cdef readonly bytes body
    cdef readonly object author
    cdef readonly double at
    cdef readonly Py_ssize_t samples
    cdef Number *numbers
    cdef Py_ssize_t count
    cdef object kept

    cdef Py_ssize_t _fold_list(self, Series series, Py_ssize_t place) except -1
    cdef object _find(self, Py_ssize_t place)
