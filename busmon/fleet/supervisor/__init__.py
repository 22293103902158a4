"""The supervisor: a process that starts, watches and restarts workers and exporter."""
