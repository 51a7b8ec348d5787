"""Backgrounds of the scenes: landscapes, walls, foliage and water, with clutter and distracting shapes.

Every recipe paints on a uint8 canvas (S, S, 3) from a palette of five colours that knows nothing of the object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import pi

import cv2
import numpy as np

# sky above, sky below, far, near, accent
_PALETTES = np.array(
    [
        [[150, 190, 222], [214, 230, 235], [142, 166, 132], [96, 130, 84], [226, 214, 170]],
        [[236, 190, 150], [250, 226, 188], [176, 140, 130], [120, 98, 106], [250, 240, 210]],
        [[120, 150, 190], [196, 208, 222], [120, 134, 160], [74, 90, 118], [230, 232, 236]],
        [[214, 204, 182], [236, 228, 210], [196, 170, 128], [158, 128, 90], [120, 110, 96]],
        [[170, 208, 196], [222, 236, 222], [110, 158, 138], [62, 108, 96], [236, 226, 190]],
        [[190, 170, 200], [232, 210, 214], [140, 122, 158], [96, 84, 116], [244, 226, 196]],
        [[206, 214, 214], [232, 234, 230], [158, 164, 160], [112, 118, 116], [216, 200, 170]],
        [[224, 210, 150], [244, 236, 196], [170, 164, 92], [118, 122, 62], [214, 150, 90]],
        [[84, 104, 140], [160, 158, 176], [78, 88, 112], [48, 58, 80], [240, 214, 150]],
        [[200, 222, 236], [238, 242, 240], [176, 198, 204], [128, 158, 172], [250, 250, 246]],
        [[214, 150, 120], [240, 200, 160], [178, 108, 84], [124, 76, 64], [240, 220, 180]],
        [[160, 196, 150], [220, 232, 190], [104, 146, 88], [64, 100, 60], [210, 190, 120]],
    ],
    dtype=np.float64,
)
_SHIFT = 4
_RIDGE_X = np.linspace(-0.05, 1.05, 23)


def draw_palette(generator: np.random.Generator) -> np.ndarray:
    """Return five colours, float (5, 3) RGB 0..255: sky above, sky below, far, near, accent."""
    palette = _PALETTES[generator.integers(len(_PALETTES))]
    return np.clip(palette * generator.uniform(0.88, 1.08) + generator.uniform(-12, 12, 3), 0, 255)


@lru_cache(maxsize=1)
def noise_tile(side: int = 256) -> np.ndarray:
    """A soft noise, float32 (side, side), mean 0, deviation 1, that repeats without seams."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    white = np.fft.rfft2(np.random.default_rng(0).normal(size=(side, side)))
    tile = np.fft.irfft2(white * (frequency > 0) / np.maximum(frequency, 1 / 96) ** 1.1, s=(side, side))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def texture(generator: np.random.Generator, size: int, across: float = 1.0, down: float = 1.0) -> np.ndarray:
    """A random patch of the noise tile, float32 (size, size), stretched across or down."""
    width, height = round(96 / across), round(96 / down)
    x, y = generator.integers(256 - width), generator.integers(256 - height)
    patch = noise_tile()[y : y + height, x : x + width]
    if patch.shape != (size, size):
        patch = cv2.resize(patch, (size, size), interpolation=cv2.INTER_LINEAR)
    return cv2.flip(patch, int(generator.integers(-1, 2)))


def _fill(canvas: np.ndarray, points: np.ndarray, colour: np.ndarray) -> None:
    """Fill a polygon given in parts of the image's side."""
    cv2.fillPoly(canvas, [(points * (len(canvas) << _SHIFT)).astype(np.int32)], colour.tolist(), cv2.LINE_AA, _SHIFT)


def _fill_all(canvas: np.ndarray, outlines: np.ndarray, colours: np.ndarray) -> None:
    """Fill polygons (n, m, 2), given in parts of the image's side, with their colours (n, 3), one after another."""
    fixed = (outlines * (len(canvas) << _SHIFT)).astype(np.int32)
    for outline, colour in zip(fixed, colours.tolist(), strict=True):
        cv2.fillPoly(canvas, [outline], colour, cv2.LINE_AA, _SHIFT)


