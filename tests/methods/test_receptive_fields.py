import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import efficientnet_b0, googlenet, resnet18, squeezenet1_0

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import MEAN, normalise
from wsol_utils.methods.receptive_fields import (
    ReceptiveField,
    max_activating_patches,
    random_patches,
    receptive_field,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), np.uint8)


def seen(network, layer, position, size):
    """The box of all pixels at which a unit's gradient differs from zero for some of many random images and units."""
    module = network.get_submodule(layer)
    found = []
    handle = module.register_forward_hook(lambda module, inputs, output: found.append(output.clone()))
    pixels = torch.randn((32, 3, *size), generator=torch.Generator().manual_seed(1), requires_grad=True)
    network.eval()(pixels)
    handle.remove()
    (gradient,) = torch.autograd.grad(found[0][:, :, *position].sum(), pixels)
    rows, columns = (torch.nonzero(gradient.abs().sum((0, 1)).sum(axis)).flatten() for axis in (1, 0))
    return columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["convolution", "maximum", "average", "pad"]),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
        st.tuples(st.integers(1, 2), st.integers(1, 2)),
        st.integers(0, 1),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=3,
)


def chain(layers):
    torch.manual_seed(0)
    modules = []
    for kind, kernel, stride, padding, dilation in layers:
        padding = min(padding, min(kernel) // 2)
        if kind == "convolution":
            modules.append(nn.Conv2d(3, 3, kernel, stride, padding, dilation))
        elif kind == "maximum":
            modules.append(nn.MaxPool2d(kernel, stride, padding, dilation))
        elif kind == "average":
            modules.append(nn.AvgPool2d(kernel, stride, padding))
        else:
            modules.append(nn.ZeroPad2d((1, 2, 0, 3)))
        modules.append(nn.BatchNorm2d(3))
    return nn.Sequential(*modules)


@given(LAYERS, st.integers(0, 6), st.integers(0, 6))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_random_chains_see_what_their_gradients_reach(layers, row, column):
    network, size = chain(layers), (34, 38)
    box = receptive_field(network, str(len(network) - 1), size).box(row, column)
    assume(min(box) >= 0 and box[2] <= size[1] and box[3] <= size[0])
    assert seen(network, str(len(network) - 1), (row, column), size) == box


@pytest.mark.parametrize(
    ("network", "layer", "position", "size"),
    [
        (ConvNet(3, 96, 0.1), "features.7", (6, 5), 96),
        (squeezenet1_0(num_classes=3), "features.4", (5, 6), 96),
        (resnet18(num_classes=3), "layer1.1", (11, 10), 96),
        (googlenet(num_classes=3, transform_input=True, init_weights=False), "inception3a", (5, 6), 96),
    ],
    ids=["convnet", "squeezenet", "resnet", "googlenet"],
)
def test_networks_with_branches_see_what_their_gradients_reach(network, layer, position, size):
    field = receptive_field(network, layer, size)
    assert seen(network, layer, position, (size, size)) == field.box(*position)


def test_published_networks_have_the_published_fields():
    """ResNet-18: 435 pixels and stride 32 before the pooling (Araujo et al. 2019); AlexNet's pool5: 195 (Girshick)."""
    field = receptive_field(resnet18(), "layer4")
    assert (field.size, field.stride) == ((435, 435), (32, 32))
    alexnet = nn.Sequential(
        *(nn.Conv2d(3, 1, 11, 4), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 5, 1, 2), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(1, 1, 3, 1, 1), nn.Conv2d(1, 1, 3, 1, 1), nn.Conv2d(1, 1, 3, 1, 1), nn.MaxPool2d(3, 2)),
    )
    assert receptive_field(alexnet, "7", 227) == ReceptiveField((195, 195), (32, 32), (-64, -64))
    assert receptive_field(alexnet, "7", (300, 227)) == receptive_field(alexnet, "7", 227)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 5, 2, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 1), nn.Conv2d(5, 4, 3, 2, 1))


