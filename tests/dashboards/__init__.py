"""Every panel of every dashboard, asked of a real Prometheus, and drawn in a real browser."""
