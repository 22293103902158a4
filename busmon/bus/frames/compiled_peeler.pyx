# cython: language_level=3, cdivision=True
"""Plain deliveries, taken apart where they are in received bytes: `peeler.py`, compiled.

Properties are read in order, which is quicker here than to look for their layout. For any bytes the results are those
of `peeler.py` and `peeled_properties.py`. Strangers choose the bytes: `encoding.pxd` alone reads them. Pure memory. On
the thread of the loop.
"""

from struct import pack

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from busmon.bare cimport bare
from busmon.bus.frames.encoding cimport BODY, FRAME_END, HEADER, METHOD
from busmon.bus.frames.encoding cimport CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DELIVERY_MODE, EXPIRATION
from busmon.bus.frames.encoding cimport HEADERS, MESSAGE_ID, PRIORITY, REPLY_TO, TIMESTAMP, TYPE, USER_ID
from busmon.bus.frames.encoding cimport Bytes, Frame, are_equal, check, copy, decode, find_bytes
from busmon.bus.frames.encoding cimport take, take_constant, take_frame, take_number, take_text

from pika import spec

from busmon.bus.frames.delivery import STAMPS, Delivery, UnreadDelivery
from busmon.bus.frames.peeled_properties import MAX_HEADERS, UNREAD
from busmon.bus.frames.peeler import CONSUMER

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(str text, Py_ssize_t *length) except NULL

cdef enum:
    NO_CHANNEL = 1 << 16  # the numbers of channels have 16 bits
    TEXTS_BITS = 8


cdef struct Parts:  # of a plain delivery: those that differ from one to the next
    uint64_t channel
    uint64_t tag
    uint64_t bits
    Bytes exchange
    Bytes routing_key
    Bytes properties
    Bytes body


cdef struct Properties:  # those that a worker uses
    Bytes content_type
    Bytes content_encoding
    Bytes message_id
    Bytes user_id
    double published_at  # 0 if no header has it
    bint is_unread  # the headers were skipped


cdef bytes _method_start = pack(">I", spec.Basic.Deliver.INDEX) + CONSUMER
cdef bytes _header_start = pack(">HH", spec.BasicProperties.INDEX, 0)  # class and weight
cdef bytes _publishers_stamp = STAMPS[0][0].encode()
cdef bytes _brokers_stamp = STAMPS[1][0].encode()
cdef Bytes METHOD_START = find_bytes(_method_start)
cdef Bytes HEADER_START = find_bytes(_header_start)
cdef Bytes PUBLISHERS_STAMP = find_bytes(_publishers_stamp)
cdef Bytes BROKERS_STAMP = find_bytes(_brokers_stamp)
cdef double PUBLISHERS_UNIT = STAMPS[0][1]
cdef double BROKERS_UNIT = STAMPS[1][1]
cdef int MOST_HEADERS = MAX_HEADERS
cdef uint64_t SPREAD = 0x9E3779B97F4A7C15  # a factor that spreads any difference over the upper bits of a product
cdef object NOT_READ = UNREAD
cdef type DELIVERY = Delivery
cdef type UNREAD_DELIVERY = UnreadDelivery


