"""The metric families that the fleet knows: their names, types, labels, buckets and gauge merges, as data.

`platform.toml` is the agent platform's catalogue, `celery.toml` Celery's, `own.toml` busmon's own; a user's files add
to them. Pure: no thread, no process, no third-party import.
"""

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import Family

__all__ = ["Catalogue", "Family"]
