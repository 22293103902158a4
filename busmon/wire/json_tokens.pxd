"""The declarations of `json_tokens.pyx` for the scan."""

cdef bint is_number(char first) noexcept
cdef const char *find_text_end(const char *position, const char *end) noexcept
cdef const char *read_number(const char *position, double *value, bint *is_whole) except? NULL
