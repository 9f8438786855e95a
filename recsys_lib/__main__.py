"""``python -m recsys_lib``: run the notebooks, get the data, check this machine."""

import sys

from recsys_lib.commands.main import main

if __name__ == "__main__":  # the workers of a sweep import this file
    sys.exit(main())
