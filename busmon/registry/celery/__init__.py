"""The memory of Celery: what its events said of tasks and workers, and the points that they make."""
