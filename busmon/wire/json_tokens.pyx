# cython: language_level=3, boundscheck=False, wraparound=False
"""The tokens of JSON that a scan needs: where a text ends and a number begins, and the number's value.

Python's bytes end with a NUL that isn't counted. Each loop ends at a NUL, so no read is behind it. Pure.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0

cdef enum:
    _MOST_DIGITS = 15  # of a whole number, which a double holds exactly
    _MOST_PRECISION = 18  # digits that 64 bits hold
    _MOST_LENGTH = 300  # digits behind a point or an e

cdef uint64_t _LARGEST_EXACT = 1ULL << 53
cdef double[_MOST_PRECISION + 1] _POWERS  # of ten, which a double holds exactly up to 22
cdef int _power
_POWERS[0] = 1.0
for _power in range(1, _MOST_PRECISION + 1):
    _POWERS[_power] = _POWERS[_power - 1] * 10.0

cdef bint[256] _ENDS_TEXT  # whether a byte ends what is outside of strings and numbers
cdef bint[256] _ENDS_STRING  # or a string, or its plain part
cdef int _byte
for _byte in range(256):
    _ENDS_TEXT[_byte] = _byte in b'\0"-0123456789'
    _ENDS_STRING[_byte] = _byte in b'\0"\\'


cdef bint is_number(char first) noexcept:
    return first == c"-" or c"0" <= first <= c"9"


cdef const char *find_text_end(const char *position, const char *end) noexcept:
    """Return the place of the first number outside of strings, or the end; NULL where the body can't be JSON."""
    while True:
        while not _ENDS_TEXT[<unsigned char>position[0]]:
            position += 1
        if position[0] != c'"':
            return position if position[0] or position == end else NULL
        position += 1
        while not _ENDS_STRING[<unsigned char>position[0]] or position[0] == c"\\":
            position += 2 if position[0] == c"\\" and position[1] else 1
        if position[0] == 0:
            return NULL
        position += 1


cdef const char *read_number(const char *position, double *value, bint *is_whole) except? NULL:
    """Read a number of JSON's grammar, and return the place behind it; NULL where there is none, or an unusual one."""
    cdef const char *start = position
    cdef char *behind = NULL
    cdef uint64_t digits = 0
    cdef int length = 0, fraction = 0, exponent = 0
    cdef bint is_negative = position[0] == c"-"
    position += is_negative
    if position[0] == c"0":
        position += 1
        length = 1
    while length <= _MOST_DIGITS and c"0" <= position[0] <= c"9":
        if length and not digits:
            return NULL  # a zero leads
        digits = 10 * digits + (position[0] - c"0")
        position += 1
        length += 1
    if length == 0 or length > _MOST_DIGITS:
        return NULL
    is_whole[0] = position[0] not in (c".", c"e", c"E")
    if is_whole[0]:
        value[0] = -<double>digits if is_negative else <double>digits
        return NULL if is_negative and not digits else position  # JSON's -0 is a whole number
    if position[0] == c".":
        position += 1
        while fraction <= _MOST_LENGTH and c"0" <= position[0] <= c"9":
            if length + fraction < _MOST_PRECISION:
                digits = 10 * digits + (position[0] - c"0")
            position += 1
            fraction += 1
        if fraction == 0 or fraction > _MOST_LENGTH:
            return NULL
    if position[0] not in (c"e", c"E"):
        if length + fraction <= _MOST_PRECISION and digits <= _LARGEST_EXACT:
            value[0] = <double>digits / _POWERS[fraction]
            if is_negative:
                value[0] = -value[0]
            return position
    else:
        position += 1
        if position[0] in (c"+", c"-"):
            position += 1
        while exponent <= _MOST_LENGTH and c"0" <= position[0] <= c"9":
            position += 1
            exponent += 1
        if exponent == 0 or exponent > _MOST_LENGTH:
            return NULL
    value[0] = PyOS_string_to_double(start, &behind, NULL)
    return position if behind == position else NULL
