"""One shard's files: the commit that makes a batch durable in all of them at once."""
