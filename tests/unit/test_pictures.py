from pathlib import Path

import pytest

from tests import pictured


@pytest.mark.parametrize("picture", [*pictured.pictures()], ids=lambda picture: picture.name)
def test_a_picture_in_the_docs_shows_its_sources_as_they_are(picture: Path) -> None:
    shown = " or ".join(str(path.relative_to(pictured.ROOT)) for path in pictured.sources_of(picture))
    assert pictured.stamped(picture) == pictured.digest(picture), f"{shown} changed: run `make pictures`"
