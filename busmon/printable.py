"""Text of strangers on its way to a terminal: nothing of it moves a cursor, sets a colour or breaks a line. Pure."""


def printable(text: str) -> str:
    """Replace each unprintable character with U+FFFD."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def escape(text: str) -> str:
    """Write each unprintable character as an escape of its code, so that a reader sees which one it is."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
