"""Scenes: drawn images whose objects, boxes, masks and telling parts are known, as many as wanted, each from its seed.

Ten classes, five kinds in two variants that differ in one part. Colours, light, pose, place and background tell nothing
of the class, but in the views that are made to break just that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi, sin

import cv2
import joblib
import numpy as np

from wsol_utils.datasets.archives import progress
from wsol_utils.datasets.scene_backgrounds import BACKGROUND_NAMES, draw_background, draw_palette, texture
from wsol_utils.datasets.scene_objects import CLASS_NAMES, sketch
from wsol_utils.datasets.scene_painting import WORDS, Layers, draw_colours, draw_hue, paint_object, paint_sign
from wsol_utils.datasets.scene_shapes import Sketch
from wsol_utils.datasets.splits import SPLIT_NAMES, DataSet, Split

RELATION_NAMES = ("left of", "on", "under")
TEXT_NAMES = ("no word", "word")
N_IMAGES = {"train": 3000, "train_with_boxes": 200, "val": 500, "test": 1000}
DEFAULT_SIZE = 96
LEAST_FOR_ALL_CORES = 1000  # images: starting a process for each core takes as long as drawing a few hundred
HUE_SPREAD, ALIKE = 0.04, 0.1
_VERSION = "1"
_LENGTHS = ((0.44, 0.82), (0.36, 0.52), (0.3, 0.42), (0.28, 0.37))

Places = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Scene:
    """One drawn image and its truth.

    image: uint8 (S, S, 3), RGB. classes: int64 (k,), the class of each object. boxes: float32 (k, 4), exclusive ends.
    instance_map: uint8 (S, S), 0 background, j + 1 the visible pixels of object j.
    part_map: uint8 (S, S), the same for the part that tells the class from its sister class.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    instance_map: np.ndarray
    part_map: np.ndarray


def _scatter(
    generator: np.random.Generator, sketches: Sequence[Sketch], taken: Sequence[Sequence[float]] = ()
) -> Places:
    """Places all over the image that hardly overlap; an object that finds none is left out, as are those after it.

    Places near the edges are a little more frequent than the middle, so that no constant box finds many objects.
    taken: boxes (x0, y0, x1, y1) in parts of the image's side that are to stay free.
    """
    low, high = _LENGTHS[min(len(sketches) + len(taken), len(_LENGTHS)) - 1]
    boxes = np.array(taken, float).reshape(-1, 4)
    places: Places = []
    for one in sketches:
        length = generator.uniform(low, high)
        half = np.array(one.extent) * (length / 2)
        u = generator.random((14, 2))
        centres = half + 0.012 + (0.976 - 2 * half) * (0.5 * u + 0.25 - 0.25 * np.cos(pi * u))
        tried = np.concatenate([centres - half, centres + half], axis=1)
        common = np.minimum(tried[:, None, 2:], boxes[:, 2:]) - np.maximum(tried[:, None, :2], boxes[:, :2])
        overlap = np.maximum(common, 0).prod(axis=2).sum(axis=1) / (4 * half.prod())
        best = int(overlap.argmin())
        if overlap[best] > 0.2:
            break
        places.append((*centres[best].tolist(), length))
        boxes = np.concatenate([boxes, tried[best : best + 1]])
    return places


