"""The image: two builds of one checkout give the same image, and it adds little to its base."""

from typing import NamedTuple

from busmon import __version__
from tests.engine.engine import CACHE, Engine

EPOCH = "1764460800"
BASE = "python:3.13.7-slim-bookworm"
MEGABYTES = 80


class Image(NamedTuple):
    """A built image.

    Attributes:
        id: the digest of its configuration.
        layers: the digests of their contents.
        own_bytes: the size of the layers on those of the base image.
        version: the answer of its `--version`.
    """

    id: str
    layers: list[str]
    own_bytes: int
    version: str


def build(engine: Engine) -> Image:
    """Build the image without the cache of an earlier build, from files that are all younger than that build."""
    for path in (CACHE / "checkout").rglob("*"):
        path.touch()
    arguments = ("--file", "/srv/checkout/docker/Dockerfile", "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}")
    built = engine.docker("build", "--quiet", "--no-cache", *arguments, "/srv/checkout").strip()
    found, base = engine.inspect(built), engine.inspect(BASE)
    version = engine.docker("run", "--rm", "--network", "none", built, "--version").strip()
    engine.docker("image", "rm", "--force", built)
    return Image(found["Id"], found["RootFS"]["Layers"], found["Size"] - base["Size"], version)


def test_two_builds_of_one_checkout_give_one_image_and_it_adds_little_to_its_base(engine: Engine) -> None:
    first, second = build(engine), build(engine)
    assert first.layers == second.layers
    assert first.id == second.id
    assert first.version == f"busmon {__version__} (compiled)"
    assert 50 < first.own_bytes / 1_000_000 < MEGABYTES
