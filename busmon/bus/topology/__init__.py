"""Exchanges, queues, bindings and users: read from a file, declared on a broker, compared with a broker."""
