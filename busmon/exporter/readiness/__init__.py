"""Readiness: the states of workers and shards, and the faults that they mean."""
