"""Text of strangers on its way to a terminal. Pure."""


def printable(text: str) -> str:
    """Write what could move a cursor or break a line as an escape."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
