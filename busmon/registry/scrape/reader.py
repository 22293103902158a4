"""The value files of a registry directory, read while its owners write, without a lock.

Each writer's files are followed by themselves (`followed.py`). A file that can't be read is skipped and named with
its reason; it never hides the others. One reader per thread.
"""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from busmon.catalogue.family import GAUGE
from busmon.registry.scrape.followed import FollowedFiles, names_of
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.series.columns import SKETCH


class Reader:
    """The reader of a registry directory, which keeps parts that can't have changed.

    Attributes:
        skipped: the files that couldn't be read, by name, with the reason.
        timed: the columns whose entries' times are read, in addition to the columns that always need them.
    """

    def __init__(self, registry_dir: Path) -> None:
        self.skipped: dict[str, str] = {}
        self.timed: set[str] = set()
        # A bound method would be a cycle, which reference counts don't free.
        self._is_timed = partial(_is_timed, self.timed)
        self._directory = registry_dir
        self._writers: dict[str, FollowedFiles] = {}

    def read(self) -> Iterator[tuple[str, ValueTable]]:
        """Yield every file as it is now, by name, in the order of the writers; each is read when it is asked for."""
        names = names_of(self._directory)
        known = self._writers
        self._writers = {
            writer: known.get(writer) or FollowedFiles(self._directory, writer, self._is_timed) for writer in names
        }
        self.skipped = {}
        for writer, files in self._writers.items():
            files.read(dict.fromkeys(names[writer]).keys())
            self.skipped |= files.skipped
            yield from files.tables.items()


def _is_timed(timed: Collection[str], column: str) -> bool:
    return column in timed or column == SKETCH or column.startswith(GAUGE)
