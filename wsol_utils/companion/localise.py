"""What a photograph shows, and where: its classes, saliency, GraphCut box, class activation map; one or a folder."""

import csv
import json
import os
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
from torch import nn
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
SHEET = "contact-sheet-"
KEYS = {"file", "picture", "size", "classes", "graphcut_box", "cam_box", "state"}  # of an entry
MAX_ASPECT = 8  # of a photograph as drawn: a longer one is squeezed


@dataclass(frozen=True)
class Localisation:
    """What a photograph shows and where. Maps and boxes belong to the best class.

    size: (width, height) of the photograph, upright; photo: RGB uint8, at most 1,024 pixels long.
    classes: (class name, posterior) of the five best, the best first.
    seen: uint8 (S, S, 3), what the network saw: the photograph squashed to a square.
    saliency_map: float32 (S, S), see `salience`; mask: bool (S, S), by GraphCut from it.
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

    `photo` is a file of up to 64 million pixels, or an RGB uint8 array (H, W, 3), of any sides; `classifier` is
    SqueezeNet unless given.

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
    salient = salience(network, seen[None], best)
    mask = largest_component(graphcut.graphcut_masks(seen[None], salient)[0])
    try:
        activation = cam.class_activation_map(network, networks.normalise(seen[None]), best)[0]
    except ValueError:  # no global pooling, no map
        activation = None
    size = image.shape[1], image.shape[0]
    return Localisation(
        size=size,
        photo=fit_image(image, MAX_SIDE),
        classes=[(classifier.class_names[c], float(posterior[c])) for c in top],
        seen=seen,
        saliency_map=salient[0],
        mask=mask,
        activation_map=activation,
        graphcut_box=_stretched(box_of_mask(mask), size, classifier.image_size),
        cam_box=None if activation is None else _stretched(box_from_map(activation), size, classifier.image_size),
    )


def salience(network: nn.Module, images: np.ndarray, class_index: int) -> np.ndarray:
    """Saliency averaged over ten crops, or of one whole look for a network that takes images of one size only.

    >>> salience(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), np.zeros((1, 8, 8, 3), np.uint8), 0).shape
    (1, 8, 8)
    """
    try:
        return saliency.ten_crop_saliency(network, images, class_index)
    except (AssertionError, ValueError, RuntimeError):
        return saliency.saliency_map(network, networks.normalise(images), class_index)


def _stretched(box: np.ndarray, size: tuple[int, int], side: int) -> list[int]:
    """The box in the whole pixels of the photograph that it touches, so that it is never empty."""
    scale = np.array(size, dtype=np.int64)
    return [*(box[:2] * scale // side).tolist(), *(-(-box[2:] * scale // side)).tolist()]


def draw(found: Localisation, name: str = "") -> Figure:
    """The photograph with its name and classes, then saliency, GraphCut and activation map with their boxes."""
    figure, axes = plots.grid(1, 4, cell=2.6)
    photo, salient, cut, activation = axes[0]
    (best, share), *others = found.classes
    short = name if len(name) <= 36 else f"{name[:17]}…{name[-18:]}"
    plots.show_image(photo, found.photo).set_title(f"{short}\n{best} {share:.2f}".strip(), parse_math=False)
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
        ax.set_aspect(np.clip(height / width, 1 / MAX_ASPECT, MAX_ASPECT) * width / height)
        for layer in ax.images:  # squares are stretched back, so that boxes are in pixels of the photograph
            layer.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
    return figure


def localise_all(paths: Iterable[str | Path], output: Path, classifier: Classifier) -> list[dict]:
    """Localise photographs and the photographs of folders; write pictures, contact sheets, a CSV and a JSON.

    A file that cannot be read is named on stderr and skipped. What an earlier call wrote to the same folder is kept and
    stands in sheets, CSV and JSON too; photographs that the same network has seen are not looked at again, so that a
    run that was stopped goes on. Returns the entries of the photographs asked for, as the JSON has them.

    Raises:
        OSError: a path is not there, or the output folder cannot be written, is in use or holds the photographs.
    """
    plots.use_house_style()
    asked = list(_photographs(paths))
    if any(path.parent == output.resolve() for path in asked):
        raise OSError(f"The output folder {output} holds photographs that were asked for: name another one.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / ".lock", timeout=0).acquire()
    except Timeout:
        raise OSError(f"Another run is writing to {output}: wait for it, or name another output folder.") from None
    except OSError as error:
        raise OSError(f"{output} cannot be written ({error.strerror}): name another output folder.") from error
    with lock:
        entries = _localise_each(asked, output, classifier)
        write_atomically(output / "localised.csv", lambda temporary: _write_csv(temporary, list(entries.values())))
        _write_sheets(output, list(entries.values()))
    return [entries[str(path)] for path in asked if str(path) in entries]


def _localise_each(asked: list[Path], output: Path, classifier: Classifier) -> dict[str, dict]:
    """Entries of all photographs by file, earlier ones included; the record is written with each."""
    record, entries = output / "localised.json", {}
    for file, entry in _read_record(record).items():
        if _is_whole(output / entry["picture"]):
            entries[file] = entry
        else:
            (output / entry["picture"]).unlink(missing_ok=True)
    for path in tqdm(asked, "localising", unit="photograph"):
        file = str(path)
        try:
            state = [path.stat().st_size, path.stat().st_mtime, classifier.source]
            if file in entries and entries[file]["state"] == state:
                continue
            found = localise(path, classifier)
        except OSError as error:
            if forgotten := entries.pop(file, None):
                (output / forgotten["picture"]).unlink(missing_ok=True)
            tqdm.write(f"Skipped: {error}", file=sys.stderr)
            continue
        if file in entries:
            picture = entries[file]["picture"]
        else:
            taken = {present.name.casefold() for present in output.iterdir()}
            picture = next(name for name in _names(path.stem) if name.casefold() not in taken)
        entries[file] = {
            "file": file,
            "picture": picture,
            "size": found.size,
            "classes": found.classes,
            "graphcut_box": found.graphcut_box,
            "cam_box": found.cam_box,
            "state": state,
        }
        _write_record(record, entries)  # before the picture: an entry without one is made again
        _save(draw(found, path.name.encode(errors="replace").decode()), output / picture)
    _write_record(record, entries)
    return entries


def _write_record(record: Path, entries: dict[str, dict]) -> None:
    write_atomically(record, lambda temporary: temporary.write_text(json.dumps(list(entries.values()), indent=1)))


def _read_record(record: Path) -> dict[str, dict]:
    if not record.exists():
        return {}
    try:
        entries = {entry["file"]: entry for entry in json.loads(record.read_text())}
        if any(entry.keys() != KEYS for entry in entries.values()):
            raise ValueError("other keys")
        return entries
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OSError(f"{record} is damaged: delete it, or name another output folder.") from error


def _is_whole(picture: Path) -> bool:
    try:
        Image.open(picture).load()
    except OSError:
        return False
    return True


def _photographs(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are; of folders the files that end like a picture; says how many others these hold."""
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}: give photographs or folders of them.")
        try:
            visible = [file for file in path.iterdir() if not file.name.startswith(".")] if path.is_dir() else [path]
        except OSError as error:
            raise OSError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
        inside = sorted(file for file in visible if file == path or file.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"{path} holds no photographs: give a folder with files such as JPEG or PNG.")
        if passed := len(visible) - len(inside):
            print(f"Passed over in {path}: {passed} that do not end like a photograph.", file=sys.stderr)
        found += [file.parent.resolve() / file.name for file in inside]
    return list(dict.fromkeys(found))


