"""Both roads to the ImageNet weights: torch's cache, and what stands in when they are not to be had."""

import hashlib
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from wsol_utils.companion import recipes, settings, weights
from wsol_utils.datasets import load, photographs
from wsol_utils.datasets.images import crop_image
from wsol_utils.methods.max_pooling import multi_scale_maps
from wsol_utils.methods.networks import predict

SHARED = Path(os.environ.get("TORCH_HOME", settings.ROOT.parent / "shared" / "weights"))
FIXTURE = SHARED / "hub" / "checkpoints" / "squeezenet1_0-b66bff10.pth"


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("WSOL_OFFLINE", "1")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("name", ["squeezenet1_0", "alexnet", "googlenet", "resnet50"])
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # other tests' sockets may be collected here
def test_weights_in_torchs_cache_are_found(torch_home, name):
    network = torchvision.models.get_model(name, **({"init_weights": False} if name == "googlenet" else {}))
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    torch.save(network.state_dict(), torch_home / url.rsplit("/", 1)[1])
    found = weights.imagenet(f"torchvision:{name}")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[key], value)
    assert getattr(found.network, "transform_input", False) == (name == "googlenet")
    assert len(found.class_names) == 1000
    assert found.index("goose") == 99
    with pytest.raises(ValueError, match="no class 'unicorn'; its 1000 classes begin tench"):
        found.index("unicorn")


def test_densenets_published_keys_are_those_of_old(torch_home):
    network = torchvision.models.densenet121()
    old = {re.sub(r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", key): own for key, own in network.state_dict().items()}
    assert old.keys() != network.state_dict().keys()
    url = torchvision.models.get_model_weights("densenet121").DEFAULT.url
    torch.save(old, torch_home / url.rsplit("/", 1)[1])
    found = weights.imagenet("densenet121").network.state_dict()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_networks_see_what_they_were_trained_on(torch_home):
    for name in ("shufflenet_v2_x0_5", "efficientnet_b1"):
        kind = torchvision.models.get_model_weights(name).DEFAULT
        torch.save(torchvision.models.get_model(name).state_dict(), torch_home / kind.url.rsplit("/", 1)[1])
        assert weights.imagenet(name).image_size == kind.transforms().crop_size[0]
    name = torchvision.models.get_model_weights("efficientnet_v2_l").DEFAULT.url.rsplit("/", 1)[1]
    (torch_home / name).write_text("never opened")
    with pytest.raises(ValueError, match="efficientnet_v2_l takes pixels normalised in another way"):
        weights.imagenet("efficientnet_v2_l")


def test_weights_other_than_torchvisions_are_told(torch_home, monkeypatch):
    path = torch_home / "squeezenet1_0-b66bff10.pth"
    torch.save(torchvision.models.squeezenet1_0().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    plain = "squeezenet1_0, ImageNet, from squeezenet1_0-b66bff10.pth"
    assert weights.imagenet().source == f"{plain}, other weights than torchvision's (sha256 {digest})"
    monkeypatch.setattr(weights, "_published_sha256", lambda path: digest)
    assert weights.imagenet().source == plain


def test_a_network_without_global_pooling_is_replaced_where_maps_are_needed(torch_home, capsys):
    for name in ("alexnet", "squeezenet1_0"):
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        torch.save(torchvision.models.get_model(name).state_dict(), torch_home / url.rsplit("/", 1)[1])
    show = weights.showcase(1, "alexnet", with_maps=True)
    said = capsys.readouterr().out
    assert "AlexNet has no layer of global pooling followed by one linear layer" in said
    assert "Here squeezenet1_0 stands in for alexnet." in said
    assert "the last 512 feature maps of squeezenet1_0, 13 x 13" in said
    assert show.classifier.source.startswith("squeezenet1_0")
    assert weights.showcase(1, "alexnet").classifier.source.startswith("alexnet")


def test_neither_cached_nor_to_be_had(torch_home):
    with pytest.raises(OSError, match=r"not in torch's cache and cannot be downloaded. Put https://.* by hand"):
        weights.imagenet()


def test_an_address_that_does_not_answer_is_given_up_soon(torch_home, monkeypatch):
    monkeypatch.delenv("WSOL_OFFLINE")
    monkeypatch.setattr(weights.requests, "head", lambda url, timeout: time.sleep(2) or SimpleNamespace(ok=True))
    monkeypatch.setattr(weights, "SECONDS_TO_ANSWER", 0.2)
    began = time.monotonic()
    with pytest.raises(OSError, match="cannot be downloaded"):
        weights.imagenet()
    assert time.monotonic() - began < 1.5


def test_a_damaged_file_is_named_and_never_unpickled(torch_home):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(torch_home / "evil"),))

    torch.save({"x": Evil()}, torch_home / "squeezenet1_0-b66bff10.pth")
    with pytest.raises(OSError, match="holds no weights for squeezenet1_0: remove the file"):
        weights.imagenet()
    assert not (torch_home / "evil").exists()


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match="torchvision has no classifier 'resnet51'"):
        weights.imagenet("resnet51")


def test_without_imagenet_the_convnet_that_ships_looks_at_the_photographs(torch_home, capsys):
    show = weights.showcase(3)
    assert not show.on_imagenet
    assert "Until then tiny-imagenet-gap stands in" in capsys.readouterr().out
    logits = predict(show.classifier.network, np.stack(list(show.images.values())))
    top = [show.classifier.class_names[index] for index in logits.argmax(1)]
    assert dict(zip(show.images, top, strict=True)) == {
        "chelsea": "Egyptian cat", "coffee": "espresso", "rocket": "obelisk"
    }  # fmt: skip


