"""The meaning of a shard's log: the records that count, and the owner that may append them. Pure; no I/O."""
