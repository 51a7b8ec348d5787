import pytest
import torch
from torch import nn

from wsol_utils.methods.convnet import HEADS, ConvNet, GlobalMax, map_size

PIXELS = torch.rand((2, 3, 40, 40), generator=torch.Generator().manual_seed(0))


def weights_of(network):
    return [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_layers_of_the_talk_at_full_width():
    with torch.device("meta"):
        network = ConvNet(1000, image_size=224, width=1.0)
        shape = network.features(torch.zeros(1, 3, 224, 224)).shape
    assert [weight[0] for weight in weights_of(network)] == [64, 256, 256, 256, 256, 4096, 4096, 1000]
    kernels = [weight[-1] for weight in weights_of(network)[:5]]
    assert kernels == [7, 5, 3, 3, 3]
    assert shape == (1, 256, 28, 28)


@pytest.mark.parametrize("head", ["gap", "gmp", "max"])
def test_extra_convolution_has_1024_units_at_full_width(head):
    with torch.device("meta"):
        network = ConvNet(1000, width=1.0, head=head)
    assert weights_of(network)[5][:2] == (1024, 256)
    assert weights_of(network)[6][:2] == (1000, 1024)


@pytest.mark.parametrize("head", HEADS)
def test_every_relu_is_separate_and_not_in_place(head):
    network = ConvNet(3, 40, 0.05, head)
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == len({id(relu) for relu in relus}) == (7 if head == "fc" else 6)
    assert not any(relu.inplace for relu in relus)


@pytest.mark.parametrize("head", HEADS)
def test_weights_depend_on_the_seed_and_on_nothing_else(head):
    state = torch.get_rng_state()
    first, again, other = ConvNet(3, 40, 0.05, head), ConvNet(3, 40, 0.05, head), ConvNet(3, 40, 0.05, head, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize(("head", "pool"), [("gap", torch.mean), ("max", torch.amax)])
def test_pooled_class_maps_are_the_logits(head, pool):
    network = ConvNet(3, 40, 0.1, head).eval()
    torch.testing.assert_close(pool(network.class_maps(PIXELS), (2, 3)), network(PIXELS), atol=1e-5, rtol=0)


def test_global_max_sends_the_gradient_to_the_maximum_only():
    maps = torch.rand((2, 3, 5, 5), generator=torch.Generator().manual_seed(0)).requires_grad_()
    GlobalMax()(maps).sum().backward()
    assert torch.equal(maps.grad, (maps == maps.amax((2, 3), keepdim=True)).float())


@pytest.mark.parametrize("size", [17, 24, 33, 64, 95, 96])
def test_map_size_and_every_image_size(size):
    network = ConvNet(3, size, 0.05).eval()
    assert network.features(torch.zeros(1, 3, size, size)).shape[-1] == map_size(size)
    assert network(torch.zeros(1, 3, size, size)).shape == (1, 3)


def test_pooling_heads_take_any_shape_of_image():
    assert ConvNet(3, 40, 0.05, "gap").eval().class_maps(torch.zeros(1, 3, 50, 81)).shape == (1, 3, 7, 11)


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="Unknown head 'avg'; choose one of fc, gap, gmp, max"):
        ConvNet(3, head="avg")
    with pytest.raises(ValueError, match="at least 17 pixels a side, not 16"):
        ConvNet(3, image_size=16)
    with pytest.raises(ValueError, match="at least 17 pixels a side, not 8"):
        ConvNet(3, 40, 0.05, "gap")(PIXELS[:, :, :8])
    with pytest.raises(ValueError, match=r"images of 64x64, not 40x40; resize"):
        ConvNet(3, 64, 0.05)(PIXELS)
    with pytest.raises(ValueError, match=r"no class maps; build it with head gap"):
        ConvNet(3, 40, 0.05).class_maps(PIXELS)
