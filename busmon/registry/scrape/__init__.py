"""The text of a scrape, made from value files while their owners write, without a lock."""