cdef class Peeler:
    """The channels that have plain deliveries, and the texts that were decoded last."""

    cdef dict _bases
    cdef list _texts

    def __init__(self):
        self._bases = {}
        self._texts = [""] * (1 << TEXTS_BITS)

    def add(self, channel_number, base):
        """Take this channel's deliveries apart from now on, with `base` added to their tags."""
        self._bases[channel_number] = base

    def remove(self, channel_number):
        """Leave this channel's deliveries from now on."""
        self._bases.pop(channel_number, None)

    def take_apart(self, bytes buffer not None, received_at):
        """Take apart the plain and whole deliveries at the buffer's start.

        Args:
            buffer: received bytes.
            received_at: the deliveries' time of receipt, in seconds since the epoch.

        Returns:
            where the rest begins, and the deliveries of each channel, in the order in which channels were added.
        """
        cdef Bytes rest = find_bytes(buffer)
        cdef uint64_t left = rest.length, channel = NO_CHANNEL
        cdef Parts parts
        cdef Properties properties
        cdef list deliveries = None
        cdef object base = None
        cdef dict peeled = {number: [] for number in self._bases}
        try:
            while take_delivery(&rest, &parts) and read_properties(parts.properties, &properties):
                if parts.channel != channel:
                    base, deliveries, channel = self._bases[parts.channel], peeled[parts.channel], parts.channel
                deliveries.append(self._make(base, &parts, &properties, received_at))
                left = rest.length
        except (KeyError, UnicodeDecodeError):
            pass  # the next delivery is of another channel, or isn't plain
        return len(buffer) - left, peeled

    def is_begun(self, bytes buffer not None, uint64_t position):
        """Return whether the rest begins a plain delivery and isn't whole: pika would wait for its frame, too."""
        cdef Bytes rest = find_bytes(buffer), passed
        cdef Frame method, header, body
        cdef uint64_t size
        if not take(&rest, position, &passed) or not take_frame(&rest, &method):
            return True
        if method.channel not in self._bases or not is_method(&method):
            return False
        if not take_frame(&rest, &header):
            return True
        if take_frame(&rest, &body) or not is_header(&header, method.channel):
            return False
        return not take_number(&header.payload, 8, &size) or size > 0

    cdef _make(self, base, Parts *parts, Properties *properties, received_at):
        """Make a delivery; raise UnicodeDecodeError if one of its texts isn't UTF-8."""
        cdef object published_at = None
        if properties.is_unread:
            published_at = NOT_READ
        elif properties.published_at > 0:
            published_at = properties.published_at
        fields = (
            copy(parts.body),
            base + parts.tag,
            parts.bits & 1 == 1,
            self._find_text(parts.exchange),
            self._find_text(parts.routing_key),
            self._find_text(properties.content_type),
            self._find_text(properties.content_encoding),
            decode(properties.message_id) if properties.message_id.at is not NULL else None,
            published_at,
            self._find_text(properties.user_id),
            copy(parts.properties),
            received_at,
            parts.body.length + parts.properties.length,
        )
        return bare(UNREAD_DELIVERY if properties.is_unread else DELIVERY, fields)

    cdef str _find_text(self, Bytes encoded):
        """Return a text that is often the same; decode it if it isn't the last one of its place."""
        cdef Py_ssize_t length, place = find_place(encoded)
        cdef const char *known
        if encoded.at is NULL:
            return None
        text = <str>self._texts[place]
        known = PyUnicode_AsUTF8AndSize(text, &length)
        if <uint64_t>length != encoded.length or memcmp(known, encoded.at, encoded.length) != 0:
            text = self._texts[place] = decode(encoded)
        return text


cdef inline Py_ssize_t find_place(Bytes encoded) noexcept:
    """Return a text's place among those that were decoded: the upper bits of a hash."""
    cdef uint64_t mixed = encoded.length, word
    while encoded.length >= sizeof(word):
        memcpy(&word, encoded.at, sizeof(word))
        mixed = (mixed ^ word) * SPREAD
        mixed ^= mixed >> 32
        encoded.at += sizeof(word)
        encoded.length -= sizeof(word)
    for place in range(encoded.length):
        mixed = mixed << 8 ^ mixed >> 56 ^ encoded.at[place]
    return <Py_ssize_t>(mixed * SPREAD >> 64 - TEXTS_BITS)


cdef bint is_method(Frame *frame) noexcept:
    """Return whether a frame begins a plain delivery, and take what is the same in each off its payload."""
    return frame.kind == METHOD and frame.end == FRAME_END and take_constant(&frame.payload, METHOD_START)


cdef bint is_header(Frame *frame, uint64_t channel) noexcept:
    """As `is_method`, of the second frame."""
    return (
        frame.kind == HEADER
        and frame.channel == channel
        and frame.end == FRAME_END
        and take_constant(&frame.payload, HEADER_START)
    )


