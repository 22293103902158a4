"""Named tuples, made in half the time: for what is made for every envelope. Pure."""

bare = tuple.__new__
"""`bare(Class, fields)`: a named tuple of its fields, all of them and in order, which nothing checks."""
