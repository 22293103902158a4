"""The registry directory belongs to one user: whoever could write there could have anything scraped, or lost.

Pure, but for looking at the directory. Its sticky bit doesn't help, for it lets everyone add files; an access control
list that lets others write shows in the group's bits, as acl(5) has it.
"""

import os
import shlex
import stat
from pathlib import Path

from busmon.errors import SettingsError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def require_private(path: Path, where: str, *, own: bool = True) -> None:
    """Refuse a directory that others can write to; one that isn't there is nobody's.

    Args:
        path: the directory.
        where: the setting that names it and its origin, for the error.
        own: whether it has to be this user's, or root's, as for one who writes there himself.

    Raises:
        SettingsError: others can write to it; the line says which command ends that.
    """
    try:
        found = path.stat()
    except OSError:
        return
    if found.st_mode & _OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise SettingsError(
            f"{where}: others can write to {path} (mode {mode}): name another directory, or run "
            f"`chmod go-w {shlex.quote(str(path))}`"
        )
    if own and found.st_uid not in {os.geteuid(), 0}:
        raise SettingsError(
            f"{where}: {path} is user {found.st_uid}'s, who can write to it: name another directory, or take "
            f"this one over with `chown {os.geteuid()} {shlex.quote(str(path))}`"
        )