cdef bint take_delivery(Bytes *rest, Parts *parts) noexcept:
    """Take a whole delivery; return whether there is one that is plain in all but texts and properties."""
    cdef Frame method, header, body
    cdef uint64_t size
    if not (
        take_frame(rest, &method)
        and take_frame(rest, &header)
        and take_frame(rest, &body)
        and is_method(&method)
        and take_number(&method.payload, 8, &parts.tag)
        and take_number(&method.payload, 1, &parts.bits)
        and take_text(&method.payload, &parts.exchange)
        and take_text(&method.payload, &parts.routing_key)
        and method.payload.length == 0
        and is_header(&header, method.channel)
        and take_number(&header.payload, 8, &size)
        and body.kind == BODY
        and body.channel == method.channel
        and body.end == FRAME_END
        and 0 < size == body.payload.length
    ):
        return False
    parts.channel, parts.properties, parts.body = method.channel, header.payload, body.payload
    return True


cdef bint read_properties(Bytes rest, Properties *found) except -1:
    """Read the properties that a worker uses, in their order; return whether they are whole.

    Raises:
        UnicodeDecodeError: the name of a header isn't UTF-8.
    """
    cdef uint64_t flags, length, numbers
    cdef Bytes passed
    memset(found, 0, sizeof(Properties))
    if not take_number(&rest, 2, &flags):
        return False
    numbers = (flags & DELIVERY_MODE != 0) + (flags & PRIORITY != 0)
    if flags & CONTENT_TYPE and not take_text(&rest, &found.content_type):
        return False
    if flags & CONTENT_ENCODING and not take_text(&rest, &found.content_encoding):
        return False
    if flags & HEADERS:
        if not (take_number(&rest, 4, &length) and length <= rest.length and read_headers(rest, length, found)):
            return False
        take(&rest, length, &passed)
    return (
        take(&rest, numbers, &passed)
        and (not flags & CORRELATION_ID or take_text(&rest, &passed))
        and (not flags & REPLY_TO or take_text(&rest, &passed))
        and (not flags & EXPIRATION or take_text(&rest, &passed))
        and (not flags & MESSAGE_ID or take_text(&rest, &found.message_id))
        and (not flags & USER_ID or (  # behind it is nothing of use
            (not flags & TIMESTAMP or take(&rest, 8, &passed))
            and (not flags & TYPE or take_text(&rest, &passed))
            and take_text(&rest, &found.user_id)
        ))
    )


cdef bint read_headers(Bytes rest, uint64_t length, Properties *found) except -1:
    """Read the time of the publish in the table of this length; skip a table of other kinds, or of too many headers.

    Returns:
        whether no header ends behind all properties.

    Raises:
        UnicodeDecodeError: the name of a header isn't UTF-8.
    """
    cdef uint64_t behind = rest.length - length, kind, number
    cdef int64_t stamp, publishers = 0, brokers = 0
    cdef Bytes name, passed
    cdef int count = 0
    found.is_unread = True
    while rest.length > behind and count < MOST_HEADERS:
        if not take_text(&rest, &name):
            return False
        check(name)
        if not take_number(&rest, 1, &kind):
            return False
        stamp = 0
        if kind == c"S":
            if not take_number(&rest, 4, &number):
                return False
            if not take(&rest, number, &passed):
                return True
        elif kind == c"l" and take_number(&rest, 8, &number):
            stamp = <int64_t>number
        elif kind == c"I" and take_number(&rest, 4, &number):
            stamp = <int32_t>number
        else:
            return True
        if are_equal(name, PUBLISHERS_STAMP):
            publishers = stamp
        elif are_equal(name, BROKERS_STAMP):
            brokers = stamp
        count += 1
    if rest.length == behind:
        found.is_unread = False
        found.published_at = publishers / PUBLISHERS_UNIT if publishers > 0 else brokers / BROKERS_UNIT
    return True
