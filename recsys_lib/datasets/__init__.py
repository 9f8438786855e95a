"""Data: the simulated market, the real data sets, your own tables, splits and their leaks.

``market`` makes the shop; ``registry`` and ``download`` know and fetch the real sets; ``reviews``
loads any reviews as one table, ``relevance`` any search task as three; ``splits`` parts them and
``leaks`` audits the parts.
"""

from recsys_lib.datasets.labels import parse_label
from recsys_lib.datasets.leaks import LeakReport, drop_leaks, find_leaks, near_duplicates
from recsys_lib.datasets.market import Market, MarketTruth, make_market, product_picture
from recsys_lib.datasets.registry import datasets, find_dataset, verify_dataset
from recsys_lib.datasets.relevance import Relevance, load_relevance
from recsys_lib.datasets.reviews import Reviews, load_reviews
from recsys_lib.datasets.splits import Split, split_at_random, split_by_group, split_by_time

__all__ = [
    "LeakReport",
    "Market",
    "MarketTruth",
    "Relevance",
    "Reviews",
    "Split",
    "datasets",
    "drop_leaks",
    "find_dataset",
    "find_leaks",
    "load_relevance",
    "load_reviews",
    "make_market",
    "near_duplicates",
    "parse_label",
    "product_picture",
    "split_at_random",
    "split_by_group",
    "split_by_time",
    "verify_dataset",
]
