"""The correctness and delay of the alerts: labelled episodes, half of them negatives, through a real Prometheus.

    python benchmarks/alerts.py                     to tune by: faults begin at once
    python benchmarks/alerts.py --final --write     the held-out seeds and shapes; the table goes into docs/alerting.md

A firing is an alert in an episode. It is right where the episode's fault makes the alert's condition true, and false
everywhere else. Delays count from the fault's onset, and from the crossing: when the expression is first true. The
bound is Clopper and Pearson's (1934), one-sided.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import entry
from alert_replay import Intervals, Replay, contradict, firings
from alert_traces import FAULTS, SECONDS, Episode, episodes, series

from busmon import rules

ROUNDS = 7
GRACE = 480.0
"""After the end a window and `keep_firing_for` may still hold an alert."""

PAGE = Path("docs/alerting.md")
BEGIN, END = "<!-- Written by `python benchmarks/alerts.py --final --write`: -->", "<!-- until here. -->"


@dataclass(slots=True)
class Score:
    """The result for one alert."""

    right: int = 0
    false: list[str] = field(default_factory=list)
    expected: int = 0
    missed: list[str] = field(default_factory=list)
    from_onset: list[float] = field(default_factory=list)
    from_crossing: list[float] = field(default_factory=list)
    reset: list[float] = field(default_factory=list)

    def take(self, episode: Episode, name: str, found: Intervals) -> None:
        """Count one episode."""
        right = [row for row in found if name in episode.may and episode.onset <= row[1] <= episode.end + GRACE]
        self.right += bool(right)
        if len(right) < len(found):
            self.false.append(f"{episode.kind} ({episode.seed})")
        if name not in episode.must:
            return
        self.expected += 1
        in_time = [row for row in right if row[1] <= episode.end]
        if not in_time:
            self.missed.append(f"{episode.kind} ({episode.seed}, strength {episode.strength:.3f}, {episode.shape})")
            return
        began, fired, _ = in_time[0]
        self.from_onset.append(fired - episode.onset)
        self.from_crossing.append(fired - began)
        if episode.end <= (ended := right[-1][2]) < SECONDS:
            self.reset.append(ended - episode.end)


def main() -> None:
    """Replay, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--final", action="store_true", help="the held-out seeds and shapes")
    arguments.add_argument("--write", action="store_true", help="write the table into docs/alerting.md")
    arguments.add_argument("--rounds", type=int, default=ROUNDS, help=f"episodes of each fault (default: {ROUNDS})")
    given = arguments.parse_args()
    for program in ("promtool", "prometheus"):
        entry.require_program(program, "apt-get install prometheus")
    seed, shapes = ("held-out", ("step", "ramp", "flapping")) if given.final else ("tune", ("step",))
    played = episodes(given.rounds, seed, shapes)
    lines = list(report(played))
    print("\n".join(lines))
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")


def report(played: Sequence[Episode]) -> Iterator[str]:
    """Run the episodes, and yield the lines of the report."""
    groups = [group for groups in rules.read(rules.Thresholds.load()).values() for group in groups]
    names = sorted(frozenset().union(*(fault.must | fault.may for fault in FAULTS.values())))
    began = time.monotonic()
    scores = {name: Score() for name in names}
    with tempfile.TemporaryDirectory(prefix="busmon-alerts-") as directory:
        replay = Replay(Path(directory), groups)
        traces = {episode.number: series(episode) for episode in played}
        replay.load(traces)
        say(began, f"{len(played)} episodes of {SECONDS // 60} minutes in blocks")
        replay.record(names)
        say(began, "recorded")
        checked: dict[str, str] = {}
        with replay.server() as address:
            for measured in replay.list_measured(names):
                name, found = measured.alert.name, firings(address, measured)
                for episode in played:
                    scores[name].take(episode, name, found.get(episode.number, []))
                first = next((row for row in played if name in row.must and found.get(row.number)), None)
                if first:
                    fired = next((row[1] for row in found[first.number] if row[1] >= first.onset), 0.0)
                    checked[name] = contradict(Path(directory), groups, name, traces[first.number], fired)
        say(began, "asked and cross-checked")
    yield from table(scores)
    yield ""
    yield from summary(scores, played, checked)


def say(began: float, done: str) -> None:
    """Print progress, on a terminal or in a log."""
    print(f"{time.monotonic() - began:5.0f} s  {done}", flush=True)


def table(scores: dict[str, Score]) -> Iterator[str]:
    """Print one line for each alert."""
    onset, crossing = "From onset, s: p50 / p95 / max", "From crossing, s: p50 / p95 / max"
    yield f"| Alert | Firings | Precision | Recall | {onset} | {crossing} | Reset, s: p50 / max |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, score in sorted(scores.items()):
        total = score.right + len(score.false)
        precision = f"{score.right / total:.1%}" if total else "-"
        recall = f"{1 - len(score.missed) / score.expected:.1%} of {score.expected}" if score.expected else "-"
        onset, crossing = (three(delays) for delays in (score.from_onset, score.from_crossing))
        reset = f"{quantile(score.reset, 0.5):.0f} / {max(score.reset):.0f}" if score.reset else "-"
        yield f"| {name} | {total} | {precision} | {recall} | {onset} | {crossing} | {reset} |"


def summary(scores: dict[str, Score], played: Sequence[Episode], checked: dict[str, str]) -> Iterator[str]:
    """Sum up the results, and list each wrong episode by its seed."""
    false = sum(len(score.false) for score in scores.values())
    total = false + sum(score.right for score in scores.values())
    negatives = sum(not episode.must for episode in played)
    yield f"{len(played)} episodes, {negatives} of them negatives. {false} of {total} firings were false:"
    if total:
        yield f"{false / total:.2%}, at most {limit_share(false, total):.2%} with 95 % confidence."
    agreed = sum(not said for said in checked.values())
    yield f"promtool agreed on the moment of firing in {agreed} of {len(checked)} alerts cross-checked."
    yield from (f"- promtool on {name}: {said}" for name, said in checked.items() if said)
    for name, score in sorted(scores.items()):
        yield from (f"- false: {name} in {place}" for place in score.false)
        yield from (f"- missed: {name} in {place}" for place in score.missed)


def three(delays: Sequence[float]) -> str:
    """Word the median, the 95th percentile and the maximum."""
    return f"{quantile(delays, 0.5):.0f} / {quantile(delays, 0.95):.0f} / {max(delays):.0f}" if delays else "-"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def limit_share(found: int, total: int, confidence: float = 0.95) -> float:
    """Find the largest share that shows at most `found` in `total` with a chance of at least 1 - confidence."""
    low, high = found / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(found, total, middle) > 1 - confidence else (low, middle)
    return high


def at_most(found: int, total: int, share: float) -> float:
    """Compute the chance of at most `found` in `total`."""
    chance = (1 - share) ** total
    together = chance
    for number in range(found):
        chance *= (total - number) / (number + 1) * share / (1 - share) if share < 1 else 0
        together += chance
    return together


if __name__ == "__main__":
    entry.run(main)
