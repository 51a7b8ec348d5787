"""Figures in one style: images, maps, boxes, seeds, bars. Functions take and return axes; the notebook shows them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

COLOURS = {"truth": "#1a9850", "prediction": "#f46d43", "other": "#4575b4"}
SEED_COLOURS = np.array([[220, 40, 40], [40, 60, 230], [40, 220, 230]], np.uint8)  # undefined, foreground, background


def use_house_style() -> None:
    """Set matplotlib's defaults for all figures of the companion."""
    plt.style.use(Path(__file__).parent / "house.mplstyle")


def grid(n_rows: int, n_columns: int, cell: float = 1.9, title: str = "") -> tuple[Figure, np.ndarray]:
    """A figure of square cells without ticks; `cell` is their side in inches.

    Returns the figure and its axes as an array (n_rows, n_columns).
    """
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(cell * n_columns, cell * n_rows + 0.3 * bool(title)), squeeze=False
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.set_frame_on(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, axes


def show_image(ax: Axes, image: np.ndarray, title: str = "") -> Axes:
    """Draw an RGB image (H, W, 3) or a grey one (H, W), as it is, without axes."""
    ax.imshow(image, cmap="gray" if image.ndim == 2 else None)
    ax.set(title=title, xticks=[], yticks=[])
    ax.set_frame_on(False)
    return ax


def show_map(
    ax: Axes, score_map: np.ndarray, title: str = "", *, over: np.ndarray | None = None, signed: bool = False
) -> Axes:
    """Draw a score map (H, W) in viridis from 0 to its maximum, or, if `signed`, in a diverging map centred on zero.

    `over` is an image to lay it on.
    """
    top = float(np.abs(score_map).max()) or 1.0
    if over is not None:
        ax.imshow(over)
    ax.imshow(
        score_map,
        cmap="RdBu_r" if signed else "viridis",
        vmin=-top if signed else 0.0,
        vmax=top,
        alpha=None if over is None else 0.55,
    )
    ax.set(title=title, xticks=[], yticks=[])
    ax.set_frame_on(False)
    return ax


def draw_box(ax: Axes, box: Sequence[float], kind: str = "prediction", width: float = 2) -> Axes:
    """Draw a box (x0, y0, x1, y1): "truth" green and solid, "prediction" orange and dashed, "other" blue and dotted."""
    x0, y0, x1, y1 = box
    style = {"truth": "-", "prediction": "--", "other": ":"}[kind]
    ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, lw=width, ls=style, ec=COLOURS[kind]))
    return ax


def show_boxes(
    ax: Axes,
    image: np.ndarray,
    boxes: Sequence[Sequence[float]] = (),
    truth: Sequence[Sequence[float]] = (),
    title: str = "",
    kind: str = "prediction",
    width: float = 2,
) -> Axes:
    """Draw an image with its true boxes (k, 4) and boxes (n, 4) of a kind over them, with lines of a width."""
    show_image(ax, image, title)
    for box in truth:
        draw_box(ax, box, "truth", width)
    for box in boxes:
        draw_box(ax, box, kind, width)
    return ax


def outline(ax: Axes, box: Sequence[float], colour: str, line: str = "-", width: float = 1.6) -> Axes:
    """Draw a box (x0, y0, x1, y1) in a colour of one's own, where boxes of one kind must be told apart."""
    x0, y0, x1, y1 = box
    ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, lw=width, ls=line, ec=colour))
    return ax


def show_answers(ax: Axes, image: np.ndarray, truth: np.ndarray, answers: np.ndarray) -> Axes:
    """Draw an image with k boxes (k, 4) or points (k, 2) in a fixed order and the answers to each, in its colour.

    The truth is a solid line or a ring, the answer a dashed line or a cross.
    """
    show_image(ax, image)
    ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    for colour, own, answer in zip(("C0", "C1", "C3", "C4", "C6"), truth, answers, strict=False):
        if len(own) == 4:
            outline(outline(ax, own, colour), answer, colour, "--")
        else:
            ax.plot(*own, "o", mfc="none", mec=colour, mew=2)
            ax.plot(*answer, "x", c=colour, mew=2)
    return ax


def name_boxes(
    ax: Axes, boxes: Sequence[Sequence[float]], names: Sequence[str], right: Sequence[bool], width: float = 1.5
) -> Axes:
    """Draw predicted boxes (k, 4) with a name at each, black where the box is right and red where not."""
    for (x0, y0, x1, y1), name, is_right in zip(boxes, names, right, strict=True):
        draw_box(ax, (x0, y0, x1, y1), width=width)
        colour = "black" if is_right else "#d73027"
        back = {"facecolor": "white", "alpha": 0.6, "lw": 0, "pad": 0.5}
        ax.text(x0 + 1, y0 + 1, name, fontsize=6, color=colour, va="top", bbox=back, clip_on=True)
    return ax


def show_glow(ax: Axes, image: np.ndarray, score_map: np.ndarray) -> Axes:
    """Draw an image that stays bright, with a score map (H, W) glowing over it where it is high."""
    glow = score_map.clip(0) / (score_map.max() or 1.0)
    show_image(ax, image).imshow(glow, vmin=0, vmax=1, alpha=0.75 * glow)
    return ax


