import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import VGG, AlexNet
from torchvision.models.vgg import make_layers

from wsol_utils.evaluation.points import point_of_maximum
from wsol_utils.methods.convnet import ConvNet, GlobalMax
from wsol_utils.methods.max_pooling import (
    GEOMETRY,
    SlidingConvNet,
    adapt,
    adaptation_layers,
    extremes,
    log_sum_exp,
    multi_label_loss,
    multi_scale_maps,
    to_convolutional,
)
from wsol_utils.methods.networks import normalise
from wsol_utils.methods.receptive_fields import receptive_field

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 80, 112, 3), np.uint8)
PIXELS = normalise(IMAGES)
MAPS = torch.from_numpy(RNG.normal(size=(2, 3, 5, 6)))


def trained_network(**options):
    """A network with all its numbers random, as after training."""
    network = ConvNet(4, 48, 0.05, **options)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                nn.init.normal_(tensor, 0.5, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def test_sliding_equals_cropping_the_feature_maps():
    network = trained_network()
    maps, features = to_convolutional(network)(PIXELS), network.features(PIXELS)
    assert maps.shape == (2, 4, 3, 5)
    for row, column in np.ndindex(3, 5):
        window = features[:, :, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6]
        if window.shape[2:] == (6, 6):
            torch.testing.assert_close(maps[:, :, row, column], network.head(window), atol=1e-5, rtol=0)


def test_sliding_equals_cropping_the_image_where_nothing_is_padded():
    network = trained_network()
    for layer in network.features:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.padding = 0
    size = next(n for n in range(112, 160) if network.features(torch.zeros(1, 3, n, n)).shape[-1] == 5)
    pixels = torch.from_numpy(RNG.normal(size=(1, 3, size + 32, size + 48))).float()
    maps = to_convolutional(network)(pixels)
    for row, column in np.ndindex(*maps.shape[2:]):
        crop = pixels[:, :, 16 * row : 16 * row + size, 16 * column : 16 * column + size]
        logits = network.head(network.features(crop))
        torch.testing.assert_close(maps[:, :, row, column], logits, atol=1e-5, rtol=0)


def test_one_window_gives_the_logits_of_the_network():
    network = trained_network()
    window = PIXELS[:, :, :48, :48]
    torch.testing.assert_close(to_convolutional(network)(window)[:, :, 0, 0], network(window))


def test_both_networks_hold_the_same_numbers():
    network = trained_network().train()
    sliding = to_convolutional(network)
    assert sliding.training
    assert sum(p.numel() for p in sliding.parameters()) == sum(p.numel() for p in network.parameters())
    optimiser = torch.optim.SGD(sliding.parameters(), 0.1)
    sliding(PIXELS).square().sum().backward()
    optimiser.step()
    sliding.eval()
    network.eval()
    torch.testing.assert_close(sliding(PIXELS[:, :, :48, :48])[:, :, 0, 0], network(PIXELS[:, :, :48, :48]))


def narrow_alexnet():
    network = AlexNet(4)
    network.classifier[1], network.classifier[4] = nn.Linear(256 * 6 * 6, 12), nn.Linear(12, 8)
    network.classifier[6] = nn.Linear(8, 4)
    return network.eval()


def narrow_vgg():
    network = VGG(make_layers([4, "M"] * 4 + [6, "M"]), 4, init_weights=False)
    network.classifier[0], network.classifier[3] = nn.Linear(6 * 7 * 7, 12), nn.Linear(12, 8)
    network.classifier[6] = nn.Linear(8, 4)
    return network.eval()


@pytest.mark.parametrize("make", [narrow_alexnet, narrow_vgg])
def test_alexnet_and_vgg_slide_as_they_are(make):
    torch.manual_seed(0)
    network = make()
    sliding, pixels = to_convolutional(network), torch.randn(2, 3, 256, 224)
    with torch.no_grad():
        maps = sliding(pixels)
        assert maps.shape == (2, 4, 2, 1)
        own_size = sliding(pixels[:, :, :224])
        torch.testing.assert_close(own_size[:, :, 0, 0], network(pixels[:, :, :224]), atol=1e-5, rtol=0)
        for size, n_cells in ((224, 7), (200, 7), (161, 6)):
            assert sliding.class_maps(torch.zeros(1, 3, size, 64)).shape == (1, 4, n_cells, 2)
    kept = {parameter.data_ptr() for parameter in sliding.parameters()}
    assert kept == {parameter.data_ptr() for parameter in network.parameters()}, "both hold the same numbers"
    field = receptive_field(network, "features", 224)
    centre = field.start[0] + (field.size[0] - 1) / 2
    assert field.stride == (sliding.stride, sliding.stride)
    assert abs(centre - sliding.inset - (sliding.stride - 1) / 2) <= 0.5, "a padded window's centre is its cell's"


@pytest.mark.parametrize("size", [64, 157, 224, 227, 314])
def test_squeezenets_cells_lie_on_their_squares_of_pixels(size):
    features = torchvision.models.squeezenet1_0().features
    sliding = SlidingConvNet(features, nn.Sequential(), side=1, geometry=GEOMETRY["SqueezeNet"])
    with torch.no_grad():
        assert sliding.class_maps(torch.zeros(1, 3, size, 64)).shape[2:] == (-(-size // 16), 4)
    field = receptive_field(features, "12", 224)
    centre = field.start[0] + (field.size[0] - 1) / 2
    assert abs(centre - sliding.inset - 7.5) <= 0.5


@pytest.mark.parametrize("size", [48, 64, 75, 96])
def test_padded_class_maps_cover_the_image(size):
    sliding = to_convolutional(trained_network())
    n_cells = -(-size // 16)
    assert sliding.class_maps(torch.zeros(1, 3, size, size + 16)).shape == (1, 4, n_cells, n_cells + 1)


def test_padded_class_maps_see_what_lies_in_their_cell():
    """With a head that averages what it sees, the map's centre of mass follows a bright spot."""
    trunk = nn.Sequential(nn.Conv2d(3, 1, 7, 2, 3, bias=False), *(nn.MaxPool2d(3, 2, 1) for _ in range(2)))
    nn.init.ones_(trunk[0].weight)
    head = nn.Sequential(nn.MaxPool2d(3, 2), nn.AvgPool2d(5, 1))
    sliding = SlidingConvNet(trunk, head, 5)
    for x in (40, 56, 72):
        pixels = torch.zeros(1, 3, 96, 128)
        pixels[:, :, 44:52, x - 4 : x + 4] = 1
        weights = sliding.class_maps(pixels)[0, 0].sum(0)
        centre = (weights * (torch.arange(len(weights)) * 16 + 7.5)).sum() / weights.sum()
        assert abs(centre - x) < 9


def test_multi_label_loss_by_hand():
    logits, present = RNG.normal(0, 3, (4, 5)), RNG.random((4, 5)) < 0.4
    expected = sum(np.log1p(np.exp(-(1 if y else -1) * f)) for f, y in zip(logits.flat, present.flat, strict=True)) / 4
    for labels in (present, present.astype(np.int64), np.where(present, 1, -1)):
        loss = multi_label_loss(torch.from_numpy(logits), torch.from_numpy(labels))
        assert loss.item() == pytest.approx(expected, rel=1e-9)
    torch.autograd.gradcheck(
        lambda f: multi_label_loss(f, torch.from_numpy(present)), torch.from_numpy(logits).requires_grad_()
    )
    assert torch.isfinite(multi_label_loss(torch.full((1, 1), -1e4), torch.ones(1, 1)))


def test_only_the_maximum_gets_a_gradient():
    maps = MAPS.clone().requires_grad_()
    present = torch.tensor([[1, 0, 0], [0, 1, 1]])
    multi_label_loss(GlobalMax()(maps).flatten(1), present).backward()
    best = maps.detach() == maps.detach().amax((2, 3), keepdim=True)
    assert ((maps.grad != 0) == best).all()
    pushes_up = maps.grad.sum((2, 3)) < 0
    assert (pushes_up == present.bool()).all()


def test_log_sum_exp_runs_from_the_mean_to_the_maximum():
    for _ in range(100):
        maps = torch.from_numpy(RNG.normal(0, RNG.uniform(0.1, 5), size=(1, 1, *RNG.integers(1, 15, 2))))
        torch.testing.assert_close(log_sum_exp(maps, 1e-6), maps.mean((2, 3)), atol=1e-4, rtol=0)
        torch.testing.assert_close(log_sum_exp(maps, 1e6), maps.amax((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(log_sum_exp(MAPS, 5), (5 * MAPS).exp().mean((2, 3)).log() / 5)


def test_extremes_have_the_limits_of_weldon_and_wildcat():
    maximum, mean = MAPS.amax((2, 3)), MAPS.mean((2, 3))
    torch.testing.assert_close(extremes(MAPS, 0, 0.3, alpha=0), maximum)
    torch.testing.assert_close(extremes(MAPS, 1, 0.3, alpha=0), mean)
    torch.testing.assert_close(extremes(MAPS, 0, 0, alpha=1), maximum + MAPS.amin((2, 3)))
    torch.testing.assert_close(extremes(MAPS, 1, 1, alpha=0.5), 1.5 * mean)


def test_extremes_by_sorting():
    for _ in range(100):
        maps = torch.from_numpy(RNG.normal(size=(2, 3, *RNG.integers(1, 8, 2))))
        (highest, lowest), alpha = RNG.random(2), 2 * RNG.random()
        n = maps.shape[2] * maps.shape[3]
        rising = np.sort(maps.numpy().reshape(2, 3, n))
        n_highest, n_lowest = max(1, int(highest * n)), max(1, int(lowest * n))
        expected = rising[..., n - n_highest :].mean(2) + alpha * rising[..., :n_lowest].mean(2)
        np.testing.assert_allclose(extremes(maps, highest, lowest, alpha), expected, atol=1e-12)


def test_only_the_extremes_get_a_gradient():
    maps = MAPS.clone().requires_grad_()
    extremes(maps, 0.2, 0.1, alpha=0.6).sum().backward()
    place = MAPS.flatten(2).argsort(2).argsort(2)  # 0 for the lowest of the 30
    expected = torch.where(place >= 24, 1 / 6, 0) + torch.where(place < 3, 0.6 / 3, 0)
    torch.testing.assert_close(maps.grad.flatten(2), expected.double())


@pytest.mark.parametrize("n_units", [None, 32])
def test_adaptation_layers_learn_to_point_from_lists_of_labels(n_units):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.rand(120, 6, 7, 7, generator=generator), torch.randint(0, 2, (120, 2), generator=generator)
    places = torch.randint(0, 49, (120, 2), generator=generator)
    for i, k in np.ndindex(120, 2):
        if labels[i, k]:
            features[i, k].view(-1)[places[i, k]] += 2
    seen = []
    head = adapt(
        [features[:80].half(), features[:80]], labels[:80].float(), lambda maps: maps.amax((2, 3)), n_units=n_units,
        n_epochs=60, learning_rate=0.02, watch=lambda head: seen.append(head(features[80:]).amax((2, 3))),
    )  # fmt: skip
    maps, there = head(features[80:]).detach(), labels[80:].bool()
    assert ((maps.amax((2, 3)) > 0) == there).float().mean() > 0.95
    assert (maps.flatten(2).argmax(2) == places[80:])[there].float().mean() > 0.95
    assert len(seen) == 61
    torch.testing.assert_close(seen[-1], maps.amax((2, 3)))
    again = adaptation_layers(6, 2, n_units)
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again.eval()(features[:3]), head(features[:3]))


def test_multi_scale_maps_are_the_mean_of_single_ones():
    network = ConvNet(4, 48, 0.05, "max").eval()
    both = multi_scale_maps(network, IMAGES, (1, 1.5), batch_size=1)
    single = [multi_scale_maps(network, IMAGES, (factor,)) for factor in (1, 1.5)]
    assert both.shape == (2, 4, 80, 112)
    assert both.dtype == np.float32
    np.testing.assert_allclose(both, np.mean(single, 0), atol=1e-5)
    with torch.no_grad():
        expected = nn.functional.interpolate(network.class_maps(PIXELS), (80, 112), mode="bilinear")
    np.testing.assert_allclose(single[0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("factor", [0.7, 1, 1.3, 2])
def test_a_spot_stays_in_its_place_at_every_scale(factor):
    class Brightness(nn.Module):
        stride = 8

        def class_maps(self, pixels):
            return nn.functional.avg_pool2d(pixels[:, :1], 8, ceil_mode=True, count_include_pad=False)

    images = np.zeros((1, 80, 112, 3), np.uint8)
    images[:, 50:58, 81:89] = 255
    x, y = point_of_maximum(multi_scale_maps(Brightness(), images, (factor,))[0, 0])
    assert abs(x - 84.5) < 7
    assert abs(y - 53.5) < 7


def test_errors_name_the_thing_and_the_cure():
    for network in (ConvNet(4, 48, 0.05, "max"), nn.Sequential()):
        with pytest.raises(ValueError, match=r'no fully connected layers that can slide: a ConvNet with head "fc", Al'):
            to_convolutional(network)
    with pytest.raises(ValueError, match="must have one shape"):
        multi_label_loss(torch.zeros(2, 3), torch.zeros(2))
    for share in (-0.1, 20, float("nan")):
        with pytest.raises(ValueError, match="shares of the positions, 0 to 1"):
            extremes(MAPS, 0.2, share, 1)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        extremes(MAPS, 0.2, 0.2, -1)