def _relate(relation: int, generator: np.random.Generator, sketches: Sequence[Sketch]) -> Places:
    """Places for a subject left of, on or under a reference."""
    lengths = generator.uniform((0.3, 0.38), (0.42, 0.5))
    subject, reference = (np.array(one.extent) * length for one, length in zip(sketches, lengths, strict=True))
    apart, aside = generator.uniform(0.01, 0.07), generator.uniform(-0.1, 0.1)
    if RELATION_NAMES[relation] == "left of":
        offset = np.array([-(subject[0] + reference[0]) / 2 - apart, aside])
    elif RELATION_NAMES[relation] == "on":
        offset = np.array([aside, 0.05 - (subject[1] + reference[1]) / 2])
    else:
        offset = np.array([aside, (subject[1] + reference[1]) / 2 + apart])
    low = np.minimum(offset - subject / 2, -reference / 2)
    high = np.maximum(offset + subject / 2, reference / 2)
    shrink = min(1.0, 0.96 / (high - low).max())
    corner = generator.uniform(0.015, 0.985 - shrink * (high - low))
    centres = corner + shrink * (np.stack([offset, 0 * offset]) - low)
    return [(*centre.tolist(), shrink * length) for centre, length in zip(centres, lengths, strict=True)]


def _finish(layers: Layers, classes: Sequence[int], generator: np.random.Generator) -> Scene:
    """Lay light and grain over the layers and measure the boxes."""
    size = len(layers.image)
    t = np.linspace(-0.09, 0.09, size, dtype=np.float32)
    lx, ly = layers.light
    field = 1 - np.float32(lx) * t - np.float32(ly) * t[:, None] + np.float32(0.035) * texture(generator, size)
    image = cv2.multiply(layers.image, cv2.merge((field,) * 3), dtype=cv2.CV_8U)
    numbers = np.arange(1, len(classes) + 1, dtype=np.uint8)
    rectangles = [cv2.boundingRect((layers.instance_map == number).view(np.uint8)) for number in numbers]
    boxes = np.array(rectangles, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Scene(image, np.array(classes, np.int64), boxes, layers.instance_map, layers.part_map)


def draw_scene(
    generator: np.random.Generator,
    classes: Sequence[int],
    *,
    size: int = DEFAULT_SIZE,
    background: str | None = None,
    hue_spread: float = HUE_SPREAD,
    alike: float = ALIKE,
    arrange: Callable[[np.random.Generator, Sequence[Sketch]], Places] = _scatter,
    word: str | None = None,
) -> Scene:
    """Draw objects of the given classes (indices into `CLASS_NAMES`), none to four of them, on a background.

    background: one of `BACKGROUND_NAMES`, or None for any. hue_spread: how far the hues within an object scatter, as a
    share of the circle of hues. alike: probability that an object has the background's hue. arrange: gives the places
    (x, y, length) in parts of the image's side; by default all over the image with little overlap. word: a word on a
    board, or "" for the board alone; the word is then the one object of the scene's truth, its class 1.
    Raises ValueError for an unknown class or background.

    >>> scene = draw_scene(np.random.default_rng(0), [CLASS_NAMES.index("tulip")])
    >>> scene.image.shape, scene.boxes.shape
    ((96, 96, 3), (1, 4))
    """
    if any(not 0 <= c < len(CLASS_NAMES) for c in classes):
        raise ValueError(f"Classes of scenes are numbered 0 to {len(CLASS_NAMES) - 1}; got {list(classes)}.")
    if background is not None and background not in BACKGROUND_NAMES:
        raise ValueError(f"There is no background {background!r}; choose one of {', '.join(BACKGROUND_NAMES)}.")
    palette = draw_palette(generator)
    chosen = BACKGROUND_NAMES[generator.integers(len(BACKGROUND_NAMES))]
    n_distractors = generator.integers(2, 6)
    strange = palette[generator.integers(0, 5, n_distractors)] * generator.uniform(0.7, 1.05, (n_distractors, 1))
    canvas = draw_background(background or chosen, palette, generator, size, strange)
    angle = pi / 2 + generator.uniform(-1.2, 1.2)
    empty = np.zeros((size, size), np.uint8)
    layers = Layers(canvas.astype(np.float32), empty, empty.copy(), (cos(angle), sin(angle)))
    sketches = [sketch(c, generator) for c in classes]
    if word is not None:
        length = generator.uniform(0.42, 0.62)
        x, y = generator.uniform((length / 2, 0.15), (1 - length / 2, 0.85))
        paint_sign(layers, 1, word, (x, y, length), palette, generator)
        arrange = partial(arrange, taken=[(x - length / 2, y - 0.25 * length, x + length / 2, y + 0.25 * length)])
    places = arrange(generator, sketches)
    for j, (one, place) in enumerate(zip(sketches, places, strict=False)):
        colours = draw_colours(generator, draw_hue(generator, palette, alike), hue_spread)
        paint_object(layers, 0 if word is not None else j + 1, one, place, colours, generator)
    truth = classes[: len(places)] if word is None else [1] * bool(word)
    return _finish(layers, truth, generator)


def _single(generator: np.random.Generator, label: int, size: int) -> Scene:
    return draw_scene(generator, [label], size=size)


def _multi(generator: np.random.Generator, label: int, size: int) -> Scene:
    others = generator.integers(0, len(CLASS_NAMES), generator.integers(0, 4)).tolist()
    return draw_scene(generator, [label, *others], size=size)


def _instances(generator: np.random.Generator, label: int, size: int) -> Scene:
    return draw_scene(generator, [label] * int(generator.integers(1, 5)), size=size)


def _tied(generator: np.random.Generator, label: int, size: int, strength: float) -> Scene:
    tie = generator.random() < strength
    return draw_scene(generator, [label], size=size, background=BACKGROUND_NAMES[label] if tie else None)


def _hues(generator: np.random.Generator, label: int, size: int, spread: float, alike: float) -> Scene:
    return draw_scene(generator, [label], size=size, hue_spread=spread, alike=alike)


def _text(generator: np.random.Generator, label: int, size: int) -> Scene:
    word, blank = WORDS[generator.integers(len(WORDS))], generator.random() < 0.6
    object_class = int(generator.integers(len(CLASS_NAMES)))
    scene = draw_scene(generator, [object_class], size=size, word=word if label else "" if blank else None)
    if label:
        return scene
    nothing = np.zeros((size, size), np.uint8)
    return Scene(scene.image, np.zeros(0, np.int64), np.zeros((0, 4), np.float32), nothing, nothing)


def _relation(generator: np.random.Generator, label: int, size: int) -> Scene:
    subject, reference = int(generator.integers(0, 6)), int(generator.integers(6, 10))
    return draw_scene(generator, [subject, reference], size=size, arrange=partial(_relate, label))


_VIEWS: dict[str, tuple[Callable[..., Scene], tuple[str, ...], dict[str, float]]] = {
    "single": (_single, CLASS_NAMES, {}),
    "multi": (_multi, CLASS_NAMES, {}),
    "instances": (_instances, CLASS_NAMES, {}),
    "tied": (_tied, CLASS_NAMES, {"strength": 0.9}),
    "hues": (_hues, CLASS_NAMES, {"spread": 1.0, "alike": ALIKE}),
    "text": (_text, TEXT_NAMES, {}),
    "relation": (_relation, RELATION_NAMES, {}),
}
VIEWS = tuple(_VIEWS)


def _read(
    view: str, options: dict[str, float], seed: int, name: str, n_images: int | None, image_size: int, epoch: int
) -> Split:
    """Draw a split: each image from (seed, view, split, epoch, index) alone, each round of labels with every class."""
    if image_size < 32:
        raise ValueError(f"Scenes of {image_size} pixels would be unreadable; take an image_size of 32 or more.")
    _, class_names, _ = _VIEWS[view]
    n_images = N_IMAGES[name] if n_images is None else n_images
    key = [seed, VIEWS.index(view), SPLIT_NAMES.index(name), epoch if name == "train" else 0]
    n_classes = len(class_names)
    n_rounds = -(-n_images // n_classes)
    deals = [np.random.default_rng([*key, 0, k]).permutation(n_classes) for k in range(n_rounds)]
    labels = np.concatenate(deals)[:n_images].astype(np.int64)
    draw = joblib.delayed(partial(_draw, view, options, key, image_size))
    cores = joblib.Parallel(n_jobs=-1 if n_images >= LEAST_FOR_ALL_CORES else 1, batch_size=50, return_as="generator")
    drawn = cores(draw(i, label) for i, label in enumerate(labels.tolist()))
    scenes = list(progress(drawn, f"drawing {name}", n_images))
    box_labels = [
        np.full(len(s.boxes), y) if view == "relation" else s.classes for s, y in zip(scenes, labels, strict=True)
    ]
    label_sets = np.eye(n_classes, dtype=bool)[labels]
    for row, present in zip(label_sets, box_labels, strict=True):
        row[present] = True
    instance_maps = np.stack([s.instance_map for s in scenes])
    wanted = np.zeros((n_images, 256), bool)
    for row, present, label in zip(wanted, box_labels, labels, strict=True):
        row[1 : len(present) + 1] = present == label
    masks = np.take_along_axis(wanted, instance_maps.reshape(n_images, -1).astype(np.intp), axis=1)
    part_maps = np.stack([s.part_map for s in scenes])
    part_masks = np.take_along_axis(wanted, part_maps.reshape(n_images, -1).astype(np.intp), axis=1)
    return Split(
        name=name,
        images=np.stack([s.image for s in scenes]),
        labels=labels,
        label_sets=label_sets,
        names=[f"{view}-{name}-{key[-1]}-{i}" for i in range(n_images)],
        boxes=[s.boxes for s in scenes],
        box_labels=box_labels,
        masks=masks.reshape(instance_maps.shape),
        instance_maps=instance_maps,
        part_masks=part_masks.reshape(instance_maps.shape),
    )


def _draw(view: str, options: dict[str, float], key: list[int], image_size: int, i: int, label: int) -> Scene:
    recipe, _, _ = _VIEWS[view]
    return recipe(np.random.default_rng([*key, 1, i]), label, image_size, **options)


def load(view: str = "single", seed: int = 0, **options: float) -> DataSet:
    """Return the scenes of a view: "single", "multi", "instances", "tied", "hues", "text" or "relation".

    single: one object, one label. multi: one to four objects, any classes; the label is the first object's.
    instances: one to four of one class. tied: the background is the class's own with probability `strength` (0..1,
    default 0.9). hues: the hues within an object scatter over `spread` of the circle (0..1, default 1), and the object
    has the background's hue with probability `alike` (default 0.1). text: a word on a board (label 1) or none (0); the
    word is what boxes and masks show. relation: a creature left of, on or under a boat or flower; the label is the
    relation, boxes and masks show both.
    Masks and part masks show the objects of the image's label. Raises ValueError for an unknown view, option or range.

    >>> split = load("single").split("val", n_images=2)
    >>> split.images.shape, split.masks.dtype
    ((2, 96, 96, 3), dtype('bool'))
    """
    if view not in _VIEWS:
        raise ValueError(f"Scenes have no view {view!r}; choose one of {', '.join(VIEWS)}.")
    _, class_names, defaults = _VIEWS[view]
    for option, value in options.items():
        if option not in defaults:
            known = f"its options are {', '.join(defaults)}" if defaults else "it has none"
            raise ValueError(f"View {view!r} of scenes has no option {option!r}; {known}.")
        if not 0 <= value <= 1:
            raise ValueError(f"Option {option!r} of scenes is {value}; give a number from 0 to 1.")
    settings = {**defaults, **options}
    words = f"scenes {_VERSION} {view} {seed} {sorted(settings.items())}"
    return DataSet(
        name="scenes",
        class_names=class_names,
        default_size=DEFAULT_SIZE,
        has_boxes=True,
        has_masks=True,
        multi_label=view == "multi",
        fingerprint=hashlib.sha256(words.encode()).hexdigest()[:16],
        read=partial(_read, view, settings, seed),
    )
