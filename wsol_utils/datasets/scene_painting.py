"""How sketches become pixels: object colours, rasterising with supersampling, light, shadow, and drawn words."""

from __future__ import annotations

import colorsys
from cmath import exp, phase
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, radians, sin

import cv2
import numpy as np

from wsol_utils.datasets.scene_backgrounds import texture
from wsol_utils.datasets.scene_shapes import Sketch

WORDS = (
    "CAFE",
    "OPEN",
    "HOTEL",
    "BOOKS",
    "STOP",
    "TAXI",
    "BAKER",
    "PARK",
    "ZOO",
    "MUSIC",
    "TEA",
    "EXIT",
    "FISH",
    "SALE",
)
_OVER, _SHIFT = 2, 4


@dataclass
class Layers:
    """A scene while it is painted.

    image: float32 (S, S, 3); instance_map and part_map: uint8 (S, S), 0 or the number of an object; light: unit (x, y)
    towards which the light travels.
    """

    image: np.ndarray
    instance_map: np.ndarray
    part_map: np.ndarray
    light: tuple[float, float]


def _rgb(hue: float, saturation: float, value: float) -> list[float]:
    return [255 * c for c in colorsys.hsv_to_rgb(hue % 1, min(saturation, 1.0), min(value, 1.0))]


def draw_colours(generator: np.random.Generator, hue: float, spread: float) -> dict[str, list[float]]:
    """Return the RGB colours (0..255) of an object's shapes by role: relatives of one hue (0..1, a full turn).

    spread: how far the roles' hues scatter, as a share of the circle of hues.
    """
    u = generator.uniform(-1, 1, 13).tolist()
    hues = [hue + spread * v / 2 for v in u[:6]]
    saturation, value = 0.72 + 0.2 * u[6], 0.84 + 0.14 * u[7]
    deep = value * (0.64 + 0.14 * u[8])
    tones = [(saturation, value), (saturation + 0.08, deep), ((0.55 + 0.25 * u[9]) * saturation, value + 0.14)]
    main, second, pale = (tones[k] for k in generator.permutation(3))
    return {
        "main": _rgb(hues[0], *main),
        "second": _rgb(hues[1] + 0.03 * u[10], *second),
        "pale": _rgb(hues[2] + 0.03 * u[11], *pale),
        "leaf": _rgb(hues[3] + 0.03 * u[12], *tones[generator.integers(3)]),
        "shade": _rgb(hues[1], saturation, 0.42 * value),
        "dark": _rgb(hues[4], (0.6 + 0.3 * u[10]) * saturation, 0.34 + 0.16 * u[12]),
        "white": _rgb(hues[5], 0.12 + 0.1 * u[11], 0.96),
    }


def draw_hue(generator: np.random.Generator, palette: np.ndarray, alike: float) -> float:
    """Return an object's hue (0..1): unlike the background's, or with probability `alike` near to it."""
    ground = 0j
    for colour in palette[1:4].tolist():
        hue, saturation, _ = colorsys.rgb_to_hsv(*colour)
        ground += (saturation + 0.02) * exp(2j * pi * hue)
    u, v = generator.random(2).tolist()
    return phase(ground) / (2 * pi) + (0.1 * (v - 0.5) if u < alike else 0.2 + 0.6 * v)


