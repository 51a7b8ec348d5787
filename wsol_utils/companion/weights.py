"""Find the networks: ImageNet's in torch's cache or by download, the scenes' as shipped, others by training."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from wsol_utils.companion import settings
from wsol_utils.companion.settings import Profile
from wsol_utils.companion.store import Arrays, remember, write_atomically
from wsol_utils.datasets import photographs
from wsol_utils.datasets.images import crop_image
from wsol_utils.datasets.splits import DataSet
from wsol_utils.methods import networks
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.jitter import jitter
from wsol_utils.methods.max_pooling import GEOMETRY, SlidingConvNet, adaptation_layers
from wsol_utils.methods.training import fit

SECONDS_TO_ANSWER = 8  # for a server, before we go on without it
HEADS = ("fc", "gap", "gmp")
WIDTH, FC_WIDTH = 0.25, 0.125  # of the networks trained here, against the published conv64-256x4-full4096x2
TRANSFORMS_INPUT = ("googlenet", "inception_v3")  # whose ImageNet weights want pixels normalised in another way
OLD_DENSENET_KEY = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)")  # in torchvision's published files
OFFLINE = "tiny-imagenet-gap"  # names photographs where no ImageNet weights are to be had


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names, the side of the images it takes, and where its weights come from."""

    network: nn.Module
    class_names: tuple[str, ...]
    image_size: int
    source: str

    def index(self, class_name: str) -> int:
        """The index of a class by name.

        Raises:
            ValueError: no such class.
        """
        if class_name not in self.class_names:
            some = ", ".join(self.class_names[:5])
            raise ValueError(
                f"This network has no class {class_name!r}; its {len(self.class_names)} classes begin {some}."
            )
        return self.class_names.index(class_name)


def by_name(name: str = "squeezenet1_0") -> Classifier:
    """A network that ships, such as tiny-imagenet-gap, or else a torchvision classifier trained on ImageNet.

    Raises:
        ValueError: no such network.
        OSError: as `imagenet` and `shipped`.
    """
    return shipped(name) if name in _shelf() else imagenet(name)


def imagenet(name: str = "squeezenet1_0") -> Classifier:
    """A torchvision classifier trained on ImageNet, from torch's cache or else by download; "torchvision:" may lead.

    Raises:
        ValueError: torchvision has no such classifier, or its weights ask for pixels of another normalisation.
        OSError: the weights are neither cached nor to be had, or the cached file is damaged.
    """
    import torchvision  # here, for its import takes as long as that of torch, and notebooks 01 and 02 do without

    name = name.removeprefix("torchvision:")
    path = fetch_imagenet(name)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    wanted = weights.transforms()
    (size,) = wanted.crop_size
    if (tuple(wanted.mean), tuple(wanted.std)) != (networks.MEAN, networks.DEVIATION):
        raise ValueError(f"{name} takes pixels normalised in another way than ImageNet's: choose another classifier.")
    options = {"transform_input": True, "init_weights": False} if name in TRANSFORMS_INPUT else {}
    options |= {"image_size": size} if name.startswith("vit_") else {}
    network = torchvision.models.get_model(name, **options)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({OLD_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()})
    except Exception as error:
        raise OSError(f"{path} holds no weights for {name}: remove the file and try again.") from error
    size = 227 if name.startswith("squeezenet") else size  # as its authors have it
    source, digest = f"{name}, ImageNet, from {path.name}", _sha256(path)
    if not digest.startswith(_published_sha256(path)):
        source += f", other weights than torchvision's (sha256 {digest[:8]})"
    return Classifier(network.eval(), tuple(weights.meta["categories"]), size, source)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published_sha256(path: Path) -> str:
    """How the hash of torchvision's own file begins: its name ends in that."""
    return path.stem.rsplit("-", 1)[1]


