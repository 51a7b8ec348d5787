"""What sketches are made of: polygons, smooth outlines, ribbons, ellipses and strokes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, radians, sin
from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    """A filled polygon, or a stroke of the given width, with its place in the palette and its height for the light."""

    points: np.ndarray
    colour: str
    height: int = 150
    part: bool = False
    width: float = 0.0


@dataclass(frozen=True)
class Sketch:
    """An object ready to be placed.

    points: float (M, 2), the posed points of all shapes, one shape after another.
    ends: where each shape's points end in `points`.
    shapes: the shapes from back to front, before they were posed.
    side: the length in the recipe's frame that is 1 long in `points`.
    extent: (width, height) of the bounding box; the longer is 1.
    """

    points: np.ndarray
    ends: np.ndarray
    shapes: list[Shape]
    side: float
    extent: tuple[float, float]


@lru_cache(maxsize=64)
def _spline_matrix(n_points: int, closed: bool, n_steps: int = 6) -> np.ndarray:
    """The matrix that turns n control points into points of the Catmull-Rom spline through them."""
    t = np.arange(n_steps) / n_steps
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    n_segments = n_points if closed else n_points - 1
    matrix = np.zeros((n_segments * n_steps + (not closed), n_points))
    for segment in range(n_segments):
        for j in range(4):
            k = segment + j - 1
            k = k % n_points if closed else min(max(k, 0), n_points - 1)
            matrix[segment * n_steps : (segment + 1) * n_steps, k] += basis[:, j]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def blob(points: list[tuple[float, float]]) -> np.ndarray:
    """A smooth closed outline through the points."""
    return _spline_matrix(len(points), True) @ np.array(points)


def curve(points: list[tuple[float, float]]) -> np.ndarray:
    """A smooth open line through the points."""
    return _spline_matrix(len(points), False) @ np.array(points)


def ribbon(points: list[tuple[float, float]], widths: tuple[float, ...]) -> np.ndarray:
    """The outline of a curved band through the points, with a width at each point."""
    middle = curve(points)
    half = _spline_matrix(len(points), False) @ np.array(widths) / 2
    along = np.empty_like(middle)
    along[1:-1] = middle[2:] - middle[:-2]
    along[0], along[-1] = middle[1] - middle[0], middle[-1] - middle[-2]
    across = along[:, ::-1] * (-1, 1) * (half / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9))[:, None]
    return np.concatenate([middle + across, (middle - across)[::-1]])


@lru_cache(maxsize=8)
def _circle(n_points: int) -> np.ndarray:
    angles = np.arange(n_points) * (2 * pi / n_points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0, n_points: int = 24) -> np.ndarray:
    """The outline of an ellipse."""
    return turned(_circle(n_points) * (rx, ry), degrees) + np.array([x, y])


def turned(points: np.ndarray, degrees: float, about: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The points turned about a pivot, clockwise on the screen."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    x, y = about
    return points @ np.array([[c, s], [-s, c]]) + np.array([x - c * x + s * y, y - s * x - c * y])


def eye(x: float, y: float, radius: float) -> list[Shape]:
    """A white eye with a dark pupil."""
    return [
        Shape(ellipse(x, y, radius, radius, n_points=14), "white", 190),
        Shape(ellipse(x + 0.2 * radius, y, 0.55 * radius, 0.55 * radius, n_points=12), "dark", 190),
    ]
