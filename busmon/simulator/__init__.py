"""A simulated agent platform, run by `busmon simulate`: what it publishes is known, series by series."""
