"""`python -m busmon`: the command line, also where no `busmon` script is on the path."""

import sys

from busmon.cli import main

if __name__ == "__main__":
    sys.exit(main())
