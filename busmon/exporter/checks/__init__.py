"""The checks of what the platform stands on beside RabbitMQ: PostgreSQL, Redis, whatever else is named, and resources.

A check asks over a fresh connection, within a deadline and behind a circuit breaker, in a thread of the checks' own.
Its finding is kept, and everyone reads the kept one: nobody who asks for readiness waits for a dependency.
"""
