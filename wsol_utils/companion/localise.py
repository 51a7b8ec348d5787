"""What a photograph shows, and where: its classes, saliency, GraphCut box, class activation map; one or a folder."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from wsol_utils.companion import weights
from wsol_utils.companion.store import write_atomically
from wsol_utils.companion.weights import Classifier
from wsol_utils.datasets.folder import SUFFIXES
from wsol_utils.datasets.images import fit_image, read_image, resize_image
from wsol_utils.datasets.photographs import MAX_SIDE
from wsol_utils.display import plots
from wsol_utils.evaluation.boxes import box_from_map, box_of_mask, largest_component
from wsol_utils.methods import cam, graphcut, networks, saliency

N_CLASSES = 5
PER_SHEET = 40  # photographs on a contact sheet


@dataclass(frozen=True)
class Localisation:
    """What a photograph shows and where. Maps and boxes belong to the best class.

    size: (width, height) of the photograph, upright; photo: RGB uint8, at most 1,024 pixels long.
    classes: (class name, posterior) of the five best, the best first.
    seen: uint8 (S, S, 3), what the network saw: the photograph squashed to a square.
    saliency_map: float32 (S, S), averaged over ten crops; mask: bool (S, S), by GraphCut from it.
    activation_map: float32 (S, S), or None for a network without global pooling.
    graphcut_box, cam_box: (x0, y0, x1, y1) in pixels of the photograph, ends exclusive.
    """

    size: tuple[int, int]
    photo: np.ndarray
    classes: list[tuple[str, float]]
    seen: np.ndarray
    saliency_map: np.ndarray
    mask: np.ndarray
    activation_map: np.ndarray | None
    graphcut_box: list[int]
    cam_box: list[int] | None


def localise(photo: str | Path | np.ndarray, classifier: Classifier | None = None) -> Localisation:
    """Name the five best classes of a photograph and locate the first of them.

    `photo` is a file, or an RGB uint8 array (H, W, 3), of any size; `classifier` is SqueezeNet unless given.

    Raises:
        OSError: the file cannot be read, or the ImageNet weights are not to be had.
        ValueError: an array of another kind.
    """
    classifier = classifier or weights.imagenet()
    network = classifier.network
    image = photo if isinstance(photo, np.ndarray) else read_image(photo)
    seen = resize_image(image, classifier.image_size)
    posterior = torch.tensor(networks.predict(network, seen[None])[0]).softmax(0).numpy()
    top = np.argsort(-posterior)[:N_CLASSES]
    best = int(top[0])
    salient = saliency.ten_crop_saliency(network, seen[None], best)
    mask = largest_component(graphcut.graphcut_masks(seen[None], salient)[0])
    try:
        activation = cam.class_activation_map(network, networks.normalise(seen[None]), best)[0]
    except ValueError:  # no global pooling, no map
        activation = None
    height, width = image.shape[:2]
    stretch = np.array([width, height, width, height]) / classifier.image_size
    return Localisation(
        size=(width, height),
        photo=fit_image(image, MAX_SIDE),
        classes=[(classifier.class_names[c], float(posterior[c])) for c in top],
        seen=seen,
        saliency_map=salient[0],
        mask=mask,
        activation_map=activation,
        graphcut_box=(box_of_mask(mask) * stretch).round().astype(int).tolist(),
        cam_box=None if activation is None else (box_from_map(activation) * stretch).round().astype(int).tolist(),
    )


def draw(found: Localisation) -> Figure:
    """The photograph with its classes, then saliency, GraphCut and activation map with their boxes, side by side."""
    figure, axes = plots.grid(1, 4, cell=2.6)
    photo, salient, cut, activation = axes[0]
    (best, share), *others = found.classes
    plots.show_image(photo, found.photo, f"{best} {share:.2f}")
    photo.set_xlabel("\n".join(f"{name} {share:.2f}" for name, share in others), fontsize=7)
    plots.show_map(salient, np.minimum(found.saliency_map, np.quantile(found.saliency_map, 0.995)), "saliency map")
    plots.draw_box(plots.show_image(cut, plots.cut_out(found.seen, found.mask), "GraphCut and box"), found.graphcut_box)
    if found.activation_map is None:
        activation.set_title("no class activation map:\nthe network has no global pooling", fontsize=7)
    else:
        title = "class activation map and box"
        plots.show_map(activation, np.maximum(found.activation_map, 0), title, over=found.seen)
        plots.draw_box(activation, found.cam_box)
    width, height = found.size
    for ax in axes[0]:
        for layer in ax.images:  # squares are stretched back, so that boxes are in pixels of the photograph
            layer.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
    return figure


def localise_all(paths: Iterable[str | Path], output: Path, classifier: Classifier) -> list[dict]:
    """Localise photographs and the photographs of folders; write pictures, contact sheets, a CSV and a JSON.

    A file that cannot be read is named on stderr and skipped. What an earlier call wrote to the same folder with the
    same network is kept, so that a run that was stopped goes on. Returns the entries of the JSON, one a photograph.

    Raises:
        OSError: a path is not there, or the output folder cannot be written or is in use.
    """
    plots.use_house_style()
    asked = list(_photographs(paths))
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / ".lock", timeout=0):
            entries = _localise_each(asked, output, classifier)
            results = [entries[str(path)] for path in asked if str(path) in entries]
            write_atomically(output / "localised.csv", lambda temporary: _write_csv(temporary, results))
            _write_sheets(output, results)
    except Timeout:
        raise OSError(f"Another run is writing to {output}: wait for it, or name another output folder.") from None
    return results


def _localise_each(asked: list[Path], output: Path, classifier: Classifier) -> dict[str, dict]:
    """Entries of all photographs by file, earlier ones included; the record is written after each."""
    record = output / "localised.json"
    entries = _read_record(record)
    for path in tqdm(asked, "localising", unit="photograph"):
        file, state = str(path), [path.stat().st_size, path.stat().st_mtime, classifier.source]
        entry = entries.get(file)
        if entry and entry["state"] == state and (output / entry["picture"]).exists():
            continue
        try:
            found = localise(path, classifier)
        except OSError as error:
            entries.pop(file, None)
            tqdm.write(f"Skipped: {error}", file=sys.stderr)
        else:
            taken = {entry["picture"] for other, entry in entries.items() if other != file}
            picture = next(name for name in _names(path.stem) if name not in taken)
            _save(draw(found), output / picture)
            entries[file] = {
                "file": file,
                "picture": picture,
                "size": found.size,
                "classes": found.classes,
                "graphcut_box": found.graphcut_box,
                "cam_box": found.cam_box,
                "state": state,
            }
        write_atomically(record, lambda temporary: temporary.write_text(json.dumps(list(entries.values()), indent=1)))
    return entries


def _read_record(record: Path) -> dict[str, dict]:
    if not record.exists():
        return {}
    try:
        return {entry["file"]: entry for entry in json.loads(record.read_text())}
    except (ValueError, TypeError, KeyError) as error:
        raise OSError(f"{record} is damaged: delete it, or name another output folder.") from error


def _photographs(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are; of folders the files that end like a picture."""
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}: give photographs or folders of them.")
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"{path} holds no photographs: give a folder with files such as JPEG or PNG.")
        found += [file.resolve() for file in inside]
    return list(dict.fromkeys(found))