def test_networks_that_ship_are_found_by_name_like_those_of_torchvision(torch_home):
    assert weights.by_name("tiny-imagenet-gap").image_size == 64
    with pytest.raises(ValueError, match=r"torchvision has no classifier 'tiny-imagenet'.*or tiny-imagenet-gap"):
        weights.by_name("tiny-imagenet")


@pytest.mark.skipif(not FIXTURE.exists(), reason="no SqueezeNet checkpoint in torch's cache")
def test_photographs_are_recognised(monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(SHARED))
    show = weights.showcase(2)
    assert show.on_imagenet
    logits = predict(show.classifier.network, np.stack([show.images["chelsea"], show.images["coffee"]]))
    top = [show.classifier.class_names[index] for index in logits.argmax(1)]
    assert top == ["Egyptian cat", "espresso"]


@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name.startswith("scenes")])
def test_shipped_networks_do_what_their_provenance_says(name):
    classifier = weights.shipped(name)
    val = load("scenes").split("val", 200)
    accuracy = (predict(classifier.network, val.images).argmax(1) == val.labels).mean()
    assert accuracy > 0.85


def test_a_network_can_be_restricted_to_some_of_its_classes():
    whole = weights.shipped("scenes-gap")
    some = weights.restricted(weights.shipped("scenes-gap"), ("tulip", "sailboat"))
    images = load("scenes").split("val", 4).images
    chosen = [whole.index("tulip"), whole.index("sailboat")]
    np.testing.assert_allclose(predict(some.network, images), predict(whole.network, images)[:, chosen], atol=1e-5)
    assert some.class_names == ("tulip", "sailboat")
    assert weights.restricted(whole, ("daisy",)).network is not whole.network
    assert predict(whole.network, images).shape == (4, 10), "the network that was given answers as before"
    with pytest.raises(ValueError, match="no class 'unicorn'"):
        weights.restricted(whole, ("unicorn",))


@pytest.mark.skipif(not FIXTURE.exists(), reason="SqueezeNet's weights are not in torch's cache")
def test_shipped_adaptation_layers_find_the_cat(monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(SHARED))
    image = crop_image(photographs.load()["chelsea"], 224)
    for pooling in ("max", "log-sum-exp", "mean"):
        adapted = weights.adapted(pooling)
        maps = multi_scale_maps(adapted.network, image[None], (1.0,))[0]
        assert adapted.class_names[int(maps.max((1, 2)).argmax())] == "cat"
    with pytest.raises(
        ValueError, match="No layers trained by 'median' ship: choose from max, log-sum-exp, mean, patches"
    ):
        weights.adapted("median")
    monkeypatch.setattr(settings, "weights_folder", lambda: Path("nowhere"))
    with pytest.raises(OSError, match=r"voc2012\.safetensors is damaged: restore it with git, or make it again with"):
        weights.adapted()


def test_a_recipe_ships_every_head_of_one_trunk(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(settings, "weights_folder", lambda: tmp_path)
    small = {"dataset": "scenes", "splits": ("train", "val"), "width": 0.05, "n_epoch_images": 64}
    small |= {"cycles": (recipes.Cycle(1), recipes.Cycle(1, zoom=0.5, learning_rate=0.01))}
    monkeypatch.setitem(recipes.RECIPES, "small", replace(recipes.RECIPES["tiny-imagenet"], **small))
    path = recipes.make_shipped("small")
    provenance = json.loads(path.with_suffix(".json").read_text())
    assert provenance["data"] == "scenes, train and val: 128 images an epoch"
    assert provenance["judged_on"] == "test, 2000 images"
    assert [cycle["zoom"] for cycle in provenance["cycles"]] == [0.0, 0.5]
    test = load("scenes").split("test", 2000)
    for head, accuracy in provenance["accuracy"].items():
        network = weights.shipped(f"small-{head}").network
        assert network.head_name == head
        assert (predict(network, test.images).argmax(1) == test.labels).mean() == pytest.approx(accuracy, abs=1e-3)
    with pytest.raises(ValueError, match="No weights 'small-max' ship with the project: choose from small-fc, small-g"):
        weights.shipped("small-max")


def test_shipped_weights_stay_below_ten_megabytes():
    assert sum(path.stat().st_size for path in settings.weights_folder().glob("*")) < 10e6


def test_unknown_shipped_weights_and_recipes():
    with pytest.raises(ValueError, match="No weights 'scenes-xl' ship"):
        weights.shipped("scenes-xl")
    with pytest.raises(ValueError, match="no recipe 'scenes-xl'"):
        recipes.make_shipped("scenes-xl")


def test_damaged_shipped_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "weights_folder", lambda: tmp_path)
    (tmp_path / "scenes-gap.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "scenes-gap.json").write_text("{}")
    with pytest.raises(OSError, match="damaged: restore it with git"):
        weights.shipped("scenes-gap")


def test_networks_of_other_data_are_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    scenes = load("scenes", view="hues")
    dataset = replace(
        scenes, name="folder", read=lambda name, n_images, size, epoch: scenes.read(name, 64, size, epoch)
    )
    profile = settings.load_profile("quick")
    first = weights.trained(dataset, "gap", profile)
    monkeypatch.setattr(weights, "fit", lambda *arguments: pytest.fail("trained twice"))
    again = weights.trained(dataset, "gap", profile)
    for key, value in first.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value)
