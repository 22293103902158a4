"""Value files into the text of a scrape, beside their writers and without a lock."""
