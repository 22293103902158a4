"""The checks of the platform's dependencies other than RabbitMQ: PostgreSQL, Redis, any named service, and resources.

A check asks over a fresh connection, within a deadline and behind a circuit breaker, in a thread of the checks' own.
Its finding is kept, and everyone reads the kept one: nobody who asks for readiness waits for a dependency.
"""