def paint_box(image: np.ndarray, box: Sequence[float], kind: str = "prediction") -> np.ndarray:
    """The image (H, W, 3) with a box in it, in the colours and lines of `draw_box`, for widgets and contact sheets."""
    x0, y0, x1, y1 = map(int, box)
    edge = np.zeros(image.shape[:2], bool)
    edge[y0:y1, x0:x1] = True
    edge[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = False
    if kind != "truth":
        edge &= np.indices(edge.shape).sum(0) % 12 < {"prediction": 7, "other": 3}[kind]
    return np.where(edge[..., None], (255 * np.array(to_rgb(COLOURS[kind]))).astype(np.uint8), image)


def seed_image(seeds: np.ndarray) -> np.ndarray:
    """The talk's seed picture of seeds (H, W): foreground (1) blue, background (2) cyan, undefined (0) red."""
    return SEED_COLOURS[seeds]


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) with everything outside `mask` (H, W) faded to near white."""
    faded = (230 + 0.1 * image).astype(np.uint8)
    return np.where(mask[..., None], image, faded)


def contact_sheet(images: Sequence[np.ndarray], n_columns: int, gap: int = 4) -> np.ndarray:
    """Images of one size (H, W, 3) laid out in rows on white, as one image."""
    height, width = images[0].shape[:2]
    n_rows = -(-len(images) // n_columns)
    sheet = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        y, x = index // n_columns * (height + gap), index % n_columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def colour_map(
    score_map: np.ndarray, image: np.ndarray | None = None, opacity: float = 0.55, top: float | None = None
) -> np.ndarray:
    """The score map (H, W) in viridis from 0 to `top`, its maximum unless given, as an RGB image.

    It is laid on `image` if one is given.
    """
    scaled = np.clip(score_map / (top or score_map.max() or 1.0), 0, 1)
    coloured = plt.get_cmap("viridis")(scaled)[..., :3] * 255
    return (coloured if image is None else opacity * coloured + (1 - opacity) * image).astype(np.uint8)


def bars(ax: Axes, values: Mapping[str, tuple[float, float, float]], unit: str = "%") -> Axes:
    """Horizontal bars of named (mean, low, high) with their intervals and the numbers written beside."""
    names = list(values)[::-1]
    means, lows, highs = np.array([values[name] for name in names], float).T
    ax.barh(names, means, xerr=[means - lows, highs - means], color=COLOURS["other"], alpha=0.75, error_kw={"lw": 1})
    for row, (mean, high) in enumerate(zip(means, highs, strict=True)):
        ax.text(high, row, f"  {mean:.1f} {unit}", va="center", fontsize=8)
    ax.margins(x=0.15)
    return ax


def signal_image(signal: np.ndarray, quantile: float = 0.995) -> np.ndarray:
    """A signed signal at an image (3, H, W) as an RGB image (H, W, 3): zero is grey, clipped at a quantile of its size.

    Example:
        >>> signal_image(np.zeros((3, 1, 1))).tolist()
        [[[127, 127, 127]]]
    """
    limit = float(np.quantile(np.abs(signal), quantile)) or 1.0
    return (127.5 + 127.5 * np.clip(signal / limit, -1, 1)).astype(np.uint8).transpose(1, 2, 0)


def photograph(figure: Figure, quality: int = 85) -> Image:
    """The figure as a JPEG for the notebook (sheets of photographs are several times smaller so), and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": quality, "optimize": True})
    plt.close(figure)
    return Image(buffer.getvalue(), format="jpeg")


def picture_sheet(
    rows: Sequence[Sequence[tuple]], title: str = "", cell: float = 1.6, quality: int = 40, names: Sequence[str] = ()
) -> Image:
    """Rows of pictures as one JPEG: each an image (H, W, 3), words above and words below it, where these are given.

    `names` are written at the left of the rows; a row may be shorter than the others.

    Example:
        >>> picture_sheet([[(np.zeros((4, 4, 3), np.uint8), "above", "below")]], names=["row"]).data[:2]
        b'\xff\xd8'
    """
    figure, axes = grid(len(rows), max(map(len, rows)), cell, title)
    tallest = max(image.shape[0] / image.shape[1] for row in rows for image, *_ in row)
    below = 0.2 if any(len(words) > 1 for row in rows for _, *words in row) else 0.0
    figure.set_size_inches(cell * axes.shape[1], (cell * tallest + 0.1 + below) * len(rows) + 0.3 * bool(title))
    for row_axes, row in zip(axes, rows, strict=True):
        for ax, (image, *words) in zip(row_axes, row, strict=False):
            show_image(ax, image, *words[:1])
            ax.set_xlabel(*words[1:] or [""], fontsize=8)
    for ax, name in zip(axes[:, 0], names, strict=False):
        ax.set_ylabel(name, fontsize=9)
    return photograph(figure, quality)


def curves(values: Mapping[str, ArrayLike], x: ArrayLike | None = None, **options: object) -> Axes:
    """Named curves over `x` (the count from 0 unless given) in one small plot.

    A name that ends in "random signs" or "control" is dotted, in the colour of the curve named alike up to the comma.
    `options` are those of `Axes.set`, such as xlabel, ylabel, xscale and title.

    Example:
        >>> len(curves({"rises": [1, 2], "control": [1, 1]}, xlabel="step").lines)
        2
    """
    _, ax = plt.subplots(figsize=(6.6, 2.8))
    colours: dict[str, str] = {}
    for name, each in values.items():
        dotted, stem = name.endswith(("random signs", "control")), name.split(",")[0]
        style = {"linestyle": ":" if dotted else "-", "marker": "x" if dotted else "o", "ms": 3.5, "label": name}
        (line,) = ax.plot(
            np.arange(len(each)) if x is None else x, each, color=colours.get(stem) if dotted else None, **style
        )
        colours.setdefault(stem, line.get_color())
    ax.set(**options)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax
