import pytest
import torch
from torch import nn
from torchvision.models import alexnet, googlenet, resnet18, squeezenet1_0, vgg16

from wsol_utils.methods.activations import activations, layer_named, stages

PIXELS = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))


class Branching(nn.Module):
    """A network with an in-place ReLU, a ReLU that runs twice, and a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.idle = nn.Linear(4, 4)
        self.norm = nn.BatchNorm2d(4)
        self.n_runs = 0

    def forward(self, pixels):
        maps = self.relu(self.norm(self.first(pixels)))
        self.n_runs += 1
        return self.relu(self.second(maps))


def test_equals_the_layers_run_by_hand_although_later_layers_work_in_place():
    network = Branching().eval()
    first = network.first(PIXELS)
    norm = network.norm(first)
    found = activations(network, PIXELS, ["norm", "first", "relu", "second"])
    for ours, expected in zip(found, (norm, first, norm.relu(), network.second(norm.relu())), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_pass_ends_with_the_last_layer_needed():
    network = Branching()
    activations(network, PIXELS, ["relu"])
    assert network.n_runs == 0


def test_gradients_reach_the_pixels():
    network = Branching()
    inputs = PIXELS.clone().requires_grad_()
    (maps,) = activations(network, inputs, ["first"])
    (gradient,) = torch.autograd.grad(maps.sum(), inputs)
    expected = nn.functional.conv_transpose2d(torch.ones_like(maps), network.first.weight)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("make", [alexnet, googlenet, resnet18, squeezenet1_0, vgg16])
def test_stages_run_and_are_rectified_from_the_image_up(make):
    options = {"init_weights": False, "aux_logits": False} if make is googlenet else {}
    network = make(num_classes=3, **options)
    names = stages(network)
    assert len(names) >= 5
    found = activations(network, torch.rand(1, 3, 64, 64), names)
    assert all(maps.ndim == 4 and (maps >= 0).all() for maps in found)
    sides = [maps.shape[2] for maps in found]
    assert sides == sorted(sides, reverse=True)


def test_the_network_is_left_as_it_was(unchanged):
    with unchanged(resnet18(num_classes=3)) as network:
        activations(network, PIXELS, ["layer1.0", "fc"])
    with pytest.raises(ValueError, match="Images of 0x8 pixels"), unchanged(resnet18(num_classes=3)) as network:
        activations(network, torch.zeros(1, 3, 0, 8), ["fc"])


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match=r"ResNet has no layer 'layer1.9'; choose one of named_modules\(\): layer1"):
        layer_named(resnet18(), "layer1.9")
    with pytest.raises(ValueError, match="Branching has no layer ''"):
        layer_named(Branching(), "")
    with pytest.raises(ValueError, match="Layer 'idle' does not run in evaluation mode; choose another"):
        activations(Branching(), PIXELS, ["first", "idle"])
    with pytest.raises(ValueError, match="Layer 'aux1' does not run"):
        activations(googlenet(num_classes=2, init_weights=False), PIXELS, ["aux1"])
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        activations(Branching(), PIXELS[0], ["first"])
    with pytest.raises(ValueError, match="batch of pixels is empty"):
        activations(Branching(), PIXELS[:0], ["first"])


def test_images_that_are_too_small_are_refused_by_their_size():
    for network, layer in ((squeezenet1_0(), "features.12"), (vgg16(init_weights=False), "features.29")):
        with pytest.raises(ValueError, match="Images of 8x9 pixels are too small for this network"):
            activations(network, torch.zeros(1, 3, 8, 9), [layer])
    with pytest.raises(ValueError, match="Images of 2x9 pixels are too small for this network"):
        activations(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 2, 9), ["0"])
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        activations(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), PIXELS, ["1"])
