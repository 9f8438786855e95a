"""For whom does it work worse, how sure is that, and could it have been seen at all?

``columns``: `sensitive_groups`, `band` and `cross` make groups of people from a column.
``groups``: `group_table`, `mean_table` and `readable`: every measure in every group.
``gaps``: `gaps` and `mean_gaps`: every difference, tested; `holm`, `correct`.
``power``: `smallest_gap`, `smallest_gap_of_shares`, `power_of_two_shares`, `power_of_gap`,
    `power_table`: what this test set could have shown.
``criteria``: `incompatible_criteria`, `calibration_by_group`: kinds of fairness that exclude one
    another.
``audit``: `audit`, all of it in one call, and `placebo_worlds`, the audit of the audit.
``report``: `report_table`, `sentences`, `report_html`, `save_report`: to hand on.
"""

from recsys_lib.fairness.audit import Audit, audit, placebo_worlds
from recsys_lib.fairness.columns import band, cross, sensitive_groups
from recsys_lib.fairness.criteria import (
    calibration_by_group,
    implied_false_positive_rate,
    implied_mean_of_negatives,
    incompatible_criteria,
)
from recsys_lib.fairness.gaps import correct, gaps, holm, mean_gaps
from recsys_lib.fairness.groups import group_table, mean_table, readable
from recsys_lib.fairness.measures import MEASURES
from recsys_lib.fairness.power import (
    power_of_gap,
    power_of_two_shares,
    power_table,
    smallest_gap,
    smallest_gap_of_shares,
)
from recsys_lib.fairness.report import (
    measure_words,
    not_testable,
    report_html,
    report_table,
    save_report,
    sentences,
)

__all__ = [
    "MEASURES",
    "Audit",
    "audit",
    "band",
    "calibration_by_group",
    "correct",
    "cross",
    "gaps",
    "group_table",
    "holm",
    "implied_false_positive_rate",
    "implied_mean_of_negatives",
    "incompatible_criteria",
    "mean_gaps",
    "mean_table",
    "measure_words",
    "not_testable",
    "placebo_worlds",
    "power_of_gap",
    "power_of_two_shares",
    "power_table",
    "readable",
    "report_html",
    "report_table",
    "save_report",
    "sensitive_groups",
    "sentences",
    "smallest_gap",
    "smallest_gap_of_shares",
]
