"""Numbers on the command line, refused in words that say which ones are accepted. Imports nothing heavy."""

import argparse
import math
from collections.abc import Callable


def between(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers in this range, for argparse's `type`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} isn't a number from {low:g} to {high:g}")
        return number

    return parse


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Make a parser of whole numbers in this range, for argparse's `type`."""
    accepted = f"a whole number from {low}" + ("" if high is None else f" to {high}")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{text!r} isn't {accepted}")
        return number

    return parse
