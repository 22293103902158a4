"""Properties as publishers state them: the SDK's, and any."""

from typing import Any

from hypothesis import strategies as st
from pika import BasicProperties

from busmon.bus.frames.delivery import read_publish_time

PLAIN = BasicProperties(
    content_type="application/json",
    delivery_mode=2,
    message_id="a:1",
    app_id="a",
    headers={"source": "a", "published_at_ns": 1_763_794_800_123_456_789},
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
headers = st.dictionaries(
    texts,
    st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none()),
    max_size=4,
)
properties = st.builds(
    BasicProperties,
    content_type=st.none() | texts,
    content_encoding=st.none() | texts,
    headers=st.none() | headers,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | texts,
    reply_to=st.none() | texts,
    message_id=st.none() | texts,
    timestamp=st.none() | st.integers(0, 2**31),
    type=st.none() | texts,
    user_id=st.none() | texts,
    app_id=st.none() | texts,
)


def told(properties: BasicProperties) -> tuple[Any, ...]:
    """Return the few properties that a worker reads at once, as pika decodes them."""
    names = ("content_type", "content_encoding", "message_id")
    return *(getattr(properties, name) for name in names), read_publish_time(properties.headers), properties.user_id
