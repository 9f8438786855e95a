"""Names beside what they name: texts that do not cover one another, drawn as they are.

A position is found in points of the finished layout, so these functions come last, when the
limits, labels and title of a figure stand.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from recsys_lib.plots.style import COLORS

_AIR = np.array([-3, -2, 3, 2])  # pixels around a name that other names keep off
_LINE = 1.25  # height of a line of text over its font size
_DIRECTIONS = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
_DISTANCES = (5, 10, 18, 28, 40, 55, 75)  # points between a dot and its name
_ROUNDS = 8  # of turns, at the most
_LEADER = {"arrowstyle": "-", "color": COLORS["grey"], "lw": 0.8, "shrinkA": 0, "shrinkB": 5}
_HALO = withStroke(linewidth=2, foreground="white")  # keeps a name readable on a line
_FAR = 10  # beyond it a thin line leads from the dot to the name


def wrap(text: object, width: int, max_lines: int = 3) -> str:
    """A text from data in at most `max_lines` lines of `width` letters; "…" for what is cut.

    Its own line breaks stay.
    """
    lines = [line for part in str(text).splitlines() for line in textwrap.wrap(part, width)]
    if len(lines) > max_lines:
        last = " ".join(lines[max_lines - 1 :])
        lines[max_lines - 1 :] = textwrap.wrap(last, width, max_lines=1, placeholder=" …")
    return "\n".join(lines)


def spread(positions: np.ndarray, gap: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions moved apart as little as possible (least squares), in their order.

    Args:
        positions: shape (n,), where each text would best stand.
        gap: shape (n,), the height of each text; neighbors keep half of both between them.
        low: lower limit of the positions.
        high: upper limit; where the texts do not fit between the two, they pass it.
    """
    order = np.argsort(positions, kind="stable")
    half = np.asarray(gap, dtype=float)[order] / 2
    offset = np.concatenate([[0], np.cumsum(half[:-1] + half[1:])])  # of texts side by side
    moved = isotonic_regression(np.asarray(positions, dtype=float)[order] - offset).x
    out = np.empty(len(order))
    out[order] = np.clip(moved, low, max(low, high - offset[-1])) + offset
    return out


def name_ends(
    ax: Axes,
    ends: Sequence[tuple[str, float, float, dict[str, object]]],
    *,
    width: int = 24,
    size: float = 10,
) -> None:
    """Name curves to the right of the axes, each beside its end and behind its marker.

    Args:
        ax: axes whose limits stand; the layout makes room for the names.
        ends: a curve's name, its last point (x, y) and its `look`, {} for one without a marker.
        width: letters per line of a name.
        size: of the font, in points.
    """
    names = [wrap(name, width, 2) for name, *_ in ends]
    ax.figure.draw_without_rendering()
    to_points = 72 / ax.figure.dpi
    box = ax.get_window_extent()
    heights = np.array([(name.count("\n") + 1) * size * _LINE for name in names])
    at = ax.transData.transform([(x, y) for _, x, y, _ in ends])[:, 1] * to_points
    low = box.y0 * to_points - 2 * size  # beside the tick labels there is room, too
    placed = spread(at, heights, low, box.y1 * to_points)
    places = (placed / to_points - box.y0) / box.height
    line = {**_LEADER, "ls": ":", "relpos": (0, 0.5), "shrinkB": 4}
    for name, (_, x, y, style), place in zip(names, ends, places, strict=True):
        ax.annotate(name, (x, y), (1.075, place), textcoords="axes fraction", arrowprops=line,
                    va="center", size=size, parse_math=False, annotation_clip=False)  # fmt: skip
        if style:
            key = {**style, "linestyle": "", "ms": 6, "clip_on": False, "zorder": 5}
            ax.plot(1.05, place, transform=ax.transAxes, **key)


def name_column(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    *,
    left: bool,
    width: int = 32,
    size: float = 9,
) -> list[tuple[float, float, float, float]]:
    """Name dots that stand above one another: a list beside them, each name near its dot's height.

    Returns the boxes (x0, y0, x1, y1) of the names in data coordinates, for `name_points` to avoid.

    Args:
        ax: axes whose limits stand.
        points: shape (n, 2), the dots in data coordinates.
        names: of the dots.
        left: whether the list stands on their left, else on their right.
        width: letters per line of a name.
        size: of the font, in points.
    """
    ax.figure.draw_without_rendering()
    unit = ax.figure.dpi / 72  # pixels per point
    dots, frame = ax.transData.transform(points), ax.get_window_extent()
    lines = [wrap(name, width, 2) for name in names]
    heights = np.array([(line.count("\n") + 1) * size * _LINE * unit for line in lines])
    edge = heights.max() / 2
    places = spread(dots[:, 1], heights, frame.y0 + edge, frame.y1 - edge)
    x = dots[:, 0].min() - 16 * unit if left else dots[:, 0].max() + 16 * unit
    leader = {**_LEADER, "relpos": (1 if left else 0, 0.5), "shrinkA": 1}
    boxes, renderer = [], ax.figure.canvas.get_renderer()
    for line, point, dot, y in zip(lines, points, dots, places, strict=True):
        offset = (np.array([x, y]) - dot) / unit
        text = ax.annotate(line, point, offset, textcoords="offset points", size=size, va="center",
                           ha="right" if left else "left", parse_math=False, arrowprops=leader,
                           path_effects=[_HALO])  # fmt: skip
        text.set_in_layout(False)
        text.update_positions(renderer)
        box = Text.get_window_extent(text, renderer)  # of the letters, without the thin line
        boxes.append(tuple(ax.transData.inverted().transform(box.get_points()).ravel()))
    return boxes


