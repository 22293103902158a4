import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.patience import wait_until

UNFLUSHED = 120
"""Python's status where the last words found no listener."""


def test_the_stack_starts_with_every_target_up_and_ends_with_ctrl_c_though_nobody_listens() -> None:
    command = [sys.executable, "-m", "tests.stack"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=Path(__file__).parents[2]
    ) as stack:
        assert stack.stdout
        said = ""
        while "Ctrl-C ends all" not in said:
            line = stack.stdout.readline()
            assert line, said
            said += line
        prometheus = re.search(r"(http://\S+)  Prometheus", said)
        assert prometheus

        def targets() -> list[str]:
            with urllib.request.urlopen(f"{prometheus[1]}/api/v1/targets", timeout=10) as answer:  # noqa: S310 - ours
                return [target["health"] for target in json.loads(answer.read())["data"]["activeTargets"]]

        try:
            wait_until(lambda: targets() == ["up"] * 5, "all five targets to be up")
        finally:
            stack.stdout.close()
            stack.send_signal(signal.SIGINT)
        assert stack.wait(60) in {0, UNFLUSHED}