def _gradient(canvas: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
    ends = np.stack([top, bottom]).astype(np.float32)[:, None]
    column = cv2.resize(ends, (1, 2 * len(canvas)), interpolation=cv2.INTER_LINEAR)[len(canvas) // 2 :][: len(canvas)]
    canvas[:] = column


def _ridge(generator: np.random.Generator, level: float, height: float, n_waves: int, jagged: bool) -> np.ndarray:
    """The outline of a hill or mountain range, down to the lower edge."""
    x = _RIDGE_X
    phase = generator.uniform(0, 2 * pi, n_waves)
    k = np.arange(1, n_waves + 1)[:, None]
    waves = np.sin(2 * pi * k * 0.8 * x + phase[:, None]) / k
    y = level + height * waves.sum(axis=0)
    if jagged:
        y = y + height * 0.5 * generator.uniform(-1, 1, len(x)) * (np.arange(len(x)) % 2)
    return np.concatenate([np.stack([x, y], axis=1), [(1.1, 1.1), (-0.1, 1.1)]])


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * share


@lru_cache(maxsize=1)
def _disc() -> np.ndarray:
    angles = np.arange(14) * (2 * pi / 14)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _clouds(canvas: np.ndarray, generator: np.random.Generator, colour: np.ndarray) -> None:
    clouds = generator.uniform((0, 0.03, 0.05), (1, 0.3, 0.11), (generator.integers(1, 4), 3))
    puff = np.array([(-1.1, 0.7), (0, 1), (1.1, 0.75)])
    size = clouds[:, 2, None] * puff[:, 1]
    x = clouds[:, 0, None] + clouds[:, 2, None] * puff[:, 0]
    place = np.stack([x, np.broadcast_to(clouds[:, 1, None], x.shape)], axis=-1)
    outlines = place[:, :, None] + size[..., None, None] * (_disc() * (1, 0.5))
    _fill_all(canvas, outlines.reshape(-1, 14, 2), np.broadcast_to(colour, (x.size, 3)))


def meadow(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Rolling hills with bushes under a sky with clouds."""
    _gradient(canvas, palette[0], palette[1])
    _clouds(canvas, generator, _mix(palette[1], palette[4], 0.6))
    level = generator.uniform(0.3, 0.6)
    for i, share in enumerate((0.0, 0.5, 1.0)):
        _fill(canvas, _ridge(generator, level + 0.18 * i, 0.05, 2, False), _mix(palette[2], palette[3], share))
        for x, y, r in generator.uniform((0, 0.02, 0.03), (1, 0.16, 0.07), (2, 3)):
            bush = _disc() * (r, 0.8 * r) + (x, level + 0.18 * i + y)
            _fill(canvas, bush + np.array([0.01, 0.02]), _mix(palette[3], 0 * palette[3], 0.25))
            _fill(canvas, bush, _mix(palette[2], palette[3], 1.2 - share))


def mountains(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Ranges of jagged mountains fading into the distance."""
    _gradient(canvas, palette[0], palette[1])
    x, y, r = generator.uniform((0.1, 0.08, 0.04), (0.9, 0.3, 0.09))
    _fill(canvas, _disc() * r + (x, y), palette[4])
    level = generator.uniform(0.3, 0.5)
    for i, share in enumerate((-0.4, 0.2, 0.7, 1.1)):
        _fill(canvas, _ridge(generator, level + 0.17 * i, 0.08, 3, True), _mix(palette[2], palette[3], share))


def dunes(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Dunes with a lit and a shaded side, and stones."""
    _gradient(canvas, palette[1], _mix(palette[1], palette[4], 0.5))
    level = generator.uniform(0.2, 0.45)
    for i in range(4):
        outline = _ridge(generator, level + 0.2 * i, 0.07, 2, False)
        _fill(canvas, outline, _mix(palette[2], palette[4], 0.45 - 0.12 * i))
        _fill(canvas, outline * (1, 1) + (generator.uniform(-0.2, 0.2), 0.07), _mix(palette[2], palette[3], 0.15 * i))
    for x, y, r in generator.uniform((0, 0.6, 0.01), (1, 0.97, 0.035), (5, 3)):
        _fill(canvas, _disc() * (r, 0.7 * r) + (x, y), palette[3])


def _checked(
    canvas: np.ndarray, generator: np.random.Generator, colours: np.ndarray, width: float, height: float, bond: float
) -> None:
    """Rows of bricks, tiles or boards: colours (n, 3) dealt out at random, the first of them for the joints."""
    size = len(canvas)
    u, v = np.arange(size, dtype=np.float32) / size + generator.random((2, 1), dtype=np.float32)
    row = (v / height).astype(int)
    along = u / np.float32(width) + np.float32(bond) * (row % 2).astype(np.float32)[:, None]
    column = along.astype(int)
    table = generator.integers(1, len(colours), (row.max() + 1, column.max() + 2))
    chosen = table[row[:, None], column]
    joint = ((along - column) * width < 0.014) | ((v / height - row) * height < 0.014)[:, None]
    canvas[:] = np.clip(colours, 0, 255).astype(np.uint8)[np.where(joint, 0, chosen)]


def bricks(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """A brick wall in running bond."""
    colours = np.stack([palette[1] * 0.92, *(_mix(palette[2], palette[3], t) for t in (-0.1, 0.1, 0.25, 0.4, 0.6))])
    height = generator.uniform(0.09, 0.15)
    _checked(canvas, generator, colours, generator.uniform(2, 2.6) * height, height, 0.5)


def planks(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Wooden boards with grain, lying or standing."""
    colours = np.stack([palette[3] * 0.6, *(_mix(palette[2], palette[3], t) for t in (0.0, 0.2, 0.4, 0.6))])
    _checked(
        canvas, generator, np.clip(colours, 0, 255), generator.uniform(0.8, 1.4), generator.uniform(0.13, 0.24), 0.4
    )
    grain = 9 * texture(generator, len(canvas), 2.5, 0.6)
    canvas[:] = np.clip(canvas + grain[..., None], 0, 255)
    if generator.random() < 0.5:
        canvas[:] = cv2.transpose(canvas)


def tiles(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Wallpaper of slanted squares with dots."""
    size, pitch = len(canvas), generator.uniform(0.14, 0.26)
    slope = generator.uniform(0.3, 1.0)
    x = np.arange(size, dtype=np.float32) / np.float32(size * pitch)
    u, v = x + np.float32(slope) * x[:, None], x[:, None] - np.float32(slope) * x + 8
    row, column = u.astype(np.int32), v.astype(np.int32)
    odd = (row + column) & 1
    dot = (u - row - 0.5) ** 2 + (v - column - 0.5) ** 2 < generator.uniform(0.1, 0.25) ** 2
    colours = np.stack([palette[1], _mix(palette[1], palette[2], 0.55), _mix(palette[2], palette[3], 0.4)])
    canvas[:] = colours.astype(np.uint8)[np.where(dot, 2, odd)]


def foliage(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """A thicket of leaves, darker at the back."""
    _gradient(canvas, palette[3] * 0.75, palette[3] * 0.6)
    n_leaves = 34
    t = np.linspace(0, pi, 7)
    half = np.stack([-np.cos(t), 0.34 * np.sin(t)], axis=1)
    leaf = np.concatenate([half, half[-2:0:-1] * (1, -1)])
    angle = generator.uniform(0, 2 * pi, n_leaves)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([c, s], axis=1), np.stack([-s, c], axis=1)], axis=1)
    size = generator.uniform(0.08, 0.17, n_leaves)[:, None, None]
    leaves = leaf @ turn * size + generator.uniform(-0.05, 1.05, (n_leaves, 1, 2))
    front = np.linspace(0, 1, n_leaves)[:, None]
    share = generator.uniform(0, 0.55, (n_leaves, 1)) * (0.5 + front)
    _fill_all(canvas, leaves, _mix(palette[3] * (0.72 + 0.28 * front), palette[2], share))


def reeds(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Tall blades of grass before a pale sky."""
    _gradient(canvas, palette[1], _mix(palette[1], palette[2], 0.7))
    n_blades = 30
    low = generator.uniform((-0.1, 1.0, 0.012), (1.1, 1.1, 0.03), (n_blades, 3))
    tip = np.stack([low[:, 0] + generator.uniform(-0.3, 0.3, n_blades), generator.uniform(0.0, 0.75, n_blades)], axis=1)
    foot = low[:, :2]
    bow = (foot + tip) / 2 + np.stack([0.35 * (foot[:, 0] - tip[:, 0]), 0 * tip[:, 1]], axis=1)
    wide = np.stack([low[:, 2], 0 * low[:, 2]], axis=1)
    blades = np.stack([foot - wide, bow - 0.7 * wide, tip, bow + 0.7 * wide, foot + wide], axis=1)
    green = _mix(palette[2], palette[3], generator.uniform(0, 1, (n_blades, 1)))
    _fill_all(canvas, blades, _mix(palette[1], green, np.linspace(0.45, 1, n_blades)[:, None]))


def sea(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Open water with wave crests, an island and clouds."""
    _gradient(canvas, palette[0], palette[1])
    horizon = generator.uniform(0.25, 0.5)
    _clouds(canvas, generator, _mix(palette[1], palette[4], 0.6))
    x, r = generator.uniform((0, 0.08), (1, 0.22))
    _fill(canvas, _disc() * (r, 0.35 * r) + (x, horizon), palette[3])
    top = round(horizon * len(canvas))
    _gradient(canvas[top:], _mix(palette[2], palette[1], 0.3), _mix(palette[2], palette[3], 0.7))
    place = generator.uniform((0, horizon + 0.03), (1, 1.02), (26, 1, 2))
    near = (place[:, :, 1:] - horizon) / (1 - horizon)
    waves = _disc() * (0.03 + 0.08 * near) * (1, 0.12) + place
    water = _mix(palette[2], palette[3], near[:, 0])
    _fill_all(canvas, waves, _mix(water, palette[1], 0.5 * generator.uniform(-0.5, 1, (26, 1))))


def underwater(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator) -> None:
    """Under water: rays of light from above, bubbles, weeds and a floor."""
    _gradient(canvas, palette[1], palette[3])
    rays = canvas.copy()
    slant = generator.uniform(-0.3, 0.3)
    for x, width in generator.uniform((0, 0.03), (1, 0.12), (4, 2)):
        _fill(
            rays, np.array([(x, -0.1), (x + width, -0.1), (x + 2 * width + slant, 0.9), (x + slant, 0.9)]), palette[1]
        )
    canvas[:] = cv2.addWeighted(canvas, 0.72, rays, 0.28, 0)
    _fill(canvas, _ridge(generator, 0.88, 0.03, 3, False), _mix(palette[2], palette[4], 0.4))
    y = np.linspace(0, 1, 9)
    for x, height, phase in generator.uniform((0, 0.15, 0), (1, 0.5, 6), (6, 3)):
        side = np.stack([x + 0.025 * np.sin(6 * y + phase), 1.02 - height * y], axis=1)
        width = 0.022 * (1 - 0.9 * y[:, None]) * (1, 0)
        _fill(canvas, np.concatenate([side - width, (side + width)[::-1]]), palette[3] * 0.8)
    bubbles = generator.uniform((0, 0, 0.008), (1, 0.85, 0.025), (7, 1, 3))
    for radius, colour in ((1.0, palette[1]), (0.6, _mix(palette[1], palette[2], 0.6))):
        outlines = radius * _disc() * bubbles[..., 2:] + bubbles[..., :2]
        _fill_all(canvas, outlines, np.broadcast_to(colour, (7, 3)))


_RECIPES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], None]] = {
    recipe.__name__: recipe
    for recipe in (meadow, mountains, dunes, bricks, planks, tiles, foliage, reeds, sea, underwater)
}
BACKGROUND_NAMES = tuple(_RECIPES)


@lru_cache(maxsize=1)
def _strange_shapes() -> np.ndarray:
    """A stick, a triangle and twice a disc, (4, 14, 2), as polygons of equally many points."""
    stick = np.array([(-2.2, -0.2), (2.2, -0.2), (2.2, 0.2), (-2.2, 0.2)])[np.arange(14) * 4 // 14]
    triangle = np.array([(-1, 0.7), (1.1, 0.3), (-0.7, -0.9)])[np.arange(14) * 3 // 14]
    return np.stack([stick, triangle, _disc(), _disc()])


def _distract(canvas: np.ndarray, palette: np.ndarray, generator: np.random.Generator, colours: np.ndarray) -> None:
    """Scatter sticks, sails and pebbles that belong to no object, each with its shadow and a lit face."""
    n = len(colours)
    kind, angle, size, slim, x, y = generator.random((6, n))
    c, s = np.cos(2 * pi * angle), np.sin(2 * pi * angle)
    turn = np.stack([c, s, -s, c], axis=-1).reshape(n, 2, 2) * (0.04 + 0.06 * size)[:, None, None]
    squash = np.stack([np.ones(n), 0.4 + 0.6 * slim], axis=-1)[:, None]
    outlines = (_strange_shapes()[(4 * kind).astype(int)] * squash) @ turn
    place = np.stack([x, y], axis=-1)[:, None]
    layers = np.stack([outlines + place + 0.012, outlines + place, 0.72 * outlines + place - 0.006], axis=1)
    shades = np.stack([np.broadcast_to(0.7 * palette[3], (n, 3)), 0.82 * colours, colours], axis=1)
    _fill_all(canvas, layers.reshape(3 * n, -1, 2), shades.reshape(3 * n, 3))


def draw_background(
    name: str, palette: np.ndarray, generator: np.random.Generator, size: int, distractor_colours: np.ndarray
) -> np.ndarray:
    """Paint a background of the given name with distractors, uint8 (size, size, 3), at random out of focus.

    distractor_colours: float (n, 3) RGB, one distractor each.
    """
    canvas = np.empty((size, size, 3), np.uint8)
    _RECIPES[name](canvas, palette, generator)
    _distract(canvas, palette, generator, distractor_colours)
    window = 2 * round(size / 96) + 1
    for _ in range(generator.integers(0, 4)):
        canvas = cv2.blur(canvas, (window, window))
    return canvas