def _names(stem: str) -> Iterator[str]:
    """Names of a picture to choose from, never one of a contact sheet, short enough for any file system."""
    stem = os.fsencode(stem)[:180].decode(errors="replace")
    if stem.casefold().startswith(SHEET):
        stem = f"photograph-{stem}"
    yield f"{stem}.jpg"
    for number in count(2):
        yield f"{stem}-{number}.jpg"


def _save(figure: Figure, path: Path) -> None:
    content = plots.photograph(figure).data
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _write_csv(path: Path, entries: list[dict]) -> None:
    boxes = [f"{name}_{corner}" for name in ("graphcut", "cam") for corner in ("x0", "y0", "x1", "y1")]
    ranks = [f"{what}_{rank}" for rank in range(1, N_CLASSES + 1) for what in ("class", "score")]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "picture", "width", "height", *ranks, *boxes, "network"])
        for entry in entries:
            ranked = [value for pair in entry["classes"] for value in pair]
            ranked += [""] * (2 * N_CLASSES - len(ranked))
            corners = [*entry["graphcut_box"], *(entry["cam_box"] or [""] * 4)]
            network = entry["state"][-1]
            writer.writerow([entry["file"], entry["picture"], *entry["size"], *ranked, *corners, network])


def _write_sheets(output: Path, entries: list[dict]) -> None:
    """The pictures at half their size, two in a row; sheets of an earlier call that are too many go."""
    n_sheets = -(-len(entries) // PER_SHEET)
    sheets = [output / f"{SHEET}{number:0{len(str(n_sheets))}}.jpg" for number in range(1, n_sheets + 1)]
    for surplus in set(output.glob(f"{SHEET}[0-9]*.jpg")) - set(sheets):
        surplus.unlink()
    for sheet, start in zip(sheets, range(0, len(entries), PER_SHEET), strict=True):
        strips = [Image.open(output / entry["picture"]).reduce(2) for entry in entries[start : start + PER_SHEET]]
        whole = Image.fromarray(plots.contact_sheet([np.asarray(strip) for strip in strips], n_columns=2))
        write_atomically(sheet, partial(whole.save, quality=85))
