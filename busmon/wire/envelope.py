"""The envelope: what one publish says, as every decoder gives it to the fold.

`samples` and `tables` hold what JSON gives (dicts, lists, numbers, strings), unchecked but for being lists: the fold
looks at each sample once, and a second pass over all of them would cost as much as the fold does.
"""

from typing import Any, NamedTuple


class Envelope(NamedTuple):
    """A decoded body.

    Attributes:
        source: one run of one publishing process.
        agent: the agent that publishes, `unknown` where the body doesn't say.
        ts: when the envelope was made, in seconds since the epoch; None where the body doesn't say.
        samples: one object each, as in the wire format.
        tables: the columnar form of samples, as in the wire format.
        final: the source publishes nothing after it.
    """

    source: str
    agent: str
    ts: float | None
    samples: list[Any]
    tables: list[Any]
    final: bool = False
