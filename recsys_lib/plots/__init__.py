"""The workbook's pictures: one style, one small function per recurring picture.

Every function takes arrays or frames and returns a `Figure`; `show` puts it into the notebook with
its alt text. The colors are Okabe and Ito's, told apart by readers with any color vision; line
styles, markers and hatches vary along with them, so that a greyscale print reads as well. A title
states the finding, so each function asks for it.
"""

from recsys_lib.plots.amounts import bars, heatmap, intervals, lengths, product_grid
from recsys_lib.plots.audits import found_shares, quality_against_gap, rounds, spreads
from recsys_lib.plots.curves import (
    calibration,
    learning_curve,
    lines,
    loss_and_slope,
    precision_recall,
    roc,
    threshold_cost,
    training_curves,
)
from recsys_lib.plots.explanations import erasure_curves, word_pairs
from recsys_lib.plots.groups import group_panels, incompatible, worlds
from recsys_lib.plots.ranking import (
    discounts,
    few_shot,
    grouped_intervals,
    rankings_side_by_side,
    win_loss,
)
from recsys_lib.plots.style import COLORS, LINES, MARKERS, look, show, use_style
from recsys_lib.plots.tokens import token_heatmap
from recsys_lib.plots.tradeoffs import index_tradeoff, quality_against_latency

__all__ = [
    "COLORS",
    "LINES",
    "MARKERS",
    "bars",
    "calibration",
    "discounts",
    "erasure_curves",
    "few_shot",
    "found_shares",
    "group_panels",
    "grouped_intervals",
    "heatmap",
    "incompatible",
    "index_tradeoff",
    "intervals",
    "learning_curve",
    "lengths",
    "lines",
    "look",
    "loss_and_slope",
    "precision_recall",
    "product_grid",
    "quality_against_gap",
    "quality_against_latency",
    "rankings_side_by_side",
    "roc",
    "rounds",
    "show",
    "spreads",
    "threshold_cost",
    "token_heatmap",
    "training_curves",
    "use_style",
    "win_loss",
    "word_pairs",
    "worlds",
]