def name_points(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    *,
    avoid: Sequence[tuple[float, float, float, float]] = (),
    width: int = 24,
    size: float = 9,
) -> None:
    """Name dots inside the axes, where a name covers no dot, no other name and few lines.

    Each name takes the best of many places around its dot, given where the others stand; a few
    rounds of that settle. There is no randomness in it.

    Args:
        ax: axes whose limits stand.
        points: shape (n, 2), the dots in data coordinates.
        names: of the dots.
        avoid: lines to keep free, as the boxes (x0, y0, x1, y1) in data coordinates.
        width: letters per line of a name.
        size: of the font, in points.
    """
    fig = ax.figure
    fig.draw_without_rendering()
    unit = fig.dpi / 72  # pixels per point
    inside = np.array([ax.get_window_extent().extents])
    dots = ax.transData.transform(points)
    texts = [
        ax.annotate(wrap(name, width, 3), point, (0, 0), textcoords="offset points", size=size,
                    ha="center", va="center", parse_math=False, path_effects=[_HALO])
        for name, point in zip(names, points, strict=True)
    ]  # fmt: skip
    renderer = fig.canvas.get_renderer()
    sizes = [np.maximum(text.get_window_extent(renderer).size, 1) for text in texts]
    taken = np.array([_around(dot, 12 * unit, 12 * unit) for dot in dots])
    lines = np.array([_pixels(ax, box, unit) for box in avoid]).reshape(-1, 4)
    choices = [_candidates(dot, size, unit) for dot, size in zip(dots, sizes, strict=True)]
    ways = [_ways(dot, *choice) for dot, choice in zip(dots, choices, strict=True)]
    alone = []  # the cost of each place but for the other names
    for own, (candidates, distances) in enumerate(choices):
        cost = distances / 100 + 8 * (1 - _covered(candidates, inside))
        on_lines = _covered(candidates, lines)
        cost += 4 * _covered(candidates, taken) + 12 * on_lines + 0.5 * (on_lines > 0)
        cost += _crossed(ways[own], np.delete(taken, own, axis=0)).any(axis=1)
        alone.append(cost + _crossed(ways[own], lines).mean(axis=1))
    boxes = _settle([candidates for candidates, _ in choices], alone, ways)
    for text, dot, box, point in zip(texts, dots, boxes, points, strict=True):
        text.set_position(((box[:2] + box[2:]) / 2 - dot) / unit)
        text.set_in_layout(False)
        near = (np.clip(dot, box[:2], box[2:]) - dot) / unit
        if np.hypot(*near) > _FAR + 1:
            line = ax.annotate("", point, near, textcoords="offset points", arrowprops=_LEADER)
            line.set_in_layout(False)


def _candidates(dot: np.ndarray, size: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (m, 4) in pixels around a dot, and the distance of each from it, in points."""
    width, height = size
    boxes, distances = [], []
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            reach = (distance + 3) * unit  # from the middle of the dot
            move = np.array([right * (reach + width / 2), up * (reach + height / 2)])
            boxes.append(_around(dot + move, width, height))
            distances.append(distance)
    return np.array(boxes), np.array(distances, dtype=float)


def _settle(
    choices: list[np.ndarray], alone: list[np.ndarray], ways: list[np.ndarray]
) -> np.ndarray:
    """The chosen box of each name, (n, 4): places are taken in turns until nobody moves.

    Who chooses first matters, so several orders are tried and the one of least cost is kept.
    """
    n = len(choices)
    turns = np.arange(n)
    crowded = np.argsort([-np.sort(cost)[: len(cost) // 4].mean() for cost in alone], kind="stable")
    best, least = np.empty((0, 4)), np.inf
    for order in (turns, turns[::-1], crowded, crowded[::-1]):
        boxes = np.full((n, 4), np.nan)  # NaN until a name stands
        total = np.zeros(n)
        for _ in range(_ROUNDS):
            before = boxes.copy()
            for own in order:
                others = np.delete(boxes, own, axis=0) + _AIR
                cost = alone[own] + 4 * _covered(choices[own], others)
                cost += _crossed(ways[own], others).any(axis=1)
                boxes[own], total[own] = choices[own][np.argmin(cost)], cost.min()
            if np.array_equal(boxes, before):
                break
        if total.sum() < least:
            best, least = boxes, total.sum()
    return best


def _ways(dot: np.ndarray, boxes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Points (m, 8, 2) along the thin line from a dot to each box; NaN for those without one."""
    near = np.clip(dot, boxes[:, :2], boxes[:, 2:])
    steps = np.linspace(0.2, 0.95, 8)[None, :, None]
    points = dot + (near - dot)[:, None] * steps
    points[distances <= _FAR] = np.nan
    return points


def _around(middle: np.ndarray, width: float, height: float) -> tuple[float, ...]:
    x, y = middle
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _pixels(ax: Axes, box: tuple[float, float, float, float], unit: float) -> tuple[float, ...]:
    """A line as a box in pixels that is at least 4 points wide and high."""
    corners = Bbox(ax.transData.transform(np.reshape(box, (2, 2))))
    return (corners.xmin - 2 * unit, corners.ymin - 2 * unit,
            corners.xmax + 2 * unit, corners.ymax + 2 * unit)  # fmt: skip


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m,): the share of each box that the other ones cover, each counted by itself."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.nan_to_num(np.clip(high - low, 0, None))
    return sides.prod(axis=2).sum(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _crossed(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each of (m, steps, 2) points is in one of the boxes, shape (m, steps)."""
    at = points[:, :, None]
    return ((at >= boxes[:, :2]) & (at <= boxes[:, 2:])).all(axis=3).any(axis=2)
