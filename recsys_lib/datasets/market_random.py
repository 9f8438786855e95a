"""Random decisions that come out the same on every machine.

Only the raw bits of PCG64 are used, whose stream NumPy guarantees; everything built on them here
is integer arithmetic, comparison, or a single IEEE operation. Each part of the market draws from
its own stream, so asking for more reviews does not change the products.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 4096


class Draw:
    """A stream of random decisions, named by a seed and a purpose.

    `Draw(0, "products")` and `Draw(0, "reviews")` are independent.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
        self._bits = np.random.PCG64(entropy)
        self._ready: list[float] = []

    def unit(self) -> float:
        """A number in [0, 1) on a grid of 2⁻⁵³."""
        if not self._ready:
            self._ready = ((self._bits.random_raw(_BLOCK) >> np.uint64(11)) * 2.0**-53).tolist()
            self._ready.reverse()
        return self._ready.pop()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def below(self, n: int) -> int:
        """A whole number in 0 … n−1."""
        return int(self.unit() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number in low … high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[int(self.unit() * len(items))]

    def pick_weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of the items, with probability proportional to its weight."""
        return self.pick_cumulative(items, list(accumulate(weights)))

    def pick_cumulative(self, items: Sequence[T], cumulative: Sequence[float]) -> T:
        """Like `pick_weighted`, with the running sums of the weights computed beforehand."""
        at = bisect_right(cumulative, self.unit() * cumulative[-1])
        return items[min(at, len(items) - 1)]

    def sample(self, items: Sequence[T], k: int) -> list[T]:
        """`k` different items in random order (all of them where there are fewer)."""
        pool = list(items)
        k = min(k, len(pool))
        for i in range(k):
            j = i + int(self.unit() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]
