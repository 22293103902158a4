"""The publishing thread takes no signal from the program."""

import signal
import threading

from busmon.publish import Telemetry
from busmon.settings import Settings


def test_signals_are_left_to_the_programs_threads() -> None:
    masks: list[set[int]] = []
    looked = threading.Event()

    def look() -> None:
        masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, ())})
        looked.set()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    settings = Settings(amqp_url="amqp://127.0.0.1:1/", publish_interval_seconds=0.01, spool_bytes=0)
    telemetry = Telemetry("analyzer", settings=settings, lifecycle=False)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    telemetry.watch(look, interval_seconds=0)
    assert looked.wait(60)
    telemetry.close(0)
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD} <= masks[0]
    assert signal.SIGSEGV not in masks[0]
