from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.image_backprop import class_signal
from wsol_utils.methods.networks import normalise, untrained
from wsol_utils.methods.randomisation import (
    ShiftedLogits,
    edge_maps,
    map_similarity,
    randomised_cascade,
    roughness,
    shuffled_maps,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
PIXELS = normalise(IMAGES)


def is_weighted(module):
    return isinstance(module, nn.Conv2d | nn.Linear)


@pytest.mark.parametrize(
    "make", [lambda: ConvNet(4, 32, 0.1), lambda: squeezenet1_0(num_classes=4), lambda: resnet18(num_classes=4)]
)
def test_the_cascade_goes_from_the_top_to_the_bottom(make, unchanged):
    with unchanged(make()) as network:
        names = [name for name, module in network.named_modules() if is_weighted(module)]
        order = []
        for name, mixed in randomised_cascade(network, seed=3):
            order.append(name)
            for each in names:
                same = torch.equal(mixed.get_submodule(each).weight, network.get_submodule(each).weight)
                assert same == (each not in order)
    assert order == names[::-1]
    random = untrained(network, 3).state_dict()
    assert all(torch.equal(value, random[key]) for key, value in mixed.state_dict().items())
    assert mixed.training == network.training


def test_copies_of_the_cascade_are_independent_and_keep_the_random_weights():
    network = ConvNet(4, 32, 0.1)
    copies = dict(randomised_cascade(network))
    names = list(copies)
    for early, late in pairwise(names):
        for name in names[: names.index(late)]:
            ours, theirs = (copies[each].get_submodule(name).weight for each in (early, late))
            assert torch.equal(ours, theirs)
            assert ours is not theirs
    again, other = (dict(randomised_cascade(network, seed))[names[0]] for seed in (0, 1))
    top = [each.get_submodule(names[0]).weight for each in (copies[names[0]], again, other)]
    assert torch.equal(top[0], top[1])
    assert not torch.equal(top[0], top[2])


def test_normalisation_goes_with_the_weights_before_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    for norm in (network[1], network[3]):
        nn.init.constant_(norm.weight, 2.0)
        norm.running_mean.fill_(5.0)
    (name, first), (_, second) = randomised_cascade(network)
    assert name == "2"
    assert (first[3].weight == 1).all()
    assert (first[3].running_mean == 0).all()
    assert (first[1].weight == 2).all()
    assert (second[1].running_mean == 0).all()


@pytest.mark.parametrize("signed", [True, False])
def test_similarities_equal_their_definitions(signed):
    rng = np.random.default_rng(2)
    maps, others = rng.normal(size=(2, 3, 40, 48))
    others = others + 0.5 * maps
    if not signed:
        maps, others = np.abs(maps), np.abs(others)
    similarity = map_similarity(maps, others)
    for number, (one, other) in enumerate(zip(maps, others, strict=True)):
        ranks = np.corrcoef(rankdata(one), rankdata(other))[0, 1]
        absolute = np.corrcoef(rankdata(np.abs(one)), rankdata(np.abs(other)))[0, 1]
        low, high = np.abs(one).min(), np.abs(one).max()
        scaled = [(np.abs(one) - low) / (high - low)]
        scaled.append((np.abs(other) - np.abs(other).min()) / np.ptp(np.abs(other)))
        histograms = [hog(each, orientations=9, pixels_per_cell=(5, 6), cells_per_block=(3, 3)) for each in scaled]
        expected = {
            "spearman": ranks,
            "spearman_absolute": absolute,
            "ssim": structural_similarity(*scaled, data_range=1, win_size=7),
            "hog": np.corrcoef(*histograms)[0, 1],
        }
        assert list(similarity) == list(expected)
        for name, value in expected.items():
            assert similarity[name][number] == pytest.approx(value), name


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
@settings(deadline=None, max_examples=15)
def test_similarity_is_symmetric_and_ignores_scale(seed, scale, shift):
    maps, others = np.random.default_rng(seed).normal(size=(2, 1, 24, 24))
    forth, back, scaled = (
        map_similarity(maps, others),
        map_similarity(others, maps),
        map_similarity(maps, scale * others),
    )
    for name in forth:
        np.testing.assert_allclose(forth[name], back[name], atol=1e-9)
        np.testing.assert_allclose(forth[name], scaled[name], atol=1e-6)
        assert -1 <= forth[name] <= 1
    moved = map_similarity(maps, others + shift)["spearman"]
    np.testing.assert_allclose(moved, forth["spearman"], atol=1e-9)


def test_constant_maps_have_no_correlation():
    similarity = map_similarity(np.zeros((1, 24, 24)), np.random.default_rng(0).normal(size=(1, 24, 24)))
    assert np.isnan([similarity[name][0] for name in ("spearman", "spearman_absolute", "hog")]).all()
    assert np.isfinite(similarity["ssim"]).all()


def test_edges_are_where_brightness_changes():
    images = np.zeros((1, 12, 12, 3), np.uint8)
    images[:, :, 6:] = 200
    edges = edge_maps(images)
    assert edges.dtype == np.float32
    assert (edges[0, 1:-1, 5:7] > 0.1).all()
    assert edges[0, :, :5].max() == edges[0, :, 7:].max() == 0


def test_one_function_added_to_all_logits_changes_gradients_but_no_prediction():
    """Claim C9.7: Srinivas and Fleuret 2021, section 2."""
    network = ConvNet(4, 32, 0.1).double().eval()
    pixels = PIXELS.double()
    pattern = torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shifted = ShiftedLogits(network, lambda images: (images * pattern).sum((1, 2, 3)))
    torch.testing.assert_close(shifted(pixels).softmax(1), network(pixels).softmax(1), atol=1e-9, rtol=0)

    def log_posterior_gradient(classifier):
        inputs = pixels.clone().requires_grad_()
        return torch.autograd.grad(classifier(inputs).log_softmax(1)[:, 2].sum(), inputs)[0]

    torch.testing.assert_close(log_posterior_gradient(shifted), log_posterior_gradient(network), atol=1e-9, rtol=0)
    signal, moved = (class_signal(each, pixels, 2) for each in (network, shifted))
    torch.testing.assert_close(moved, signal + pattern)
    assert (nn.functional.cosine_similarity(signal.flatten(1), moved.flatten(1)) < 0.5).all()


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="Flatten has no layer of weights that could be drawn anew"):
        next(randomised_cascade(nn.Flatten()))
    for maps in (np.zeros((1, 23, 40)), np.zeros((40, 40))):
        with pytest.raises(ValueError, match=r"one shape \(B, H, W\), 24 pixels a side or more, not"):
            map_similarity(maps, maps)
    with pytest.raises(ValueError, match=r"not \(1, 24, 24\) and \(2, 24, 24\)"):
        map_similarity(np.zeros((1, 24, 24)), np.zeros((2, 24, 24)))


def test_shuffled_maps_keep_their_values_and_lose_their_places():
    maps = np.random.default_rng(0).random((3, 32, 32))
    shuffled = shuffled_maps(maps, seed=1)
    np.testing.assert_array_equal(np.sort(shuffled.reshape(3, -1)), np.sort(maps.reshape(3, -1)))
    assert (np.abs(map_similarity(maps, shuffled)["spearman"]) < 0.1).all()
    np.testing.assert_array_equal(shuffled, shuffled_maps(maps, seed=1))


def test_roughness_ignores_scale_and_falls_with_smoothing():
    maps = np.random.default_rng(0).random((2, 32, 32))
    np.testing.assert_allclose(roughness(7 * maps), roughness(maps))
    smoothed = (maps + np.roll(maps, 1, 1) + np.roll(maps, 1, 2)) / 3
    assert (roughness(smoothed) < roughness(maps)).all()
    assert roughness(np.zeros((1, 8, 8))).tolist() == [0]