def _rasterise(
    sketch: Sketch, fixed: np.ndarray, width: int, height: int, scale: float, colours: dict[str, list[float]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill the shapes, supersampled; return colour with height (h, w, 4), cover of the object and of its part (h, w).

    While shapes are filled, the lowest bit of the height says whether a pixel belongs to the part.
    """
    canvas = np.zeros((height * _OVER, width * _OVER, 4), np.uint8)
    start = 0
    for end, shape in zip(sketch.ends.tolist(), sketch.shapes, strict=True):
        outline, start = [fixed[start:end]], end
        colour = (*colours[shape.colour], shape.height & ~1 | shape.part)
        if shape.width:
            thickness = round(max(shape.width / sketch.side * scale, 1.3) * _OVER)
            cv2.polylines(canvas, outline, False, colour, thickness, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(canvas, outline, colour, cv2.LINE_8, _SHIFT)
    heights = canvas[..., 3]
    flat = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    cover, part = (
        cv2.resize(inside.view(np.uint8) * np.uint8(255), (width, height), interpolation=cv2.INTER_AREA)
        for inside in (heights > 0, heights & 1 > 0)
    )
    return flat, cover, part


def _pattern(generator: np.random.Generator, width: int, height: int, scale: float) -> np.ndarray | float:
    """Stripes, mottling or nothing, whatever the class: a relative brightness (h, w) or 0."""
    choice, angle, pitch, phase = generator.random(4)
    if choice < 0.3:
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        turns = (12 + 14 * pitch) / scale
        wave = np.sin(x * (turns * cos(pi * angle)) + y * (turns * sin(pi * angle)) + 2 * pi * phase)
        return np.clip(0.27 * wave, -0.11, 0.11)
    if choice < 0.65:
        return 0.09 * texture(generator, max(width, height))[:height, :width]
    return 0.0


def paint_object(
    layers: Layers,
    number: int,
    sketch: Sketch,
    place: Sequence[float],
    colours: dict[str, list[float]],
    generator: np.random.Generator,
) -> None:
    """Paint a sketch onto the layers, lit, patterned, with a soft shadow, over whatever is there.

    number: what the object is called in the maps. place: (x, y, length) of its centre and longer side in parts of the
    image's side.
    """
    size = len(layers.image)
    scale = place[2] * size
    centre = np.array(place[:2]) * size
    reach = np.array(sketch.extent) * (scale / 2) + 5 + size // 32
    x0, y0 = np.maximum(np.floor(centre - reach), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(centre + reach), size).astype(int).tolist()
    width, height = x1 - x0, y1 - y0
    fixed = ((sketch.points * scale + (centre - (x0, y0))) * (_OVER << _SHIFT)).astype(np.int32)
    flat, cover, part = _rasterise(sketch, fixed, width, height, scale, colours)
    lx, ly = layers.light
    slope = np.array([[-lx - ly, -2 * ly, lx - ly], [-2 * lx, 0, 2 * lx], [ly - lx, 2 * ly, lx + ly]], np.float32) / 8
    alpha = cover * np.float32(1 / 255)
    bulk = cv2.GaussianBlur(alpha, (0, 0), 0.045 * scale + 0.8)
    detail = cv2.GaussianBlur(flat[..., 3] * np.float32(1.7 / 255), (3, 3), 0.8)
    relief = cv2.filter2D(cv2.addWeighted(detail, 1, bulk, 0.12 * scale + 2, 0), -1, slope)
    shade = np.clip(relief + _pattern(generator, width, height, scale), -0.5, 0.45) + 1
    shift = np.array([[1, 0, lx * 0.028 * size], [0, 1, ly * 0.028 * size]], np.float32)
    through = (1 - alpha) * (1 - 0.42 * cv2.warpAffine(bulk, shift, (width, height)))
    window = np.s_[y0:y1, x0:x1]
    layers.image[window] = layers.image[window] * cv2.merge((through,) * 3) + flat[..., :3] * cv2.merge((shade,) * 3)
    mask = cover > 127
    layers.instance_map[window][mask] = number
    layers.part_map[window][mask] = number * (part[mask] > 127)


def paint_sign(
    layers: Layers, number: int, word: str, place: Sequence[float], palette: np.ndarray, generator: np.random.Generator
) -> None:
    """Paint a sign board, and on it the word unless it is empty, of which the strokes are the object.

    place: (x, y, length) of the board in parts of the image's side; it is 0.4 of its length high and a little askew.
    """
    size = len(layers.image)
    degrees, brightness, dark = generator.uniform(-12, 12), generator.uniform(0.85, 1.05), generator.random() < 0.5
    board, ink = (palette[4], 0.35 * palette[3]) if dark else (0.45 * palette[3], palette[4])
    x, y, length = (value * size * _OVER for value in place)
    c, s = cos(radians(degrees)), sin(radians(degrees))
    corners = np.array([(-1, -0.4), (1, -0.4), (1, 0.4), (-1, 0.4)]) * (length / 2) @ np.array([[c, s], [-s, c]]) + (
        x,
        y,
    )
    large = np.zeros((size * _OVER, size * _OVER, 2), np.uint8)
    cv2.fillPoly(large, [corners.astype(np.int32)], (255, 0))
    strokes = np.zeros(large.shape[:2], np.uint8)
    if word:
        font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(round(0.035 * length), 2)
        (width, height), _ = cv2.getTextSize(word, font, 1.0, 2)
        scale = min(0.8 * length / width, 0.24 * length / height)
        origin = (round(x - scale * width / 2), round(y + scale * height / 2))
        cv2.putText(strokes, word, origin, font, scale, 255, thickness, cv2.LINE_8)
        strokes = cv2.warpAffine(strokes, cv2.getRotationMatrix2D((x, y), -degrees, 1.0), strokes.shape[::-1])
    large[..., 1] = strokes
    cover = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    for alpha, colour in ((cover[..., 0], board), (cover[..., 1], ink)):
        layers.image[:] += alpha[..., None] * (colour * brightness - layers.image)
    layers.instance_map[cover[..., 1] >= 0.5] = number
    layers.part_map[cover[..., 1] >= 0.5] = number
