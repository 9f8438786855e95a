"""Reviews whose meaning is known: which words carry which opinion, and why the verdict follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets.market_catalog import Products, Shoppers
from recsys_lib.datasets.market_grammar import PLAIN, Piece, render, tidy, turns
from recsys_lib.datasets.market_random import Draw
from recsys_lib.datasets.market_tables import as_frame, catalog, product_types, table
from recsys_lib.datasets.market_typos import slip

FIRST_DAY = np.datetime64("2023-01-01", "D")
DAYS = 730
MIN_WORDS, MAX_WORDS = 10, 120

# How much an opinion weighs in the verdict. The verdict is the sign of the weighted sum.
GIVES_WAY, ORDINARY, MAIN, DECISIVE, NOTHING = 1, 2, 5, 9, 0

# How a review comes to its verdict, and how an opinion is put into words (shares in percent).
# Clear reviews say what they mean; in the others the order of the words decides.
_PLANS = {"clear": 90, "mixed": 2, "contrast": 4, "weighing": 1, "verdict": 3}
_CLEAR = {"event": 20, "plain": 28, "turned": 30, "confirmed": 7, "disappointed": 8, "held": 7}
_KNOTTY = {"event": 14, "plain": 30, "turned": 30, "confirmed": 12, "disappointed": 8, "held": 6}
_LENGTHS = (((10, 20), 12), ((20, 40), 30), ((40, 70), 32), ((70, 95), 18), ((95, 116), 8))
_CLAUSE_SHARE = 0.7  # opinions in one short clause; the others span a whole sentence or two
_GENERAL_SHARE = 0.35  # opinions in words that suit any aspect
_ELSEWHERE_SHARE = 0.35  # reviews that also praise or blame some other product


@dataclass(eq=False)
class Opinion:
    """One statement about the product (aspect "verdict" for the closing one)."""

    aspect: str
    polarity: int  # +1 or −1: what the passage says about the product
    weight: int
    negated: bool = False  # the marked words say the opposite and something turns them around
    elsewhere: bool = False  # about another product: says nothing about this one


@dataclass(frozen=True)
class ReviewRequest:
    """What make_market passes on; see there."""

    n: int
    label_noise: float
    near_duplicates: float
    spurious_cue: float
    cue_until: float
    label_bias: float


@dataclass(frozen=True)
class ReviewTables:
    """`shown`: review_id, product_id, shopper_id, date, text, rating, label, age. `truth`, same
    order: review_id, verdict, score, plan, label_noise, label_bias, cue. `spans`: see make_reviews.
    `duplicates`: original, copy."""

    shown: pd.DataFrame
    truth: pd.DataFrame
    spans: pd.DataFrame
    duplicates: pd.DataFrame


@dataclass
class _Written:
    pieces: list[Piece]
    score: int
    product: int
    plan: str
    is_copy: bool = False
    words: int = field(default=0)


def make_reviews(
    seed: int, ask: ReviewRequest, products: Products, shoppers: Shoppers
) -> ReviewTables:
    """`ask.n` reviews in the order of their dates.

    `spans` has one row per marked stretch of text: review_id, start, end (characters), words
    (always text[start:end]), role ("word": carries the opinion, "turn": turns it around),
    polarity (what the passage says about the product: +1, −1; 0 where it is about another one),
    aspect, negated (the words by themselves would say the opposite), weight (in the verdict), and
    opinion (numbers the statements within a review).
    """
    draw, typing = Draw(seed, "reviews"), Draw(seed, "typing")
    noise, cues = Draw(seed, "label noise"), Draw(seed, "cue")
    days = sorted(draw.below(DAYS) for _ in range(ask.n))
    writer = _Writer(draw, products)
    sloppiness = [
        typing.pick([0.002, 0.005, 0.005, 0.012, 0.04]) for _ in range(len(shoppers.shown))
    ]
    lower_case = [typing.chance(0.1) for _ in range(len(shoppers.shown))]
    popularity = list(accumulate(products.shown["popularity"].tolist()))
    product_ids = range(len(products.shown))
    quality = products.truth["quality"].tolist()
    groups, ages = shoppers.shown["group"].tolist(), shoppers.shown["age"].tolist()
    written: list[_Written] = []
    shown, truth, spans, pairs = [], [], [], []
    for i, day in enumerate(days):
        shopper = draw.below(len(groups))
        source = writer.something_to_copy(written) if draw.chance(ask.near_duplicates) else None
        if source is not None:
            review = writer.copy(written[source])
            pairs.append((source, i))
        else:
            product = draw.pick_cumulative(product_ids, popularity)
            review = writer.write(product, 1 if draw.chance(quality[product]) else -1)
        written.append(review)
        verdict = int(review.score > 0)
        label, flipped, biased = _label(noise, ask, verdict, groups[shopper])
        pieces, cue = review.pieces, False
        if ask.spurious_cue:
            early = i < ask.cue_until * ask.n
            lean = ask.spurious_cue * (2 * label - 1) if early else 0.0
            cue = cues.chance(0.3 * (1 + lean)) and review.words + 8 <= MAX_WORDS
            if cue:
                pieces = [*pieces, Piece(" " + cues.pick(table("phrases")["cue"]["sentence"]))]
        text, marks = _type(pieces, typing, sloppiness[shopper], lower_case[shopper])
        numbers: dict[int, int] = {}
        for start, end, role, opinion in marks:
            number = numbers.setdefault(id(opinion), len(numbers))
            polarity = 0 if opinion.elsewhere else opinion.polarity
            row = (i, start, end, text[start:end], role, polarity, opinion.aspect)
            spans.append((*row, opinion.negated, opinion.weight, number))
        rating = _rating(draw, verdict)
        day_ = FIRST_DAY + np.timedelta64(day, "D")
        shown.append((i, review.product, shopper, day_, text, rating, label, ages[shopper]))
        truth.append((i, verdict, review.score, review.plan, flipped, biased, cue))
    return _tables(shown, truth, spans, pairs)


def relabeled(
    seed: int, ask: ReviewRequest, made: ReviewTables, shoppers: Shoppers
) -> ReviewTables:
    """What `make_reviews` makes for this request, from reviews that it made for one that differs
    in label_bias and label_noise only. Without a spurious cue no text depends on the labels."""
    noise = Draw(seed, "label noise")
    group = shoppers.shown["group"].to_numpy()[made.shown["shopper_id"]]
    drawn = [
        _label(noise, ask, verdict, of)
        for verdict, of in zip(made.truth["verdict"].tolist(), group, strict=True)
    ]
    label, flipped, biased = np.array(drawn, dtype=np.int64).reshape(-1, 3).T
    return ReviewTables(
        shown=made.shown.assign(label=label.astype(np.int8)),
        truth=made.truth.assign(label_noise=flipped == 1, label_bias=biased == 1),
        spans=made.spans,
        duplicates=made.duplicates,
    )


def _label(noise: Draw, ask: ReviewRequest, verdict: int, group: str) -> tuple[int, bool, bool]:
    """The label that is recorded, and whether noise or the bias flipped it."""
    biased = bool(verdict and group == "B" and noise.chance(ask.label_bias))
    flipped = noise.chance(ask.label_noise)
    return int((verdict and not biased) != flipped), flipped, biased


def _rating(draw: Draw, verdict: int) -> int:
    """Stars, as people give them: mostly, not always, in line with the verdict."""
    shares = ((1, 25), (2, 40), (3, 30), (4, 5)) if not verdict else ((3, 8), (4, 32), (5, 60))
    return draw.pick_weighted([s for s, _ in shares], [w for _, w in shares])


def _tables(shown, truth, spans, pairs) -> ReviewTables:
    review = {"review_id": "int64", "product_id": "int64", "shopper_id": "int64"}
    review |= {"date": "datetime64[s]", "text": "str", "rating": "int64", "label": "int8"}
    facts = {"review_id": "int64", "verdict": "int8", "score": "int64", "plan": "str"}
    facts |= {"label_noise": "bool", "label_bias": "bool", "cue": "bool"}
    span = {"review_id": "int64", "start": "int64", "end": "int64", "words": "str", "role": "str"}
    span |= {"polarity": "int8", "aspect": "str", "negated": "bool", "weight": "int64"}
    return ReviewTables(
        shown=as_frame(shown, review | {"age": "int64"}),
        truth=as_frame(truth, facts),
        spans=as_frame(spans, span | {"opinion": "int64"}),
        duplicates=as_frame(pairs, {"original": "int64", "copy": "int64"}),
    )


def _type(
    pieces: Sequence[Piece], typing: Draw, sloppiness: float, lower: bool
) -> tuple[str, list[tuple[int, int, str, Opinion]]]:
    """The text as it is typed, slips included, and where the marked pieces ended up."""
    text, marks = "", []
    for piece, role, opinion in pieces:
        if sloppiness:
            words = piece.split(" ")
            for at, word in enumerate(words):
                if len(word) > 3 and typing.chance(sloppiness) and word.isalpha():
                    words[at] = slip(word, typing)
            piece = " ".join(words)
        if lower:
            piece = piece.lower()
        if role != PLAIN:
            marks.append((len(text), len(text) + len(piece), role, opinion))
        text += piece
    return text, marks


def _one_word(words: list[str]) -> list[str]:
    return [w for w in words if " " not in w]


@cache
def _aspects_of(kind: str) -> tuple[str, ...]:
    shared = [name for name, aspect in table("aspects").items() if aspect.get("all")]
    return (*product_types()[kind]["wishes"], *shared)


@cache
def _fillings(kind: str) -> dict[str, str]:
    """The slots that agree with the product in number."""
    item, plural = product_types()[kind]["item"], product_types()[kind].get("plural", False)
    many = {"f": item[:-1] + "ves", "s": item + "es"}.get(item[-1], item + "s")
    one = {
        "it": "it", "them": "it", "this": f"this {item}", "is": "is", "was": "was", "has": "has",
        "s": "s", "es": "es", "one": "one", "this_one": "this one", "an_item": f"a {item}",
    }  # fmt: skip
    two = {
        "it": "they", "them": "them", "this": f"these {item}", "is": "are", "was": "were",
        "has": "have", "s": "", "es": "", "one": "pair", "this_one": "these", "an_item": item,
    }  # fmt: skip
    return (two if plural else one) | {"item": item, "items": item if plural else many}


class _Writer:
    """Writes reviews; holds the stream of decisions and the products."""

    def __init__(self, draw: Draw, products: Products) -> None:
        self.draw = draw
        self.kinds = products.shown["type"].tolist()
        self.brands = products.shown["brand"].tolist()
        self.models = products.shown["model"].tolist()
        self.colors = products.truth["color_family"].tolist()
        self.strengths = products.truth["strength"].tolist()
        self.flaws = products.truth["flaw"].tolist()
        self.phrases = table("phrases")
        self.by_kind: dict[str, list[int]] = {}
        for product, kind in enumerate(self.kinds):
            self.by_kind.setdefault(kind, []).append(product)

    def write(self, product: int, verdict: int) -> _Written:
        """A review of this product that comes to this verdict (+1 or −1)."""
        self.slots = self._slots(product)
        self.product, self.free = product, list(_aspects_of(self.kinds[product]))
        plan = self.draw.pick_weighted(list(_PLANS), list(_PLANS.values()))
        self.clear = plan == "clear"
        opinions, body = getattr(self, f"_plan_{plan}")(verdict)
        (low, high), _ = self.draw.pick_weighted(_LENGTHS, [w for _, w in _LENGTHS])
        target = self.draw.between(low, high)
        score = sum(o.polarity * o.weight for o in opinions)
        if not self.clear and self.draw.chance(_ELSEWHERE_SHARE) and self.free:
            body.append(self._elsewhere())
        size = sum(map(_count, body))
        while size < target - 12 and self.draw.chance(0.85) and self.free:
            # one more opinion, either way, as long as it does not change the verdict
            polarity = verdict if self.clear or self.draw.chance(0.5) else -verdict
            if (score + polarity * ORDINARY) * verdict < ORDINARY:
                polarity = verdict
            opinion = self._opinion(polarity, ORDINARY)
            body.append(self._sentence(opinion))
            score += polarity * ORDINARY
            size += _count(body[-1])
        body = self.draw.sample(body, len(body))
        return self._finish(product, plan, body, size, target, score)

    def _finish(self, product, plan, body, size, target, score) -> _Written:
        """Add what says nothing until the length is about right, and join it all."""
        neutral, draw = self.phrases["neutral"], self.draw
        worn = product_types()[self.kinds[product]]["department"] != "Bags"
        openers = neutral["opener"] + (neutral["opener_worn"] if worn else [])
        fillers = neutral["filler"] + (neutral["filler_worn"] if worn else [])
        fillers = draw.sample(fillers, len(fillers))
        opener, closer = [], []
        if size < target and draw.chance(0.6):
            opener = render(draw.pick(openers), self.slots, draw)
            size += _count(opener)
        if size < target and draw.chance(0.1):
            closer = render(draw.pick(neutral["closer"]), self.slots, draw)
            size += _count(closer)
        most = draw.pick([1, 1, 2, 3])
        while fillers and (size < MIN_WORDS or (size < target - 4 and most > 0)):
            filler = render(fillers.pop(), self.slots, draw)
            if size + _count(filler) > MAX_WORDS:
                continue
            body.insert(draw.below(len(body) + 1), filler)
            size += _count(filler)
            most -= 1
        pieces: list[Piece] = []
        for sentence in filter(None, [opener, *body, closer]):
            if pieces:
                pieces.append(Piece(" "))
            pieces += sentence
        pieces = tidy(pieces)
        return _Written(pieces, score, product, plan, words=_count(pieces))

    # --- plans: how the verdict comes about

    def _plan_clear(self, verdict: int):
        opinions = [self._opinion(verdict, ORDINARY) for _ in range(self.draw.pick([1, 2, 2, 3]))]
        body = [self._sentence(o) for o in opinions]
        if self.draw.chance(0.45):
            closing, sentence = self._closing(verdict, turned=self.draw.chance(0.1))
            opinions.append(closing)
            body.append(sentence)
        return opinions, body

    def _plan_mixed(self, verdict: int):
        opinions = [self._opinion(verdict * p, ORDINARY) for p in (1, 1, -1)]
        return opinions, [self._sentence(o) for o in opinions]

    def _plan_contrast(self, verdict: int):
        minor = self._opinion(-verdict, GIVES_WAY)
        major = self._opinion(verdict, MAIN)
        special = "bad_gives_way" if verdict > 0 else "good_gives_way"
        forms = self.phrases["contrast"]["any" if self.draw.chance(0.75) else special]
        slots = {"minor": self._clause(minor), "major": self._clause(major)}
        return [minor, major], [render(self.draw.pick(forms), slots, self.draw)]

    def _plan_weighing(self, verdict: int):
        weight = self.phrases["weight"]
        if self.draw.chance(0.7):
            decisive = self._opinion(verdict, DECISIVE)
            others = [self._opinion(-verdict, ORDINARY) for _ in range(self.draw.pick([1, 1, 2]))]
            statement = self._about(self.draw.pick(weight["decides"]), decisive.aspect)
            opinions = [decisive, *others]
        else:
            ignored = self._opinion(-verdict, NOTHING)
            statement = self._about(self.draw.pick(weight["is_nothing"]), ignored.aspect)
            opinions = [ignored, self._opinion(verdict, ORDINARY)]
        return opinions, [*map(self._sentence, opinions), statement]

    def _plan_verdict(self, verdict: int):
        closing, sentence = self._closing(verdict, turned=self.draw.chance(0.5))
        count = self.draw.pick([0, 1, 1, 2])
        opinions = [
            self._opinion(verdict if self.draw.chance(0.4) else -verdict, ORDINARY)
            for _ in range(count)
        ]
        return [closing, *opinions], [*map(self._sentence, opinions), sentence]

    def _closing(self, verdict: int, *, turned: bool) -> tuple[Opinion, list[Piece]]:
        name = "good" if verdict > 0 else "bad"
        form = self.draw.pick(self.phrases["verdict"][f"turned_to_{name}" if turned else name])
        closing = Opinion("verdict", verdict, DECISIVE, negated=turned)
        return closing, render(form, self.slots, self.draw, closing)

    # --- opinions and their words

    def _opinion(self, polarity: int, weight: int) -> Opinion:
        """About an aspect not spoken of yet; praise and blame tend to find the product's own
        strength and flaw. What decides is never the price, the delivery or the service."""
        aspects = table("aspects")
        free = [a for a in self.free if weight < MAIN or aspects[a].get("seen", True)]
        known = (self.strengths if polarity > 0 else self.flaws)[self.product]
        if known in free and self.draw.chance(0.4):
            aspect = known
        else:
            shares = [3 if aspects[a].get("seen", True) else 1 for a in free]
            aspect = self.draw.pick_weighted(free, shares)
        self.free.remove(aspect)
        return Opinion(aspect, polarity, weight)

    def _sentence(self, opinion: Opinion) -> list[Piece]:
        shares = _CLEAR if self.clear else _KNOTTY
        form = self.draw.pick_weighted(list(shares), list(shares.values()))
        if form == "event":
            events = "good_events" if opinion.polarity > 0 else "bad_events"
            template = self.draw.pick(table("aspects")[opinion.aspect][events])
            opinion.negated = turns(template)
            return render(template, self.slots, self.draw, opinion)
        return self._framed(opinion, form, ("sentence", "clause"))

    def _clause(self, opinion: Opinion) -> list[Piece]:
        forms = {form: share for form, share in _KNOTTY.items() if form != "event"}
        form = self.draw.pick_weighted(list(forms), list(forms.values()))
        return self._framed(opinion, form, ("clause",))

    def _framed(self, opinion: Opinion, form: str, kinds: tuple[str, ...]) -> list[Piece]:
        """A frame filled with a word: turned frames take a word of the opposite polarity."""
        opinion.negated = form in ("turned", "disappointed")
        word_polarity = -opinion.polarity if opinion.negated else opinion.polarity
        side = "good" if word_polarity > 0 else "bad"
        name = {"disappointed": f"turned_{side}", "held": f"confirmed_{side}"}.get(form, form)
        aspect = table("aspects")[opinion.aspect]
        kind = "clause" if self.draw.chance(_CLAUSE_SHARE) else kinds[0]
        template = self.draw.pick(_frames(name, kind, aspect.get("seen", True)))
        pieces = self._fill(template, opinion, aspect, aspect[side])
        if kind == "clause" and "sentence" in kinds:
            pieces[0] = pieces[0]._replace(text=pieces[0].text[:1].upper() + pieces[0].text[1:])
            pieces.append(Piece("."))
        return pieces

    def _fill(self, template, opinion, aspect, words) -> list[Piece]:
        if self.draw.chance(_GENERAL_SHARE):
            words = self.phrases["words"]["good" if words is aspect["good"] else "bad"]
        past = aspect.get("past", False)
        slots = self.slots | {
            "subject": self.draw.pick(aspect["subjects"]),
            "be": "was" if past else "is",
            "isnt": "wasn't" if past else "isn't",
            "word": words,
            "adjective": _one_word(words),
        }
        return render(template, slots, self.draw, opinion)

    def _elsewhere(self) -> list[Piece]:
        seen = [a for a in self.free if table("aspects")[a].get("seen", True)]
        aspect = self.draw.pick(seen or self.free)
        polarity = 1 if self.draw.chance(0.5) else -1
        opinion = Opinion(aspect, polarity, NOTHING, elsewhere=True)
        words = table("aspects")[aspect]["good" if polarity > 0 else "bad"]
        template = self.draw.pick(self.phrases["elsewhere"]["sentence"])
        return self._fill(template, opinion, table("aspects")[aspect], words)

    def _about(self, template: str, aspect: str) -> list[Piece]:
        slots = self.slots | {"name": table("aspects")[aspect]["name"]}
        return render(template, slots, self.draw)

    def _slots(self, product: int) -> dict[str, Any]:
        color = catalog()["colors"][self.colors[product]]["shopper"]
        return {
            **self.phrases["slots"],
            **_fillings(self.kinds[product]),
            "brand": self.brands[product],
            "model": self.models[product],
            "shade": color[0],
            "size": ["small", "medium", "large"],
        }

    # --- near-duplicates

    def something_to_copy(self, written: list[_Written]) -> int | None:
        """An earlier review of some length that is no copy itself; None if none is found soon."""
        for _ in range(20):
            at = self.draw.below(len(written)) if written else 0
            if written and written[at].words >= 25 and not written[at].is_copy:
                return at
        return None

    def copy(self, source: _Written) -> _Written:
        """Nearly the same text: a word or two more or less at the edges, for the same product or
        for another one of its kind."""
        product = source.product
        if self.draw.chance(0.5):
            product = self.draw.pick(self.by_kind[self.kinds[product]])
        pieces = list(source.pieces)
        edit = self.draw.below(3)
        if edit == 0 and source.words + 2 <= MAX_WORDS:
            pieces.append(Piece(self.draw.pick([" Thanks!", " Period.", " That's it."])))
        elif edit == 1 and source.words + 1 <= MAX_WORDS:
            pieces.insert(0, Piece(self.draw.pick(["Update: ", "Hello! ", "Well. "])))
        return _Written(
            pieces, source.score, product, source.plan, is_copy=True, words=_count(pieces)
        )


@cache
def _frames(name: str, kind: str, seen: bool) -> list[str]:
    frames = table("phrases")["frames"][name][kind]
    if seen:
        return frames
    looked_at = ("photos", "descri", "website", "last year", "At this price", "Never before")
    return [f for f in frames if not any(word in f for word in looked_at)]


def _count(pieces: list[Piece]) -> int:
    return len("".join(piece.text for piece in pieces).split())
