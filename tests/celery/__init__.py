"""Real Celery programs whose events a real fleet counts."""
