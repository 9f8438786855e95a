"""``python -m recsys_lib``: run the notebooks, get the data, check this machine."""

import sys

from recsys_lib.commands.main import main

sys.exit(main())
