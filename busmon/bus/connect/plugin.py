"""The refusal of a ring's exchange by a broker whose plugin for consistent hashing is off, and its remedy. Pure."""

CONSISTENT_HASH = "x-consistent-hash"
ENABLE = "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on RabbitMQ's host"


def is_off(text: str) -> bool:
    """Check the text with which the broker closed a channel or a connection.

    RabbitMQ says `unknown exchange type`, or `invalid exchange type` once it has read such an exchange from its disk.
    The code is 503, which ends the connection, and from RabbitMQ 4 on 406.
    """
    return f"exchange type '{CONSISTENT_HASH}'" in text
