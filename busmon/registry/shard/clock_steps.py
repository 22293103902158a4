"""The shard's times after a step of the wall clock: the ledger's, the streams', the batch's and the value files'.

After a step forwards everything is as old as before, so that nothing that is live counts as silent. After a step back
nothing is later than now, or it would outlast whatever comes until then. One thread of the shard's owner.
"""

from busmon.registry.series.columns import SeriesGroup
from busmon.registry.shard.shard_files import ShardFiles
from busmon.registry.shard.state import ShardState


def move(state: ShardState, seconds: float, now: float) -> None:
    """Move all times by the seconds of a step forwards."""
    state.ledger.move(seconds, now)
    state.fold.move(seconds, now)
    _move_updates(state.files, seconds, now)


def rewind(state: ShardState, now: float) -> bool:
    """Let no time be later than now; return whether one was."""
    return any([state.ledger.move(0.0, now), state.fold.rewind(now), _rewind_files(state, now)])


def _rewind_files(state: ShardState, now: float) -> bool:
    is_changed, files = False, state.files
    for name, file in files.values.items():
        column, doubles = files.columns[name], file.doubles
        for slot in column.slots:
            if doubles[slot + 1] > now:
                is_changed = True
                doubles[slot + 1] = 0.0 if column.restarts else now
                if column.restarts:  # a step that hasn't begun
                    doubles[slot] = 0.0
    for group in state.fold.own_stamps():
        if (stamped := files.values.get(group.column.name)) is not None:
            for slot in _slots_of(group):
                stamped.doubles[slot] = min(stamped.doubles[slot], now)
    return is_changed


def _slots_of(group: SeriesGroup) -> list[int]:
    """Return the first slot of each of a family's series that is in the file."""
    slots = group.column.slots
    return [slots[cell] for cell in group.cells.values() if cell < len(slots)]


def _move_updates(files: ShardFiles, seconds: float, now: float) -> None:
    """Move the times of updates; a gauge's is its event time, which its publisher's clock may have said."""
    for name, file in files.values.items():
        column, doubles = files.columns[name], file.doubles
        for slot in () if column.is_timed else column.slots:
            if doubles[slot + 1]:
                doubles[slot + 1] = min(doubles[slot + 1] + seconds, now)
