import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.connect.callbacks import Gather, surfacing


def test_it_is_done_with_the_last_part_and_only_once(ioloop: IOLoop) -> None:
    done: list[str] = []
    gather = Gather(ioloop, 2, 0.001, lambda: done.append("done"))
    gather.part()
    assert not done
    gather.part()
    assert done == ["done"]
    ioloop.call_later(0.01, ioloop.stop)
    ioloop.start()
    assert done == ["done"]


def test_it_waits_no_longer_than_it_may(ioloop: IOLoop) -> None:
    gather = Gather(ioloop, 1, 0.001, ioloop.stop)
    ioloop.start()
    gather.part()


def test_what_a_surfacing_call_raises_leaves_the_loop_even_if_it_was_caught(ioloop: IOLoop) -> None:
    def fail(reason: str) -> None:
        raise OSError(reason)

    with pytest.raises(OSError, match="disk full"):
        surfacing(ioloop, fail)("disk full")
    with pytest.raises(OSError, match="disk full"):
        ioloop.start()
