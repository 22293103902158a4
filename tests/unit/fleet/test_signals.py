from __future__ import annotations

import os
import select
import signal

from busmon.fleet.signals import inbox


def test_signals_come_in_order_and_each_time() -> None:
    with inbox(signal.SIGUSR1, signal.SIGUSR2) as signals:
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        assert signals.wait(0) == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]
        assert signals.wait(0) == []


def test_a_signal_ends_the_wait_and_wakes_a_loop_that_watches() -> None:
    with inbox(signal.SIGALRM) as signals:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert signals.wait(3600) == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert select.select([signals], [], [])[0] == [signals]


def test_what_handled_a_signal_before_handles_it_afterwards() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with inbox(signal.SIGUSR1):
        assert signal.getsignal(signal.SIGUSR1) != before
    assert signal.getsignal(signal.SIGUSR1) == before
