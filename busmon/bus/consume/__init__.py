"""The fleet's side: deliveries of the shards' queues, settled after the commit."""
