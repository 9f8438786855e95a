"""The losses of the workbook in numerically stable form, with their gradients in closed form.

``pointwise`` (one logit or one probability per example):
    ``bce_with_logits``, ``naive_bce``, ``cross_entropy_two_logits``
``contrastive`` (embeddings of queries and items):
    ``info_nce``, ``triplet``, and ``same_item_mask`` for false negatives
``ranking`` (a padded list of scores per query):
    ``ranknet``, ``lambdarank``, ``listnet``

Conventions, the same everywhere:

* Inputs are float tensors; half precision is lifted to float32 before any exponential is taken.
* A label ``y`` is the probability of the positive class, so 0/1 or anything between.
* A padded list is a pair of ``(Q, D)`` tensors ``scores`` and ``gains`` with a boolean ``mask``,
  True where a document stands. What stands under the padding, NaN included, changes nothing.
* ``reduction`` is ``"mean"`` (default), ``"sum"`` or ``"none"`` over examples or queries.
* A wrong shape is a ``ValueError`` of one line.

Each ``…_gradient`` function returns the derivative of the *mean* loss, written out by hand as
notebook 01 derives it; the unit tests and the notebook hold it against automatic differentiation.
"""

from recsys_lib.losses.contrastive import (
    info_nce,
    info_nce_gradient,
    same_item_mask,
    triplet,
    triplet_gradient,
)
from recsys_lib.losses.pointwise import (
    bce_gradient,
    bce_with_logits,
    cross_entropy_two_logits,
    naive_bce,
)
from recsys_lib.losses.ranking import (
    lambdarank,
    lambdarank_gradient,
    listnet,
    listnet_gradient,
    ranknet,
    ranknet_gradient,
)

__all__ = [
    "bce_gradient",
    "bce_with_logits",
    "cross_entropy_two_logits",
    "info_nce",
    "info_nce_gradient",
    "lambdarank",
    "lambdarank_gradient",
    "listnet",
    "listnet_gradient",
    "naive_bce",
    "ranknet",
    "ranknet_gradient",
    "same_item_mask",
    "triplet",
    "triplet_gradient",
]
