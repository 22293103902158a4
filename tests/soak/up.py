"""`busmon up` as the soak runs it: it ends with the soak, and its workers are replaced as quickly the tenth time.

A worker that is killed before it has lived for long counts as one that dies of its start, and the waits for its
replacements grow; the soak kills so often that most places would be empty most of the time.
"""

import sys

from busmon.cli import main
from busmon.fleet.supervisor import parent, process

if __name__ == "__main__":
    parent.watch()
    process.PROVEN_SECONDS = 0.5
    sys.exit(main(["up"]))
