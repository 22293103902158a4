"""Schedules of faults of a replicated fleet, on a real broker."""
