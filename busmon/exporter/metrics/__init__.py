"""The answer to a scrape of `/metrics`: the registry's text and the exporter's own families."""
