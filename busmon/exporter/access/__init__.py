"""Access to the exporter: TLS, passwords and tokens, from the web configuration file of Prometheus' exporters."""