@pytest.mark.parametrize("whole", [True, False])
def test_patches_equal_a_search_by_hand(whole):
    layer, field = "3", receptive_field(network(), "3", 40)
    maps = network()(normalise(IMAGES)).detach().numpy()
    candidates = {unit: [] for unit in (2, 0)}
    for unit, found in candidates.items():
        for image in range(len(IMAGES)):
            places = []
            for row, column in np.ndindex(maps.shape[2:]):
                x0, y0, x1, y1 = field.box(row, column)
                if not whole or (min(x0, y0) >= 0 and max(x1, y1) <= 40):
                    places.append((maps[image, unit, row, column], image, row, column))
            found.append(max(places))
    patches = max_activating_patches(network(), layer, [2, 0], IMAGES, 4, whole, batch_size=3, progress=False)
    for of_unit, found in zip(patches, candidates.values(), strict=True):
        best = sorted(found, reverse=True)[:4]
        np.testing.assert_allclose(of_unit.activations, [value for value, *_ in best], rtol=1e-5)
        assert of_unit.images.tolist() == [image for _, image, *_ in best]
        assert of_unit.positions.tolist() == [[row, column] for *_, row, column in best]
        assert of_unit.boxes.tolist() == [list(field.box(*place)) for place in of_unit.positions.tolist()]
        assert of_unit.crops.shape == (4, *field.size, 3)


def test_the_crop_holds_all_that_the_unit_saw():
    """Run on the crop alone, without padding, the unit gives the same activation."""
    valid = nn.Sequential(nn.Conv2d(3, 5, 5, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(5, 4, 3, 2))
    (patches,) = max_activating_patches(valid, "3", [1], IMAGES, progress=False)
    assert len(patches.crops) == 7
    again = valid(normalise(patches.crops)).detach()
    assert again.shape[2:] == (1, 1)
    np.testing.assert_allclose(again[:, 1, 0, 0], patches.activations, atol=1e-5)
    assert (np.diff(patches.activations) <= 0).all()


def test_what_is_outside_the_image_has_the_mean_colour():
    sums = nn.Sequential(nn.Conv2d(3, 1, 5, padding=2, bias=False))
    nn.init.constant_(sums[0].weight, -1.0)  # of white images the corner has the strongest, because zeros hang over it
    (patches,) = max_activating_patches(sums, "0", [0], np.full_like(IMAGES, 255), 1, whole=False, progress=False)
    assert patches.boxes[0].tolist() == [-2, -2, 3, 3]
    np.testing.assert_array_equal(patches.crops[0, :2], np.broadcast_to(np.round(np.multiply(MEAN, 255)), (2, 5, 3)))
    assert (patches.crops[0, 2:, 2:] == 255).all()


def test_random_patches_lie_in_the_images():
    numbers = np.arange(7 * 40 * 40, dtype=np.int64).reshape(7, 40, 40)
    images = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 3).astype(np.uint8)
    patches = random_patches(images, (6, 9), 50, seed=3).astype(np.int64) @ [65536, 256, 1]
    expected = patches[:, :1, :1] + 40 * np.arange(6)[:, None] + np.arange(9)
    np.testing.assert_array_equal(patches, expected)
    assert len(set(patches[:, 0, 0].tolist())) > 40
    np.testing.assert_array_equal(random_patches(images, (6, 9), 5, 1), random_patches(images, (6, 9), 5, 1))


def test_the_network_is_left_as_it_was(unchanged):
    with unchanged(resnet18(num_classes=3)) as watched:
        receptive_field(watched, "layer2", 64)
        max_activating_patches(watched, "layer1", [0], IMAGES, whole=False, progress=False)
    with pytest.raises(ValueError, match="because of Mean"), unchanged(resnet18(num_classes=3)) as watched:
        receptive_field(watched, "fc", 64)


class FirstRow(nn.Module):
    def forward(self, pixels):
        return pixels[:, :, 0][:, :, None]


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="Sequential has no layer 'conv1'"):
        receptive_field(network(), "conv1")
    with pytest.raises(ValueError, match=r"no receptive field smaller than the image, because of \w+Backward"):
        receptive_field(efficientnet_b0(num_classes=2), "features.4", 64)
    with pytest.raises(ValueError, match="because of SelectBackward0"):
        receptive_field(nn.Sequential(FirstRow()), "0", 16)
    with pytest.raises(ValueError, match="transposed convolution"):
        receptive_field(nn.Sequential(nn.ConvTranspose2d(3, 3, 3)), "0", 16)
    with pytest.raises(
        ValueError, match=r"No receptive field of layer '3', 11x11 pixels, lies wholly in an image of 9x"
    ):
        max_activating_patches(network(), "3", [0], IMAGES[:, :9, :9], progress=False)
    with pytest.raises(ValueError, match=r"Layer '3' has units 0 to 3, not \[4, -1\]"):
        max_activating_patches(network(), "3", [0, 4, -1], IMAGES, progress=False)
    with pytest.raises(ValueError, match="Patches of 41x5 do not fit into images of 40x40"):
        random_patches(IMAGES, (41, 5))
