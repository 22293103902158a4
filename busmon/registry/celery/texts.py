"""A table of texts for a journal's record, so that a text which many entries have is written once. Pure."""


class Texts:
    """The texts of one record, each by its place."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return the place of a text, which gets one if it has none."""
        return self._places.setdefault(text, len(self._places))

    def list_all(self) -> list[str]:
        """Return all texts, in the order of their places."""
        return [*self._places]
