"""The two meanings of RabbitMQ's NOT_FOUND: a queue or an exchange is missing, or it exists and doesn't answer. Pure.

A missing object has to be declared. One that doesn't answer is back after a while: its node is down, its process starts
or stops, or it has no leader. The texts are those of `not_found/1` and `absent/2` in RabbitMQ's `rabbit_amqqueue.erl`,
the same in 3.10 and 4.3.
"""

from pika import spec

_MISSING = "NOT_FOUND - no "
"""As in "NOT_FOUND - no queue 'q' in vhost '/'"."""


def is_missing(code: int, text: str) -> bool:
    """Return whether the code and the text with which the broker closed a channel state that an object is missing."""
    return code == spec.NOT_FOUND and text.startswith(_MISSING)


def is_unavailable(code: int, text: str) -> bool:
    """Return whether the code and the text state that an object exists and doesn't answer."""
    return code == spec.NOT_FOUND and not text.startswith(_MISSING)
