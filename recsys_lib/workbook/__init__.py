"""Settings, artifacts, recorded results and running of notebooks: the lowest layer of the library.

A notebook needs three calls: ``book = start(...)`` after its parameters, ``book.record(...)`` for
every number that its text leans on, and ``book.results()`` at its end. What runs whole notebooks
stands apart, in ``parameters`` and ``running``; ``python -m recsys_lib run`` is the command.
"""

from recsys_lib.workbook.artifacts import artifact
from recsys_lib.workbook.errors import InputError, is_disk_full, nearest, saving
from recsys_lib.workbook.files import (
    atomic_file,
    atomic_write,
    data_folders,
    find_data,
    project_folder,
    runs_folder,
)
from recsys_lib.workbook.memory import check_fits, release_memory
from recsys_lib.workbook.results import Book, compare, expected_results
from recsys_lib.workbook.settings import (
    PROFILES,
    Hardware,
    Settings,
    check_settings,
    detect_hardware,
    quiet_libraries,
    seed_everything,
)
from recsys_lib.workbook.starting import start

__all__ = [
    "PROFILES",
    "Book",
    "Hardware",
    "InputError",
    "Settings",
    "artifact",
    "atomic_file",
    "atomic_write",
    "check_fits",
    "check_settings",
    "compare",
    "data_folders",
    "detect_hardware",
    "expected_results",
    "find_data",
    "is_disk_full",
    "nearest",
    "project_folder",
    "quiet_libraries",
    "release_memory",
    "runs_folder",
    "saving",
    "seed_everything",
    "start",
]
