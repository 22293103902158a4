"""Numbers with their nouns, for lines that a person reads. Pure."""


def counted(number: int, noun: str) -> str:
    """Say so many of something: `1 body`, `2 bodies`, `1,234 samples`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"
