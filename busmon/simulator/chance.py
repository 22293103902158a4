"""Random values as a platform has them: a level that returns to its usual height, and times and sizes with a long tail.

Everything is drawn from a generator with a seed, so a seed repeats it. One object a thread.
"""

from collections.abc import Mapping, Sequence
from random import Random

_EXACT = 2**16
"""Multiples of 2^-16 add up exactly in any order: one seed gives the same sums, however they are cut into envelopes."""

_PULL = 0.12
"""Share of the distance to its usual height that a level makes good at each step."""


class Chance:
    """A generator of one agent's random values.

    Args:
        seed: of the whole platform.
        name: of what draws from it, so that two of a platform differ.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._random = Random(f"{seed}/{name}")  # noqa: S311 - not for secrets: a seed is to repeat it

    def happens(self, share: float) -> bool:
        """Draw whether something with this probability happens."""
        return self._random.random() < share

    def pick(self, weights: Mapping[str, float] | Sequence[str]) -> str:
        """Draw a name, by its weight where names have one."""
        if isinstance(weights, Mapping):
            return self._random.choices(list(weights), list(weights.values()))[0]
        return self._random.choice(weights)

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return self._random.randint(low, high)

    def between(self, low: float, high: float) -> float:
        """Draw a number, each as probable."""
        return self._random.uniform(low, high)

    def about(self, median: float, spread: float) -> float:
        """Draw a lognormal value, as times and sizes are; a multiple of 2^-16."""
        return round(median * self._random.lognormvariate(0, spread) * _EXACT) / _EXACT

    def noise(self, deviation: float) -> float:
        """Draw a deviation from a height, normally distributed."""
        return self._random.gauss(0, deviation)


class Level:
    """A value that wanders around its usual height, as a queue's length does.

    Args:
        chance: draws its steps.
        usual: the height that it returns to.
        bursts: probability of a burst at a step, and the size of a burst in times of the usual height.
        high: never above.
    """

    def __init__(self, chance: Chance, usual: float, high: float, bursts: tuple[float, float] = (0.0, 0.0)) -> None:
        self._chance = chance
        self._usual, self._high = usual, high
        self._bursts = bursts
        self._value = usual * chance.between(0.7, 1.1)

    def next(self, load: float = 1.0) -> float:
        """Take one step.

        Args:
            load: times of the usual height that it returns to now.
        """
        share, size = self._bursts
        burst = self._usual * size * self._chance.between(0.5, 1.5) if share and self._chance.happens(share) else 0.0
        pull = (self._usual * load - self._value) * _PULL
        self._value = min(self._high, max(0.0, self._value + pull + burst + self._chance.noise(self._usual * 0.06)))
        return self._value
