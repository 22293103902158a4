"""Everything that speaks AMQP."""
