"""The sender of what is folded now, who takes the places of series and label values. Pure."""

from busmon.registry.admission.admission import OWN_AGENT
from busmon.registry.admission.principal import Principal
from busmon.wire.json_v1 import UNKNOWN_AGENT


class CurrentSender:
    """Gives the principal that sends what is folded now; whoever folds says who sends.

    Neither the fold nor its routes know each other by it: the fold that a removal replaces has to be freed at once,
    since a worker seldom looks for cycles.

    Attributes:
        said: the user, agent and source.
    """

    def __init__(self) -> None:
        self.said: tuple[str | None, str, str] = None, OWN_AGENT, ""

    def __call__(self) -> Principal:
        """Return the principal; an agent without a name is known by its source, such as its host."""
        user, agent, source = self.said
        return Principal(user or "", source if agent == UNKNOWN_AGENT else agent)
