"""The HTTP server: routes, connections with TLS, start and stop."""
