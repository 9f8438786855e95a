"""Sweeps: one notebook with many sets of parameters, several at a time, into one tidy table.

``python -m recsys_lib sweep`` is the command on top of it, see `recsys_lib.commands.sweep`.
"""

from recsys_lib.sweeps.points import points_of, varied
from recsys_lib.sweeps.running import PointOutcome, run_points
from recsys_lib.sweeps.table import sweep_table, write_table

__all__ = ["PointOutcome", "points_of", "run_points", "sweep_table", "varied", "write_table"]
