"""AMQP's encoding, read in C: for compiled modules, which get these functions inline.

Strangers choose the bytes. `take` alone moves through them, and compares the bytes that are wanted with those that are
left. So no function here reads outside the bytes that it is given.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp

cdef extern from "Python.h":
    bytes PyBytes_FromStringAndSize(const char *start, Py_ssize_t length)
    str PyUnicode_DecodeUTF8(const char *start, Py_ssize_t length, const char *errors)

cdef enum:  # types of frames, and their end
    METHOD = 1
    HEADER = 2
    BODY = 3
    FRAME_END = 0xCE

cdef enum:  # flags of properties
    CONTENT_TYPE = 1 << 15
    CONTENT_ENCODING = 1 << 14
    HEADERS = 1 << 13
    DELIVERY_MODE = 1 << 12
    PRIORITY = 1 << 11
    CORRELATION_ID = 1 << 10
    REPLY_TO = 1 << 9
    EXPIRATION = 1 << 8
    MESSAGE_ID = 1 << 7
    TIMESTAMP = 1 << 6
    TYPE = 1 << 5
    USER_ID = 1 << 4


cdef struct Bytes:  # part of an object's bytes; `at` is NULL where there is none
    const uint8_t *at
    uint64_t length


cdef struct Frame:
    uint64_t kind
    uint64_t channel
    Bytes payload
    uint64_t end


cdef inline Bytes find_bytes(bytes encoded):
    """Return the bytes of an object, which has to outlive them."""
    cdef Bytes found
    found.at, found.length = <const uint8_t *><const char *>encoded, len(encoded)
    return found


cdef inline bint take(Bytes *rest, uint64_t length, Bytes *part) noexcept:
    """Take a part of this length off the rest; return whether the rest has so many bytes."""
    if rest.length < length:
        return False
    part.at, part.length = rest.at, length
    rest.at += length
    rest.length -= length
    return True


cdef inline bint take_number(Bytes *rest, uint64_t length, uint64_t *number) noexcept:
    """Take an unsigned number of so many bytes, at most 8."""
    cdef Bytes part
    if not take(rest, length, &part):
        return False
    number[0] = 0
    for place in range(length):
        number[0] = number[0] << 8 | part.at[place]
    return True


cdef inline bint take_text(Bytes *rest, Bytes *text) noexcept:
    """Take a short string, without the byte of its length."""
    cdef uint64_t length
    return take_number(rest, 1, &length) and take(rest, length, text)


cdef inline bint take_constant(Bytes *rest, Bytes constant) noexcept:
    """Take bytes that have to be these."""
    cdef Bytes found
    return take(rest, constant.length, &found) and are_equal(found, constant)


cdef inline bint take_frame(Bytes *rest, Frame *frame) noexcept:
    """Take a whole frame of any type, with any end."""
    cdef uint64_t length
    return (
        take_number(rest, 1, &frame.kind)
        and take_number(rest, 2, &frame.channel)
        and take_number(rest, 4, &length)
        and take(rest, length, &frame.payload)
        and take_number(rest, 1, &frame.end)
    )


cdef inline bint are_equal(Bytes one, Bytes other) noexcept:
    return one.length == other.length and memcmp(one.at, other.at, one.length) == 0


cdef inline bytes copy(Bytes part):
    return PyBytes_FromStringAndSize(<const char *>part.at, part.length)


cdef inline str decode(Bytes text):
    """Decode a text.

    Raises:
        UnicodeDecodeError: it isn't UTF-8.
    """
    return PyUnicode_DecodeUTF8(<const char *>text.at, text.length, NULL)


cdef inline int check(Bytes text) except -1:
    """Raise as `decode`, at less cost for a text in ASCII."""
    cdef uint8_t bits = 0
    for place in range(text.length):
        bits |= text.at[place]
    if bits & 0x80:
        decode(text)
    return 0
