"""For whom does it work worse, how sure is that, and could it have been seen at all?

``columns``: `sensitive_groups`, `band` and `cross` make groups of people from a column.
``groups``: `group_table`, `mean_table` and `readable`: every measure in every group.
``gaps``: `gaps` and `mean_gaps`: every difference, tested; `correct`.
``chance``: `monte_carlo_interval`, `undecided`: how far other shuffles could move a p value.
``power``: `smallest_gap`, `smallest_gap_of_shares`, `power_of_two_shares`, `power_of_gap`,
    `power_table`: what this test set could have shown.
``criteria``: `incompatible_criteria`, `calibration_by_group`: kinds of fairness that exclude one
    another.
``audit``: `audit`, all of it in one call, and `placebo_worlds`, the audit of the audit.
``report``: `report_table`, `sentences`, `report_html`, `save_report`: to hand on.
``counterfactual``: the same review with one word about the reviewer changed: `make_pairs`,
    `score_pairs`, `rule_effects`.
``exposure``: who gets seen in rankings: `class_exposure`, `correct_exposures`, `gini_of_exposure`,
    `coverage`; ``exposure_worlds``: `exposure_worlds`, the audit of that audit, and `rule_weights`,
    `drawn_lists`, how the market ranks.
``feedback``: `simulate` rounds in which clicks become popularity; `amplification`.
``mitigation``: `mitigated_decisions`, `judge`: what closing a gap costs and who pays.
``reranking``: `exposure_tradeoff`: the same for rankings.
"""

from recsys_lib.fairness.audit import Audit, audit, placebo_worlds
from recsys_lib.fairness.chance import monte_carlo_interval, undecided
from recsys_lib.fairness.columns import band, cross, sensitive_groups
from recsys_lib.fairness.counterfactual import (
    RULES,
    Effect,
    Insertion,
    Swap,
    make_pairs,
    rule_effects,
    score_pairs,
    swapped,
)
from recsys_lib.fairness.criteria import (
    calibration_by_group,
    implied_false_positive_rate,
    implied_mean_of_negatives,
    incompatible_criteria,
)
from recsys_lib.fairness.exposure import (
    ClassExposure,
    Coverage,
    attention,
    class_exposure,
    correct_exposures,
    coverage,
    exposure_per_query,
    gini,
    gini_of_exposure,
    popularity_classes,
)
from recsys_lib.fairness.exposure_worlds import drawn_lists, exposure_worlds, rule_weights
from recsys_lib.fairness.feedback import amplification, over_seeds, shared_winners, simulate
from recsys_lib.fairness.gaps import correct, gaps, mean_gaps
from recsys_lib.fairness.groups import group_table, mean_table, readable
from recsys_lib.fairness.measures import MEASURES, USUAL
from recsys_lib.fairness.mitigation import (
    CRITERIA,
    Mitigated,
    Sample,
    chance_gap,
    judge,
    mitigated_decisions,
    reweighing,
)
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
from recsys_lib.fairness.reranking import (
    Reranked,
    bonus_for,
    exposure_tradeoff,
    favored_share,
    rank_with_bonus,
)

__all__ = [
    "CRITERIA",
    "MEASURES",
    "RULES",
    "USUAL",
    "Audit",
    "ClassExposure",
    "Coverage",
    "Effect",
    "Insertion",
    "Mitigated",
    "Reranked",
    "Sample",
    "Swap",
    "amplification",
    "attention",
    "audit",
    "band",
    "bonus_for",
    "calibration_by_group",
    "chance_gap",
    "class_exposure",
    "correct",
    "correct_exposures",
    "coverage",
    "cross",
    "drawn_lists",
    "exposure_per_query",
    "exposure_tradeoff",
    "exposure_worlds",
    "favored_share",
    "gaps",
    "gini",
    "gini_of_exposure",
    "group_table",
    "implied_false_positive_rate",
    "implied_mean_of_negatives",
    "incompatible_criteria",
    "judge",
    "make_pairs",
    "mean_gaps",
    "mean_table",
    "measure_words",
    "mitigated_decisions",
    "monte_carlo_interval",
    "not_testable",
    "over_seeds",
    "placebo_worlds",
    "popularity_classes",
    "power_of_gap",
    "power_of_two_shares",
    "power_table",
    "rank_with_bonus",
    "readable",
    "report_html",
    "report_table",
    "reweighing",
    "rule_effects",
    "rule_weights",
    "save_report",
    "score_pairs",
    "sensitive_groups",
    "sentences",
    "shared_winners",
    "simulate",
    "smallest_gap",
    "smallest_gap_of_shares",
    "swapped",
    "undecided",
]
