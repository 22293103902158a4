"""The meaning of a shard's log."""
