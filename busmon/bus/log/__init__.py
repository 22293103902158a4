"""A shard's log: appended to and read, over AMQP."""