def fetch_imagenet(name: str = "squeezenet1_0") -> Path:
    """The file of a torchvision classifier's ImageNet weights in torch's cache, downloaded if need be.

    Raises:
        ValueError: torchvision has no such classifier.
        OSError: it is not cached and cannot be downloaded.
    """
    import torchvision

    name = name.removeprefix("torchvision:")
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"torchvision has no classifier {name!r}: try squeezenet1_0, alexnet, vgg16 or resnet50; or {OFFLINE}."
        )
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    manual = f"Put {url} into {path.parent} by hand, try again with a network, or take {OFFLINE}, which ships."
    if os.environ.get("WSOL_OFFLINE") or not _answers(url):
        raise OSError(f"The ImageNet weights of {name} are not in torch's cache and cannot be downloaded. {manual}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            downloader = pooch.HTTPDownloader(timeout=(4, 30), progressbar=True)
            got = Path(pooch.retrieve(url, None, fname=path.name, path=folder, downloader=downloader))
        except (OSError, requests.RequestException) as error:
            raise OSError(f"The download of the ImageNet weights of {name} failed ({error}). {manual}") from error
        if not _sha256(got).startswith(_published_sha256(path)):
            raise OSError(f"The ImageNet weights of {name} arrived damaged. {manual}")
        write_atomically(path, lambda temporary: shutil.copyfile(got, temporary))
    return path


def _answers(url: str) -> bool:
    """Whether the address answers soon; the name look-up itself can hang, so it waits in a thread."""
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            answers.append(requests.head(url, timeout=4).ok)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return any(answers)


@dataclass(frozen=True)
class Showcase:
    """What a notebook opens on: a classifier and square photographs it can look at, {name: uint8 (S, S, 3)}."""

    classifier: Classifier
    images: dict[str, np.ndarray]
    on_imagenet: bool


def showcase(n_images: int, model: str = "squeezenet1_0", with_maps: bool = False) -> Showcase:
    """Photographs with an ImageNet network; where its weights are not to be had, with the ConvNet that ships.

    That one knows 100 classes of Tiny ImageNet and sees 64 x 64 pixels. `with_maps` asks for class activation maps; for
    a network that has none SqueezeNet stands in. Prints one sentence that says which network looks at what.
    """
    try:
        classifier = by_name(model)
        if with_maps:
            model, classifier = _with_maps(model, classifier)
    except OSError as error:
        print(f"{error} Until then {OFFLINE} stands in, which knows 100 classes and sees 64 x 64 pixels.")
        model, classifier = OFFLINE, shipped(OFFLINE)
    own = settings.photographs_folder()
    found = photographs.load(own if own.is_dir() else None)
    names = sorted(found, key=lambda name: name in photographs.IN_PACKAGES)[:n_images]  # the reader's own come first
    on_imagenet = model not in _shelf()
    print(f"Photographs, looked at by {model}" + " trained on ImageNet" * on_imagenet + ".")
    cropped = {name: crop_image(found[name], classifier.image_size) for name in names}
    return Showcase(classifier, cropped, on_imagenet)


def _with_maps(model: str, classifier: Classifier) -> tuple[str, Classifier]:
    """The classifier if it has class activation maps, else SqueezeNet; says where the maps come from."""
    try:
        networks.class_weights(classifier.network)
    except ValueError as error:
        print(f"{error} Here squeezenet1_0 stands in for {model}.")
        model, classifier = "squeezenet1_0", imagenet()
    pixels = torch.zeros(1, 3, classifier.image_size, classifier.image_size)
    with torch.no_grad():
        _, n_units, height, width = networks.feature_maps(classifier.network, pixels).shape
    print(f"Class maps come from the last {n_units} feature maps of {model}, {height} x {width}.")
    return model, classifier


def shipped(name: str) -> Classifier:
    """A network whose weights ship with the project, by data set and head: scenes-fc, tiny-imagenet-gap …

    Raises:
        ValueError: no such weights.
        OSError: the file is damaged.
    """
    shelf = _shelf()
    if name not in shelf:
        raise ValueError(f"No weights {name!r} ship with the project: choose from {', '.join(sorted(shelf))}.")
    path, head = shelf[name], name.rsplit("-", 1)[1]
    try:
        provenance = json.loads(path.with_suffix(".json").read_text())
        classes, size = provenance["classes"], provenance["image_size"]
        network = ConvNet(len(classes), size, provenance["width"], head=head, fc_width=provenance["fc_width"])
        state = load_file(path)
        own = {re.sub(f"^{head}\\.", "head.", key): value for key, value in state.items()}
        network.load_state_dict({key: own[key] for key in network.state_dict()})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise OSError(f"{path} is damaged: restore it with git, or make it again with `wsol train`.") from error
    return Classifier(network.eval(), tuple(classes), size, f"{name}, {_sha256(path)[:8]}")


def shipped_classes(file: str = "tiny-imagenet") -> tuple[str, ...]:
    """Names of the classes that the shipped networks of a file know.

    >>> shipped_classes("scenes-gap")[:2]
    ('fork-tailed fish', 'fan-tailed fish')
    """
    return tuple(json.loads((settings.weights_folder() / f"{file}.json").read_text())["classes"])


def adapted(by: str = "max") -> Classifier:
    """SqueezeNet's features with the adaptation layers for VOC's 20 classes that ship.

    `by` says how they were trained. By lists of labels through a pooling of the maps, "max", "log-sum-exp" or "mean":
    a sliding network for `max_pooling.multi_scale_maps`. By boxes, "patches": a classifier of patches, background last.

    Raises:
        ValueError: no such layers ship.
        OSError: the ImageNet weights are not to be had, or the shipped file is damaged.
    """
    path = settings.weights_folder() / "adaptation" / "voc2012.safetensors"
    try:
        provenance = json.loads(path.with_suffix(".json").read_text())
        classes, n_units, state = tuple(provenance["classes"]), provenance["n_units"], load_file(path)
        if by in n_units:
            names = (*classes, "background") if by == "patches" else classes
            head = adaptation_layers(512, len(names), n_units[by])
            head.load_state_dict({key: state[f"{by}.{key}"] for key in head.state_dict()})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise OSError(f"{path} is damaged: restore it with git, or make it again with `wsol train voc2012`.") from error
    if by not in n_units:
        raise ValueError(f"No layers trained by {by!r} ship: choose from {', '.join(n_units)}.")
    network = patch_network(head) if by == "patches" else sliding_network(head)
    return Classifier(network, names, provenance["image_size"], f"voc2012, {by}")


def sliding_network(head: nn.Module) -> SlidingConvNet:
    """SqueezeNet's features, and adaptation layers at every position of them."""
    return SlidingConvNet(imagenet().network.features, head, side=1, geometry=GEOMETRY["SqueezeNet"]).eval()


def patch_network(head: nn.Module) -> nn.Module:
    """A classifier of patches: SqueezeNet's features, their mean over positions, and adaptation layers."""
    return nn.Sequential(imagenet().network.features, nn.AdaptiveAvgPool2d(1), head, nn.Flatten()).eval()


def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as they ship: in half precision."""
    return {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in state.items()}


def _shelf() -> dict[str, Path]:
    """The shipped networks by name; a file holds one head, which its name ends in, or all three on one trunk."""
    shelf = {}
    for path in settings.weights_folder().glob("*.safetensors"):
        one = path.stem.rsplit("-", 1)[-1] in HEADS
        shelf |= {path.stem: path} if one else {f"{path.stem}-{head}": path for head in HEADS}
    return shelf


def trained(dataset: DataSet, head: str, profile: Profile, seed: int = 0) -> Classifier:
    """The ConvNet of a data set with the given head: as shipped, if it knows the classes, else trained and kept."""
    try:
        return restricted(shipped(f"{dataset.name}-{head}"), dataset.class_names)
    except ValueError:
        pass
    arrays = remember(_train, dataset=dataset, head=head, n_epochs=profile.n_epochs_full, seed=seed)
    network = ConvNet(len(dataset.class_names), dataset.default_size, WIDTH, fc_width=FC_WIDTH, head=head)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
    return Classifier(network.eval(), dataset.class_names, dataset.default_size, f"trained on {dataset.name}")


def restricted(classifier: Classifier, class_names: tuple[str, ...]) -> Classifier:
    """The classifier with these of its classes only, in this order; the others can no longer be answered.

    Raises:
        ValueError: it does not know one of them.
    """
    if class_names == classifier.class_names:
        return classifier
    indices, network = [classifier.index(name) for name in class_names], deepcopy(classifier.network)
    last = network.head[-1]
    last.weight, last.bias = (nn.Parameter(values[indices].detach()) for values in (last.weight, last.bias))
    network.n_classes = last.out_features = len(indices)
    source = f"{classifier.source}, {len(indices)} of its {len(classifier.class_names)} classes"
    return Classifier(network, class_names, classifier.image_size, source)


def _train(dataset: DataSet, head: str, n_epochs: int, seed: int) -> Arrays:
    """The weights of a ConvNet trained on a data set's training images with the published jitter."""
    split = dataset.split("train")
    network = ConvNet(len(dataset.class_names), dataset.default_size, WIDTH, fc_width=FC_WIDTH, head=head, seed=seed)
    network.to(networks.pick_device())
    fit(network, lambda epoch: (split.images, split.labels), n_epochs, seed=seed, augment=jitter)
    return {key: value.cpu().numpy() for key, value in network.state_dict().items()}
