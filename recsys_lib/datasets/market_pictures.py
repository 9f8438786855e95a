"""Pictures of the market's products, drawn with whole numbers only.

No fonts, no floating point: the same product gives the same bytes on any machine. The drawings are
lists of polygons in data/market/pictures.toml; what is drawn (type, colors, pattern, sleeves,
collar, trim) is packed into the product's `picture` number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from recsys_lib.datasets.market_tables import catalog, product_types, table
from recsys_lib.workbook.errors import InputError

GRID = (120, 160)  # width and height of the drawing grid
SIZES = ((60, 80), (120, 160), (180, 240), (240, 320))
_BACKGROUND = np.array([247, 246, 243], dtype=np.int32)
_PALE = (238, 235, 228)
_METAL = (196, 190, 172)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """Everything a product's picture shows. `sleeves` also holds legs and skirt lengths; "" where
    the type leaves no choice."""

    type: str
    color: str
    pattern: str
    sleeves: str
    collar: str
    trim: str


@lru_cache(maxsize=1)
def _look_fields() -> dict[str, tuple[str, ...]]:
    looks = table("pictures")["looks"]
    return {
        "type": tuple(product_types()),
        "color": tuple(catalog()["colors"]),
        "pattern": ("", *looks["pattern"]),
        "sleeves": ("", *looks["sleeves"]),
        "collar": ("", *looks["collar"]),
        "trim": ("", *looks["trim"]["colors"]),
    }


def pack_look(look: Look) -> int:
    """One whole number for a look; `unpack_look` is its inverse."""
    number = 0
    for field, values in _look_fields().items():
        number = number * len(values) + values.index(getattr(look, field))
    return number


def unpack_look(picture: int) -> Look:
    """The look behind a `picture` number. Raises InputError where there is none."""
    found: dict[str, str] = {}
    rest = int(picture)
    for field, values in reversed(_look_fields().items()):
        rest, at = divmod(rest, len(values))
        found[field] = values[at]
    if rest != 0 or picture < 0:
        raise InputError(
            f"picture: {picture} is not a picture number; use the product table's own column"
        )
    return Look(**found)


def product_picture(
    product: Mapping[str, Any] | int, size: tuple[int, int] = (60, 80)
) -> np.ndarray:
    """The picture of a product.

    product: a row of `market.products` (anything with a "picture" entry), or that number itself.
    size: (width, height), one of (60, 80), (120, 160), (180, 240), (240, 320).
    Returns uint8 RGB of shape (height, width, 3). Raises InputError for another size or number.
    """
    if tuple(size) not in SIZES:
        raise InputError(
            f"size: {size} cannot be drawn; choose one of {', '.join(map(str, SIZES))}"
        )
    number = product if isinstance(product, int | np.integer) else product["picture"]
    return _draw(int(number), size[0] // 60).copy()


@lru_cache(maxsize=4096)
def _draw(picture: int, scale: int) -> np.ndarray:
    look = unpack_look(picture)
    unit = 2 * scale  # raster points per unit of the drawing grid; 4 × 4 of them make one pixel
    width, height = GRID[0] * unit, GRID[1] * unit
    image = np.zeros((height, width, 3), dtype=np.int32)
    inked = np.zeros((height, width), dtype=bool)
    fills = _fills(look)
    marks = _pattern(look.pattern, unit, width, height)
    light = _light(width, height)
    parts = table("pictures")["shapes"][product_types()[look.type]["shape"]]
    for part in parts:
        if any(getattr(look, key) not in allowed for key, allowed in part.get("when", {}).items()):
            continue
        color = np.array(fills[part["fill"]], dtype=np.int32)
        patterned = part["fill"] in ("body", "light") and not part.get("plain")
        for whole in _masks(part, unit, width, height):
            box = _bounds(whole)
            mask = whole[box]
            layer = np.broadcast_to(color, (*mask.shape, 3))
            if marks is not None and patterned:
                layer = _with_pattern(layer, marks[box], look)
            layer = layer * light[None, box[1], None] // 256
            if "line" not in part:
                edge = mask & ~_shrink(mask, unit // 2)
                layer[edge] = layer[edge] * 190 // 256
            image[box][mask] = layer[mask]
            inked[box] |= mask
    shadow = np.zeros_like(inked)
    shadow[3 * unit :, 2 * unit :] = inked[: -3 * unit, : -2 * unit]
    ground = np.broadcast_to(_BACKGROUND, image.shape).copy()
    ground[shadow] = ground[shadow] * 232 // 256
    image = np.where(inked[:, :, None], image, ground)
    small = image.reshape(height // 4, 4, width // 4, 4, 3).sum(axis=(1, 3))
    return ((small + 8) // 16).astype(np.uint8)


def _fills(look: Look) -> dict[str, Color]:
    colors = catalog()["colors"]
    body = tuple(colors[look.color]["rgb"])
    trim = tuple(colors[look.trim]["rgb"]) if look.trim else _mix(body, (0, 0, 0), 52)
    return {
        "body": body,
        "trim": trim,
        "shade": _mix(body, (0, 0, 0), 58),
        "light": _mix(body, (255, 255, 255), 26),
        "deep": _mix(body, (20, 20, 26), 150),
        "pale": _PALE,
        "metal": _METAL,
    }


def _mix(color: Color, other: Color, share: int) -> Color:
    """`color` moved towards `other` by share/256."""
    return tuple((c * (256 - share) + o * share) // 256 for c, o in zip(color, other, strict=True))


def _contrast(color: Color, share: int) -> Color:
    """A lighter shade of a dark color, a darker shade of a light one."""
    bright = 3 * color[0] + 6 * color[1] + color[2] > 1350
    return _mix(color, (0, 0, 0), share) if bright else _mix(color, (255, 255, 255), share)


def _with_pattern(layer: np.ndarray, marks: np.ndarray, look: Look) -> np.ndarray:
    body = tuple(catalog()["colors"][look.color]["rgb"])
    inks = [_contrast(body, 110), _contrast(body, 60), _PALE]
    if look.pattern == "color-block":
        inks = [_contrast(body, 120)] * 3
    elif look.pattern == "floral":
        inks = [_contrast(body, 170), (228, 176, 60), _contrast(body, 80)]
    elif look.pattern == "dotted":
        inks = [_contrast(body, 190)] * 3
    out = layer.copy()
    for level, ink in enumerate(inks, start=1):
        out[marks == level] = ink
    return out


@lru_cache(maxsize=64)
def _pattern(pattern: str, unit: int, width: int, height: int) -> np.ndarray | None:
    """Where a pattern puts which ink: 0 none, 1, 2, 3; None for a plain product."""
    if pattern in ("", "plain"):
        return None
    y, x = np.ogrid[:height, :width]
    x, y = x // (unit // 2), y // (unit // 2)  # half grid units
    marks = np.zeros((height, width), dtype=np.int8)
    if pattern == "striped":
        marks[np.broadcast_to(y % 20 < 8, marks.shape)] = 1
    elif pattern == "pinstriped":
        marks[np.broadcast_to(x % 12 < 2, marks.shape)] = 1
    elif pattern == "checked":
        across, down = (x % 28) < 10, (y % 28) < 10
        marks[across | down] = 2
        marks[across & down] = 1
        marks[((x % 28) == 19) | ((y % 28) == 19)] = 1
    elif pattern == "dotted":
        shifted = x + 9 * ((y // 18) % 2)
        dx, dy = shifted % 18 - 9, y % 18 - 9
        marks[dx * dx + dy * dy <= 16] = 1
    elif pattern == "floral":
        marks[:] = _flowers(x, y)
    elif pattern == "color-block":
        marks[np.broadcast_to((y > 96) & (y < 168), marks.shape)] = 1
    elif pattern == "zigzag":
        wave = np.abs(x % 24 - 12)
        marks[(y + wave) % 30 < 8] = 1
    return marks


def _flowers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = y // 26
    dx, dy = (x + 13 * (row % 2)) % 26 - 13, y % 26 - 13
    petals = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for px, py in ((0, -5), (5, -1), (3, 4), (-3, 4), (-5, -1)):
        petals |= (dx - px) ** 2 + (dy - py) ** 2 <= 11
    flowers = np.zeros(petals.shape, dtype=np.int8)
    leaf = (dx - 9) ** 2 + 3 * (dy - 8) ** 2 <= 14
    flowers[leaf] = 3
    flowers[petals] = 1
    flowers[dx * dx + dy * dy <= 5] = 2
    return flowers


def _light(width: int, height: int) -> np.ndarray:
    """Brightness per column, in 256ths: lit from the left, a little darker at both sides."""
    x = np.arange(width, dtype=np.int32)
    away = np.abs(x - width * 2 // 5) * 256 // width
    return 262 - away * away // 700


def _masks(part: Mapping[str, Any], unit: int, width: int, height: int) -> list[np.ndarray]:
    if "oval" in part:
        return [_oval(part["oval"], unit, width, height)]
    points = [(x * unit, y * unit) for x, y in part["points"]]
    rounds = part.get("smooth", 2)
    if "line" in part:
        path = _cut_corners(points, rounds, closed=False)
        mask = _stroke(path, part["line"][0] * unit, width, height)
    elif part.get("half"):
        whole = points + [(width - x, y) for x, y in reversed(points) if 2 * x != width]
        return [_polygon(_cut_corners(whole, rounds, closed=True), width, height)]
    else:
        mask = _polygon(_cut_corners(points, rounds, closed=True), width, height)
    return [mask, mask[:, ::-1]] if part.get("mirror") else [mask]


Points = list[tuple[int, int]]


def _cut_corners(points: Points, rounds: int, *, closed: bool) -> Points:
    """Chaikin's corner cutting: each round replaces a corner by two points on its sides
    (G. Chaikin, Computer Graphics and Image Processing 3, 1974)."""
    for _ in range(rounds):
        pairs = list(zip(points, points[1:] + points[:1], strict=True))
        cut: Points = [] if closed else [points[0]]
        for (ax, ay), (bx, by) in pairs if closed else pairs[:-1]:
            cut.append(((3 * ax + bx) // 4, (3 * ay + by) // 4))
            cut.append(((ax + 3 * bx) // 4, (ay + 3 * by) // 4))
        points = cut if closed else [*cut, points[-1]]
    return points


def _polygon(points: Points, width: int, height: int) -> np.ndarray:
    """Inside of a polygon by the even–odd rule, one crossing per edge and row."""
    toggles = np.zeros((height, width + 1), dtype=np.int8)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        if ay == by:
            continue
        if ay > by:
            ax, ay, bx, by = bx, by, ax, ay
        rows = np.arange(max(ay, 0), min(by, height))
        cross = ax + (rows - ay) * (bx - ax) // (by - ay)
        np.bitwise_xor.at(toggles, (rows, np.clip(cross, 0, width)), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def _oval(oval: list[int], unit: int, width: int, height: int) -> np.ndarray:
    cx, cy, rx, ry = (v * unit for v in oval)
    y, x = np.ogrid[:height, :width]
    return (x - cx) ** 2 * ry**2 + (y - cy) ** 2 * rx**2 <= rx**2 * ry**2


def _stroke(path: Points, thickness: int, width: int, height: int) -> np.ndarray:
    """All points within half the thickness of a line."""
    mask = np.zeros((height, width), dtype=bool)
    reach = thickness // 2
    for (ax, ay), (bx, by) in pairwise(path):
        left, right = max(min(ax, bx) - reach, 0), min(max(ax, bx) + reach + 1, width)
        top, bottom = max(min(ay, by) - reach, 0), min(max(ay, by) + reach + 1, height)
        y, x = np.ogrid[top:bottom, left:right]
        dx, dy = bx - ax, by - ay
        long2 = dx * dx + dy * dy
        if long2 == 0:
            continue
        along = (x - ax) * dx + (y - ay) * dy
        aside = (x - ax) * dy - (y - ay) * dx
        near = (along >= 0) & (along <= long2) & (4 * aside * aside <= thickness**2 * long2)
        ends = ((x - ax) ** 2 + (y - ay) ** 2) * 4 <= thickness**2
        ends |= ((x - bx) ** 2 + (y - by) ** 2) * 4 <= thickness**2
        mask[top:bottom, left:right] |= near | ends
    return mask


def _bounds(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest box around the set points."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _shrink(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask without its outermost `steps` points."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask
