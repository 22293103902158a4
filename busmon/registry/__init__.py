"""The registry: `series` and `storage` below, then `admission` → `fold` → `shard` → `scrape`; `operator` for people."""
