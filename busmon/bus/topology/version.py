"""RabbitMQ's major and minor version, on which the topology depends. Pure."""

import re

Version = tuple[int, ...]

UNKNOWN: Version = ()
"""The version of a broker that doesn't report it; it compares as the oldest."""


def parse(text: object) -> Version:
    """Parse the version at the start of a text such as `4.3.6-rc.1`; return `UNKNOWN` if there is none."""
    found = re.match(r"(\d+)\.(\d+)(?![\d])", text) if isinstance(text, str) else None
    return tuple(map(int, found.groups())) if found else UNKNOWN
