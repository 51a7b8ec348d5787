"""The ten classes of the scenes, each sketched from a few polygons, curves and strokes that move with random joints.

Every kind comes in two variants that share all shapes but one part: tail, bill, head gear, rig or bloom.
Recipes live in a frame of their own, x to the right and y downwards, about 2 long.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, radians, sin

import numpy as np

from wsol_utils.datasets.scene_shapes import Shape, Sketch, blob, curve, ellipse, eye, ribbon, turned

CLASS_NAMES = (
    "fork-tailed fish",
    "fan-tailed fish",
    "hook-billed bird",
    "long-billed bird",
    "horned beetle",
    "longhorn beetle",
    "sailboat",
    "steamboat",
    "daisy",
    "tulip",
)
KINDS = ("fish", "bird", "beetle", "boat", "flower")


def fish(variant: int, u: np.ndarray) -> list[Shape]:
    """A fish swimming to the right; part: the tail, forked or a fan."""
    h, tilt = 1 + 0.22 * u[0], 16 * u[1]
    if variant == 0:
        spread = 0.56 + 0.08 * u[2]
        tail = np.array(
            [
                (-0.5, -0.07),
                (-0.82, -0.8 * spread),
                (-1.22, -spread),
                (-1.02, -0.5 * spread),
                (-0.8, 0),
                (-1.02, 0.5 * spread),
                (-1.22, spread),
                (-0.82, 0.8 * spread),
                (-0.5, 0.07),
            ]
        )
        rays = [[(-0.6, -0.03), (-1.05, -0.8 * spread)], [(-0.6, 0.03), (-1.05, 0.8 * spread)]]
    else:
        opening = radians(62 + 10 * u[2])
        angles = np.linspace(-opening, opening, 19)
        radius = 0.66 + 0.035 * np.cos(np.arange(19) * pi)
        edge = np.stack([-0.52 - radius * np.cos(angles), radius * np.sin(angles)], axis=1)
        tail = np.concatenate([[(-0.5, -0.07)], edge, [(-0.5, 0.07)]])
        rays = [
            [(-0.62, 0.1 * sin(a)), (-0.52 - 0.6 * cos(a), 0.6 * sin(a))] for a in opening * np.arange(-0.7, 0.8, 0.35)
        ]
    tail_shapes = [Shape(turned(tail, tilt, (-0.5, 0)), "second", 110, True)]
    tail_shapes += [Shape(turned(np.array(ray), tilt, (-0.5, 0)), "shade", 105, True, 0.035) for ray in rays]
    body = blob(
        [
            (0.92, 0.02),
            (0.7, -0.2 * h),
            (0.3, -0.36 * h),
            (-0.2, -0.27 * h),
            (-0.62, -0.09),
            (-0.62, 0.09),
            (-0.2, 0.28 * h),
            (0.3, 0.37 * h),
            (0.7, 0.2 * h),
        ]
    )
    lift = 0.12 * u[3]
    dorsal = blob([(0.42, -0.3 * h), (0.12, -0.58 * h - lift), (-0.22, -0.52 * h - lift), (-0.36, -0.2 * h)])
    belly = blob([(0.3, 0.3 * h), (0.02, 0.55 * h), (-0.14, 0.52 * h), (-0.1, 0.2 * h)])
    flank = blob([(0.86, 0.07), (0.4, 0.12), (-0.5, 0.05), (-0.2, 0.24 * h), (0.3, 0.32 * h), (0.68, 0.2 * h)])
    pectoral = turned(blob([(0.3, 0.04), (0.08, -0.03), (-0.08, 0.1), (0.1, 0.18)]), 28 * u[4], (0.3, 0.06))
    gill = curve([(0.47, -0.22 * h), (0.38, 0), (0.47, 0.22 * h)])
    return [
        *tail_shapes,
        Shape(dorsal, "second", 110),
        Shape(belly, "second", 110),
        Shape(body, "main", 180),
        Shape(flank, "pale", 180),
        Shape(gill, "shade", 165, width=0.04),
        Shape(pectoral, "second", 205),
        *eye(0.65, -0.07 * h, 0.085),
    ]


def bird(variant: int, u: np.ndarray) -> list[Shape]:
    """A perched bird looking to the right; part: the bill, a hook or a long spike."""
    reach, nod = 0.1 * u[0], 14 * u[1]
    head = (0.5 + 0.4 * reach, -0.52 - reach)
    x, y = head
    if variant == 0:
        bill = blob(
            [
                (x + 0.12, y - 0.2),
                (x + 0.38, y - 0.22),
                (x + 0.58, y - 0.02),
                (x + 0.54, y + 0.36),
                (x + 0.4, y + 0.15),
                (x + 0.22, y + 0.15),
                (x + 0.1, y + 0.12),
            ]
        )
        slit = np.array([(x + 0.16, y + 0.02), (x + 0.4, y + 0.05)])
    else:
        length = 1.0 + 0.12 * u[2]
        bill = np.array(
            [
                (x + 0.1, y - 0.13),
                (x + 0.36, y - 0.075),
                (x + length, y + 0.03),
                (x + length, y + 0.07),
                (x + 0.36, y + 0.11),
                (x + 0.1, y + 0.13),
            ]
        )
        slit = np.array([(x + 0.16, y + 0.02), (x + 0.8 * length, y + 0.04)])
    bill_shapes = [Shape(turned(bill, nod, head), "pale", 150, True)]
    bill_shapes.append(Shape(turned(slit, nod, head), "shade", 145, True, 0.03))
    fan = 9 + 4 * u[3]
    feathers = [
        turned(np.array([(-0.5, -0.07), (-1.1, -0.09), (-1.14, 0.0), (-1.1, 0.08), (-0.5, 0.1)]), k * fan, (-0.5, 0.05))
        for k in (-1.6, -0.7, 0.2)
    ]
    body = blob(
        [
            (x - 0.02, y - 0.06),
            (0.62, -0.18),
            (0.6, 0.14),
            (0.3, 0.42),
            (-0.15, 0.42),
            (-0.62, 0.12),
            (-0.55, -0.1),
            (-0.1, -0.24),
            (x - 0.2, y + 0.08),
        ]
    )
    breast = blob([(0.6, -0.12), (0.58, 0.14), (0.28, 0.38), (-0.1, 0.38), (0.2, 0.2), (0.42, -0.05)])
    flap = -24 + 26 * u[4]
    wing = blob([(0.28, -0.1), (0.3, 0.1), (0.0, 0.26), (-0.45, 0.22), (-0.9, 0.16), (-0.5, -0.05), (-0.05, -0.2)])
    bar = curve([(0.14, 0.1), (-0.15, 0.14), (-0.6, 0.12)])
    pivot, step = (0.2, -0.02), 0.1 * u[5]
    legs = []
    for hip, foot in ((-0.02, -0.06 + step), (0.16, 0.16 - step)):
        legs.append(Shape(np.array([(hip, 0.36), (foot, 0.78), (foot + 0.2, 0.8)]), "dark", 110, width=0.055))
        legs.append(Shape(np.array([(foot - 0.14, 0.82), (foot, 0.77), (foot + 0.17, 0.72)]), "dark", 110, width=0.045))
    crown = turned(
        blob([(x - 0.2, y - 0.02), (x - 0.06, y - 0.21), (x + 0.14, y - 0.17), (x + 0.05, y - 0.05)]), nod, head
    )
    return [
        *legs,
        *(Shape(feather, "second", 100 + 18 * i) for i, feather in enumerate(feathers)),
        Shape(body, "main", 180),
        Shape(breast, "pale", 180),
        *bill_shapes,
        Shape(ellipse(x, y, 0.23, 0.215), "main", 195),
        Shape(crown, "second", 195),
        Shape(turned(wing, flap, pivot), "second", 215),
        Shape(turned(bar, flap, pivot), "pale", 215, width=0.05),
        *(shape._replace(points=turned(shape.points, nod, head)) for shape in eye(x + 0.07, y - 0.03, 0.068)),
    ]


def beetle(variant: int, u: np.ndarray) -> list[Shape]:
    """A beetle from above, head upwards; part: a forked horn, or two long feelers."""
    w, sway = 1 + 0.14 * u[0], 13 * u[1]
    neck = (0.0, -0.5)
    if variant == 0:
        tips = 0.34 + 0.06 * u[2]
        prongs = [
            ribbon([(0, -0.66), (0.0, -1.0), (side * 0.1, -1.2), (side * tips, -1.5)], (0.28, 0.2, 0.18, 0.07))
            for side in (-1, 1)
        ]
        gear = [Shape(turned(prong, sway, neck), "second", 190, True) for prong in prongs]
    else:
        sweep = 0.13 * u[2]
        feelers = [
            curve(
                [
                    (side * 0.1, -0.76),
                    (side * 0.4, -1.12),
                    (side * (0.86 + sweep), -0.95),
                    (side * (1.12 + sweep), -0.3),
                ]
            )
            for side in (-1, 1)
        ]
        gear = [Shape(turned(feeler, sway, neck), "second", 190, True, 0.07) for feeler in feelers]
    legs = []
    for i, (hip, knee, foot) in enumerate(
        (
            ((0.2, -0.35), (0.62, -0.56), (0.78, -0.86)),
            ((0.3, 0.0), (0.76, 0.02), (0.98, 0.24)),
            ((0.25, 0.3), (0.62, 0.52), (0.74, 0.92)),
        )
    ):
        for side, joint in ((-1, u[3 + i]), (1, u[6 + i])):
            leg = turned(np.array([hip, knee, foot]), 11 * joint, hip) * (side, 1)
            legs.append(Shape(leg, "dark", 90, width=0.085))
    shell = blob([(0, -0.34), (0.34 * w, -0.28), (0.46 * w, 0.15), (0.33 * w, 0.62), (0, 0.84)])
    shell = np.concatenate([shell[:25], (shell[1:25] * (-1, 1))[::-1]])
    thorax = blob(
        [
            (0, -0.62),
            (0.26 * w, -0.55),
            (0.36 * w, -0.36),
            (0.2, -0.24),
            (-0.2, -0.24),
            (-0.36 * w, -0.36),
            (-0.26 * w, -0.55),
        ]
    )
    spots = [
        Shape(ellipse(s * 0.2 * w, y, 0.1 + 0.03 * u[9], 0.12), "pale", 200) for y in (-0.05, 0.32) for s in (-1, 1)
    ]
    return [
        *legs,
        *gear,
        Shape(ellipse(*turned(np.array([(0, -0.68)]), sway, neck)[0], 0.19, 0.17), "second", 170),
        Shape(shell, "main", 205),
        *spots,
        Shape(np.array([(0, -0.3), (0, 0.8)]), "shade", 150, width=0.045),
        Shape(thorax, "second", 190),
        Shape(curve([(-0.22 * w, -0.42), (0, -0.47), (0.22 * w, -0.42)]), "pale", 195, width=0.05),
    ]


def boat(variant: int, u: np.ndarray) -> list[Shape]:
    """A boat bound to the right; part: mast and sails, or funnels and smoke."""
    sheer, cabin_x = 0.05 * u[0], -0.28 + 0.1 * u[1]
    if variant == 0:
        top, billow = -0.98 - 0.1 * u[2], 0.1 + 0.06 * u[3]
        mainsail = np.concatenate([[(0.06, top)], curve([(0.06, 0.02), (-0.35, 0.04), (-0.68, 0.0)])])
        leech = curve([(-0.68, 0.0), (-0.42 - billow, 0.45 * top), (0.06, top)])
        jib = np.concatenate([curve([(0.16, 0.8 * top), (0.42 + billow, 0.4 * top), (0.84, 0.04)]), [(0.16, 0.02)]])
        seam = np.array([(-0.44, 0.42 * top), (0.04, 0.42 * top)])
        rig = [
            Shape(np.concatenate([mainsail, leech]), "pale", 160, True),
            Shape(jib, "second", 160, True),
            Shape(seam, "second", 158, True, 0.05),
            Shape(np.array([(0.1, top - 0.06), (0.1, 0.25)]), "dark", 185, True, 0.05),
        ]
    else:
        lean, rig = -0.06 + 0.05 * u[2], []
        puffs = ((0.0, -0.12, 0.13), (-0.17, -0.22, 0.17), (-0.4, -0.25 + 0.06 * u[3], 0.19))
        for x, foot in ((0.3, 0.08), (-0.02, 0.02)):
            head = (x + lean, -0.62)
            funnel = np.array([(x - 0.1, foot), (head[0] - 0.1, -0.6), (head[0] + 0.1, -0.6), (x + 0.1, foot)])
            band = np.array(
                [(head[0] - 0.115, -0.62), (head[0] + 0.115, -0.62), (head[0] + 0.105, -0.46), (head[0] - 0.105, -0.46)]
            )
            rig += [Shape(funnel, "second", 200, True), Shape(band, "dark", 205, True)]
        rig = [
            Shape(ellipse(0.3 + lean + x, -0.62 + y, r, 0.85 * r), "pale", 120, True) for x, y, r in puffs[::-1]
        ] + rig
    hull = np.concatenate(
        [curve([(-0.95, 0.2), (-0.3, 0.28 + sheer), (0.4, 0.26 + sheer), (1.05, 0.1)]), blob_edge(u[4])]
    )
    cabin = np.array([(cabin_x - 0.28, 0.3), (cabin_x - 0.26, 0.02), (cabin_x + 0.34, 0.02), (cabin_x + 0.38, 0.3)])
    windows = [ellipse(cabin_x + dx, 0.15, 0.055, 0.055, n_points=12) for dx in (-0.12, 0.06, 0.24)]
    stripe = curve([(-0.92, 0.34), (-0.3, 0.39 + sheer), (0.4, 0.37 + sheer), (0.92, 0.27)])
    return [
        *rig,
        Shape(cabin, "pale", 150),
        *(Shape(window, "dark", 145) for window in windows),
        Shape(hull, "main", 200),
        Shape(stripe, "second", 200, width=0.07),
    ]


def blob_edge(bend: float) -> np.ndarray:
    """The underside of a hull, from bow to stern."""
    return curve([(1.05, 0.1), (0.74, 0.56 + 0.03 * bend), (0.1, 0.64 + 0.03 * bend), (-0.74, 0.6), (-0.95, 0.2)])


def flower(variant: int, u: np.ndarray) -> list[Shape]:
    """A flower with stem and two leaves; part: the bloom, a daisy's star or a tulip's cup."""
    x, y, nod = 0.14 * u[0], -0.5, 16 * u[1]
    if variant == 0:
        n_petals, squash, size = 11 + round(2 * u[2]), 0.9 + 0.1 * u[3], 0.56
        petal = blob([(0.12, -0.05), (0.38, -0.1), (size, -0.07), (size, 0.07), (0.38, 0.1), (0.12, 0.05)])
        angles = 2 * pi * (np.arange(n_petals) + u[4]) / n_petals
        turns = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], axis=1).reshape(-1, 2, 2)
        bloom = [
            Shape(points, "pale" if k % 2 else "main", 150 + 20 * (k % 2), True)
            for k, points in enumerate(petal @ turns * (1, squash))
        ]
        bloom.append(Shape(ellipse(0, 0, 0.2, 0.2 * squash), "second", 215, True))
    else:
        flare, top = 0.06 * u[2], -0.5
        side = [
            (0.0, 0.4),
            (0.3, 0.28),
            (0.4, -0.02),
            (0.36 + flare, -0.3),
            (0.4 + flare, top),
            (0.14, -0.22),
            (0.0, 0.0),
        ]
        outer = np.concatenate([curve(side[:5]), curve(side[4:])])
        back = blob([(-0.24, -0.2), (0, -0.56), (0.24, -0.2), (0, 0.1)])
        middle = blob([(0.0, 0.4), (0.22, 0.1), (0.16, -0.24), (0.0, -0.46), (-0.16, -0.24), (-0.22, 0.1)])
        bloom = [
            Shape(back, "second", 110, True),
            Shape(outer, "main", 150, True),
            Shape(outer * (-1, 1), "main", 150, True),
            Shape(middle, "pale", 195, True),
        ]
    bloom = [shape._replace(points=turned(shape.points, nod) + np.array([x, y])) for shape in bloom]
    bend = 0.16 * u[5]
    stem = curve([(x, y + 0.1), (x + bend, 0.2), (bend, 0.6), (0.0, 1.0)])
    leaves = []
    for sign, lift, foot in ((-1, u[6], 0.78), (1, u[7], 0.62)):
        tip = (sign * (0.56 + 0.1 * lift), 0.12 + 0.22 * lift)
        leaf = ribbon([(0.4 * bend, foot), (sign * 0.26, 0.5 + 0.1 * lift), tip], (0.05, 0.24, 0.01))
        leaves.append(Shape(leaf, "leaf", 150 + 10 * sign))
    return [Shape(stem, "leaf", 130, width=0.09), *leaves, *bloom]


_RECIPES: tuple[tuple[Callable[[int, np.ndarray], list[Shape]], float], ...] = (
    (fish, 38.0),
    (bird, 22.0),
    (beetle, 180.0),
    (boat, 14.0),
    (flower, 30.0),
)


def sketch(class_index: int, generator: np.random.Generator) -> Sketch:
    """Sketch an object of a class (0 to 9, see `CLASS_NAMES`) in a random pose.

    Kind k = class_index // 2, variant = class_index % 2. The pose is joints, stretch, flip and rotation.
    """
    recipe, max_degrees = _RECIPES[class_index // 2]
    u = generator.uniform(-1, 1, 14)
    shapes = recipe(class_index % 2, u[:10])
    stretch = np.array([(-1.0 if u[10] < 0 else 1.0) * (1 + 0.16 * u[11]), 1 - 0.16 * u[11]])
    counts = [len(shape.points) for shape in shapes]
    points = turned(np.concatenate([shape.points for shape in shapes]) * stretch, max_degrees * u[12])
    margin = np.repeat([shape.width / 2 for shape in shapes], counts)[:, None]
    low, high = (points - margin).min(axis=0), (points + margin).max(axis=0)
    side = float((high - low).max())
    points = (points - (low + high) / 2) / side
    return Sketch(points, np.cumsum(counts), shapes, side, tuple((high - low) / side))
