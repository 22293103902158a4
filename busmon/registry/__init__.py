"""The registry, from below: `series`, `storage`, `admission`, `ledger` and `celery`, `fold`, `shard`, `scrape`.

`operator` is for people.
"""