def _names(stem: str) -> Iterator[str]:
    yield f"{stem}.jpg"
    for number in count(2):
        yield f"{stem}-{number}.jpg"


def _save(figure: Figure, path: Path) -> None:
    content = plots.photograph(figure).data
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _write_csv(path: Path, entries: list[dict]) -> None:
    boxes = [f"{name}_{corner}" for name in ("graphcut", "cam") for corner in ("x0", "y0", "x1", "y1")]
    ranks = [f"{what}_{rank}" for rank in range(1, N_CLASSES + 1) for what in ("class", "score")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "picture", "width", "height", *ranks, *boxes])
        for entry in entries:
            ranked = [value for pair in entry["classes"] for value in pair]
            corners = [*entry["graphcut_box"], *(entry["cam_box"] or [""] * 4)]
            writer.writerow([entry["file"], entry["picture"], *entry["size"], *ranked, *corners])


def _write_sheets(output: Path, entries: list[dict]) -> None:
    """The pictures at half their size, two in a row."""
    for number, start in enumerate(range(0, len(entries), PER_SHEET), start=1):
        strips = [Image.open(output / entry["picture"]).reduce(2) for entry in entries[start : start + PER_SHEET]]
        sheet = Image.fromarray(plots.contact_sheet([np.asarray(strip) for strip in strips], n_columns=2))
        write_atomically(output / f"contact-sheet-{number}.jpg", partial(sheet.save, quality=85))
