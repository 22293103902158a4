"""The fleet's publishes: bodies that go to the quarantine or wait for a shard."""
