"""Numbers on the command line, refused in words that say which ones are accepted. Imports nothing but argparse."""

import argparse
from collections.abc import Callable


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers in this range, for argparse's `type`."""
    accepted = f"a whole number from {low}" + ("" if high is None else f" to {high}")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not {accepted}")
        return number

    return parse
