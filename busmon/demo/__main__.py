"""`python -m busmon.demo`, which `make demo` runs: plays the demo, or says in one line what is missing."""

import os
import sys

from busmon import settings
from busmon.demo import demo
from busmon.errors import BusmonError, SettingsError


def main() -> int:
    """Play the demo as the environment says; the exit status."""
    try:
        return demo.run(settings.load(), _seconds(os.environ.get("DEMO_SECONDS", "")))
    except BusmonError as error:
        sys.stderr.write(f"busmon demo: {error}\n")
        return error.exit_status


def _seconds(text: str) -> float | None:
    """How long to publish unattended: a word to `make demo`, not a setting of busmon's."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:  # noqa: PLR2004 - a day
        raise SettingsError(f"DEMO_SECONDS from the environment: {text!r} is not a number of seconds from 1 to 86400")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
