"""Exercises of notebook 01. Each check computes what typical mistakes would give.

A check prints one line, "✓ …" or "✗ …" with a hint about *this* answer, and returns whether the
answer is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_lib.exercises.answers import as_array, examine, recognize, say


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -z))


# --- 1: the slope of another loss ----------------------------------------------------------------


def check_brier_slope(answer: object) -> bool:
    """Exercise 1: ``brier_slope(z, y)``, the derivative of (σ(z) − y)² by each z."""
    z = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 4.0])
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])

    def check() -> bool:
        given = as_array(answer(z.copy(), y.copy()), z.shape, "slope")
        h = _sigmoid(z)
        right = 2 * (h - y) * h * (1 - h)
        if np.allclose(given, right, atol=1e-9):
            return say(
                True,
                "2 (h − y) h (1 − h): unlike the slope of the cross-entropy it vanishes on the "
                "worst mistakes too, which is why nobody starts training with it",
            )
        hint = recognize(
            given,
            {
                "this is the slope by h; the chain rule asks for ∂h/∂z = h (1 − h) as well": (
                    2 * (h - y)
                ),
                "this is the slope of the cross-entropy; there the factor h (1 − h) cancels, here "
                "it does not": h - y,
                "the factor 2 of the square is missing": right / 2,
                "the sign is turned round: (h − y)², not minus it": -right,
                "the inner derivative of (h − y) by h is +1: your y − h turns the sign": (
                    2 * (y - h) * h * (1 - h)
                ),
                "this is the mean's derivative: here each z has a loss of its own, so do not "
                "divide by N": right / len(z),
                "∂σ/∂z is h (1 − h), not h²": 2 * (h - y) * h**2,
                "∂σ/∂z is h (1 − h), not 1 − h": 2 * (h - y) * (1 - h),
            },
        )
        worst = int(np.abs(given - right).argmax())
        return say(
            False,
            hint
            or f"at z = {z[worst]:g}, y = {y[worst]:g} the slope is {right[worst]:.4f}; yours is "
            f"{given[worst]:.4f}. Compare with ((σ(z + s) − y)² − (σ(z − s) − y)²) / 2s",
        )

    return examine(answer, "brier_slope(z, y)", check)


# --- 2: no overflow ------------------------------------------------------------------------------


def check_stable_bce(answer: object) -> bool:
    """Exercise 2: ``stable_bce(z, y)``, the loss of each row, exact for every float64 logit."""

    def right(z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))

    def ask(z: list[float], y: list[float]) -> tuple[np.ndarray, np.ndarray]:
        z, y = np.array(z), np.array(y)
        return as_array(answer(z.copy(), y.copy()), z.shape, "loss"), right(z, y)

    def check() -> bool:
        z, y = [-2.0, 0.0, 1.5, 3.0], [0.0, 1.0, 0.0, 0.25]
        given, wanted = ask(z, y)
        if not np.allclose(given, wanted, atol=1e-9):
            flipped = right(-np.array(z), np.array(y))
            return say(
                False,
                recognize(
                    given,
                    {
                        "the sign is turned round: a loss is minus the log-likelihood": -wanted,
                        "z and −z are exchanged: at y = 1 a large z must cost nothing": flipped,
                        "only half is there: soft labels need both terms, y and 1 − y": np.where(
                            np.array(y) == 1, wanted, 0
                        ),
                    },
                )
                or f"even at small logits: z = {z[0]:g}, y = {y[0]:g} costs {wanted[0]:.4f}, not "
                f"{given[0]:.4f}",
            )
        given, wanted = ask([1000.0, -1000.0], [0.0, 1.0])
        if not np.isfinite(given).all():
            return say(
                False,
                f"z = 1000, y = 0 costs exactly 1000; yours is {given[0]}: let only exp(−|z|) "
                "be computed",
            )
        if not np.allclose(given, wanted):
            return say(
                False,
                f"z = 1000, y = 0 costs exactly 1000; yours is {given[0]:.4g}: clipping hides the "
                "overflow and kills the gradient there; rearrange the formula instead",
            )
        given, wanted = ask([1000.0, -1000.0], [1.0, 0.0])
        if not np.allclose(given, wanted):
            return say(False, f"z = 1000, y = 1 costs nothing; yours is {given[0]}: 0 · ∞ = NaN?")
        given, wanted = ask([50.0], [1.0])
        if not np.allclose(given, wanted, rtol=1e-6, atol=0):
            return say(
                False,
                f"z = 50, y = 1 costs {wanted[0]:.2e}, yours {given[0]:.2e}: 1 + a tiny number "
                "rounds to 1; np.log1p(t) is log(1 + t) without that loss",
            )
        return say(True, "max(z, 0) − z y + log1p(exp(−|z|)), or an equal of it: exact everywhere")

    return examine(answer, "stable_bce(z, y)", check)


# --- 3: where the printed gradient points away ---------------------------------------------------


LABELS = (1, 1, 1, 1, 0)  # four in five recommended, as in the shop


def check_opposite(answer: object) -> bool:
    """Exercise 3: probabilities of `LABELS`, all on the right side of 1/2, such that the printed
    slope by the bias has the wrong sign."""
    if answer is None:
        return say(False, f"not answered yet: five probabilities for the labels {LABELS}")
    try:
        h = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        return say(False, "answer with five numbers: [h1, h2, h3, h4, h5]")
    if h.shape != (5,):
        return say(False, f"answer with five numbers, one per label; yours has shape {h.shape}")
    if not ((h > 0) & (h < 1)).all():
        return say(False, "every h must lie strictly between 0 and 1: it is a probability")
    y = np.array(LABELS)
    wrong = np.flatnonzero((h > 0.5) != (y == 1))
    if len(wrong):
        i = wrong[0]
        return say(
            False,
            f"h{i + 1} = {h[i]:g} decides label {y[i]} wrongly; here all five are decided rightly",
        )
    right = float(np.mean(h - y))
    printed = float(-np.mean(y * h / (1 - h) - (1 - y) * (1 - h) / h))
    numbers = f"right {right:+.3f}, printed {printed:+.3f}"
    if abs(right) < 1e-9:
        return say(False, f"{numbers}: there is nothing left to improve by the bias; move one h")
    if right * printed < 0:
        return say(True, f"{numbers}: a step by the printed slope makes the loss worse")
    return say(
        False,
        f"{numbers}: the same direction. The printed slope listens to whoever is surest, the right "
        "one to whoever is least sure: make one side sure and the other barely right",
    )


# --- 4: back to probabilities --------------------------------------------------------------------


def check_prior_correction(answer: object) -> bool:
    """Exercise 4: ``corrected(z, pos_weight, train_share, shop_share)``, a calibrated logit."""
    z = np.array([-2.0, 0.0, 0.7, 3.0])
    cases = [(4.0, 0.2, 0.2), (1.0, 0.5, 0.1), (3.0, 0.4, 0.75)]

    def odds(share: float) -> float:
        return float(np.log(share / (1 - share)))

    def collect(formula: Callable[..., np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [as_array(formula(z.copy(), *case), z.shape, "logit") for case in cases]
        )

    def check() -> bool:
        given = collect(answer)
        right = collect(lambda z, w, a, b: z - np.log(w) + odds(b) - odds(a))
        if np.allclose(given, right, atol=1e-9):
            return say(True, "z − log w + logit(shop) − logit(train): the order stays")
        hint = recognize(
            given,
            {
                "you return a probability; here the corrected logit is asked for": _sigmoid(right),
                "the weight is taken out, but the shares are not exchanged": collect(
                    lambda z, w, a, b: z - np.log(w)
                ),
                "the shares are exchanged, but the weight is still in: it added log w": (
                    collect(lambda z, w, a, b: z + odds(b) - odds(a))
                ),
                "the weight added log w while training, so it must be subtracted now": collect(
                    lambda z, w, a, b: z + np.log(w) + odds(b) - odds(a)
                ),
                "the shares go the wrong way: take out the training share, put in the shop's": (
                    collect(lambda z, w, a, b: z - np.log(w) + odds(a) - odds(b))
                ),
                "the log of the shares is not their log-odds: logit(p) = log(p / (1 − p))": collect(
                    lambda z, w, a, b: z - np.log(w) + np.log(b) - np.log(a)
                ),
                "it is log w that shifts a logit, not w itself": collect(
                    lambda z, w, a, b: z - w + odds(b) - odds(a)
                ),
                "a logit is shifted by log w, not divided by w": collect(
                    lambda z, w, a, b: z / w + odds(b) - odds(a)
                ),
            },
        )
        worst = int(np.abs(given - right).argmax())
        w, a, b = cases[worst // len(z)]
        return say(
            False,
            hint
            or f"z = {z[worst % len(z)]:g} with weight {w:g}, shares {a:g} → {b:g} must become "
            f"{right[worst]:.3f}; yours is {given[worst]:.3f}",
        )

    return examine(answer, "corrected(z, pos_weight, train_share, shop_share)", check)


# --- 5: false negatives --------------------------------------------------------------------------


def _info_nce_slope(s: np.ndarray, out: np.ndarray) -> np.ndarray:
    kept = ~out | np.eye(len(s), dtype=bool)
    p = np.exp(s - s.max(axis=1, keepdims=True)) * kept
    return (p / p.sum(axis=1, keepdims=True) - np.eye(len(s))) / len(s)


def check_masked_info_nce(answer: object) -> bool:
    """Exercise 5: ``info_nce_slope(s, false_negatives)``, ∂loss/∂s for scaled similarities s."""
    s = 3 * np.random.default_rng(0).normal(size=(5, 5))
    out = np.zeros((5, 5), dtype=bool)
    out[0, 3] = out[3, 0] = out[2, 4] = True
    own = np.eye(5)

    def check() -> bool:
        given = as_array(answer(s.copy(), out.copy()), s.shape, "slope")
        right = _info_nce_slope(s, out)
        if not np.allclose(given, right, atol=1e-9):
            p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
            plain = (p - own) / 5
            columns = np.exp(s) * ~out
            columns = (columns / columns.sum(axis=0) - own) / 5
            ones = np.exp(np.where(out, 0.0, s))
            ones = (ones / ones.sum(axis=1, keepdims=True) - own) / 5
            hint = recognize(
                given,
                {
                    "the mask is not used: a twin of the right item is still pushed away": plain,
                    "the twins' own slope is 0, but they still stand in the denominator, so the "
                    "others are pushed too little: leave them out before the softmax": (
                        np.where(out, 0.0, plain)
                    ),
                    "the mean over the N queries is missing: divide by N": 5 * right,
                    "the sign is turned round: p − 1 on the diagonal, p elsewhere": -right,
                    "the softmax goes over the items of one query: axis=1": columns,
                    "a similarity set to 0 is not left out: exp(0) = 1 counts. Use −inf": ones,
                    "the own item is missing: subtract 1 on the diagonal": right + own / 5,
                },
            )
            row = int(np.abs(given - right).max(axis=1).argmax())
            total = given[row].sum()
            return say(
                False,
                hint
                or f"row {row} is wrong"
                + (
                    f": the slopes of a query must sum to 0, yours to {total:.3f}"
                    if abs(total) > 1e-9
                    else ""
                ),
            )
        big = as_array(answer(1000 * s, out.copy()), s.shape, "slope")
        if not np.isfinite(big).all():
            return say(
                False,
                "right, but similarities of some thousands overflow: subtract each row's maximum "
                "before exp",
            )
        all_out = as_array(answer(s.copy(), np.ones_like(out)), s.shape, "slope")
        if not np.allclose(all_out, 0.0):
            return say(
                False, "the diagonal may be marked too, but the right item must never be left out"
            )
        return say(True, "twins are neither pushed nor counted, and every row sums to 0")

    return examine(answer, "info_nce_slope(s, false_negatives)", check)
