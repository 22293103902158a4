"""The processes: workers and their supervisor."""
