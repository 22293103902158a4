"""What shows busmon at work: a simulated agent platform, a private broker, an audit of totals."""
