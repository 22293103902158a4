"""An operator, a queue and a consumer of it, on the shared node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .consuming import Operator, Running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def operator(vhost: Any) -> Iterator[Operator]:
    with Operator(vhost.amqp_url) as operator:
        yield operator


@pytest.fixture
def queue(operator: Operator) -> str:
    return operator.declare("fold")


@pytest.fixture
def running(vhost: Any, queue: str) -> Iterator[Running]:
    with Running(vhost.amqp_url, queue) as running:
        running.until_consuming()
        yield running
