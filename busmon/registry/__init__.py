"""Envelopes folded into shard files, and shard files into an exposition."""
