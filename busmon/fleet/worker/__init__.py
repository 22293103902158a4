"""A worker process, which turns deliveries into committed batches and maintains its shards."""
