import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, NeuronDeconvolution, NoiseTunnel, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torchvision.models import googlenet, mobilenet_v2, resnet18, squeezenet1_0, vgg16
from torchvision.models.googlenet import BasicConv2d

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.image_backprop import (
    RULES,
    class_signal,
    guided_grad_cam,
    random_wide_network,
    relu_rule,
    smooth_grad,
    unit_signal,
)
from wsol_utils.methods.networks import normalise
from wsol_utils.methods.saliency import saliency_map

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
PIXELS = normalise(IMAGES)
CLASSES = [0, 4, 2]


class Functional(nn.Module):
    """A network whose rectifier may be written in any way."""

    def __init__(self, rectify, n_classes=3):
        super().__init__()
        self.rectify = rectify
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
        self.classes = nn.Linear(6, n_classes)

    def forward(self, pixels):
        maps = self.rectify(self.second(self.rectify(self.first(pixels))))
        return self.classes(maps.mean((2, 3)))


RECTIFIERS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "function": functional.relu,
    "function in place": lambda values: functional.relu(values, True),
    "torch": torch.relu,
    "torch in place": torch.relu_,
    "method": lambda values: values.relu(),
    "method in place": lambda values: values.relu_(),
    "clamp": lambda values: values.clamp(min=0),
    "clamp by place": lambda values: torch.clamp(values, 0),
    "clamp in place": lambda values: values.clamp_(0.0),
    "clamp_min": lambda values: values.clamp_min(0),
    "clamp_min in place": lambda values: torch.clamp_min_(values, min=0),
}


def make(name):
    torch.manual_seed(0)
    return {
        "convnet": lambda: ConvNet(5, 40, 0.1),
        "resnet": lambda: resnet18(num_classes=5),
        "squeezenet": lambda: squeezenet1_0(num_classes=5),
        "vgg16": lambda: vgg16(num_classes=5),
        "googlenet": lambda: googlenet(num_classes=5, aux_logits=False, init_weights=False),
    }[name]()


@pytest.mark.parametrize("name", ["convnet", "resnet", "squeezenet", "vgg16"])
@pytest.mark.parametrize(("rule", "peer"), [("plain", None), ("deconvnet", Deconvolution), ("guided", GuidedBackprop)])
def test_class_signals_equal_captum(name, rule, peer):
    network = make(name)
    ours = class_signal(network, PIXELS, CLASSES, rule)
    pixels = PIXELS.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attribution = peer(network.eval()) if peer else Saliency(network.eval())
        options = {} if peer else {"abs": False}
        theirs = attribution.attribute(pixels, target=CLASSES, **options).detach()
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
def test_googlenet_whose_relus_are_functions_has_the_rule(rule):
    """Captum cannot change functions; the same network with modules in their place can be asked."""
    network = make("googlenet").eval()
    twin = deepcopy(network)
    for module in list(twin.modules()):
        if isinstance(module, BasicConv2d):
            module.forward = nn.Sequential(module.conv, module.bn, nn.ReLU()).forward
            module.relu = module.forward.__self__[2]
    peer = {"deconvnet": Deconvolution, "guided": GuidedBackprop}[rule](twin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.attribute(PIXELS[:1].clone().requires_grad_(), target=2).detach()
    ours = class_signal(network, PIXELS[:1], 2, rule)
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=1e-4)


def test_unit_signals_equal_captum():
    network = make("convnet").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = NeuronDeconvolution(network, network.features[4]).attribute(PIXELS.clone(), (5, 3, 2)).detach()
    torch.testing.assert_close(unit_signal(network, PIXELS, "features.4", 5, (3, 2), "deconvnet"), theirs)


def test_guided_grad_cam_equals_captum():
    network = make("convnet").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = GuidedGradCam(network, network.features[13])
        theirs = peer.attribute(PIXELS.clone().requires_grad_(), CLASSES, interpolate_mode="bilinear").detach()
    torch.testing.assert_close(guided_grad_cam(network, PIXELS, "features.13", CLASSES), theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_every_way_to_write_a_relu_has_the_rule(rule):
    signals, logits = [], []
    for rectify in RECTIFIERS.values():
        torch.manual_seed(0)
        network = Functional(rectify)
        signals.append(class_signal(network, PIXELS, 1, rule))
        with relu_rule(rule), torch.no_grad():
            logits.append(network(PIXELS))
        torch.testing.assert_close(logits[-1], network(PIXELS))
    for signal, values in zip(signals, logits, strict=True):
        torch.testing.assert_close(signal, signals[0])
        torch.testing.assert_close(values, logits[0])


@given(st.lists(st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_guided_composes_both_masks(pairs):
    values, signal = torch.tensor(pairs).T
    back = {}
    for rule in RULES:
        inputs = values.clone().requires_grad_()
        with relu_rule(rule):
            rectified = inputs.relu()
        (back[rule],) = torch.autograd.grad(rectified, inputs, signal)
    assert torch.equal(back["plain"], (values > 0) * signal)
    assert torch.equal(back["deconvnet"], (signal > 0) * signal)
    assert torch.equal(back["guided"], (values > 0) * back["deconvnet"])
    assert torch.equal(back["guided"], back["plain"].relu())


def test_without_negative_signals_guided_is_plain():
    network = make("convnet").eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.abs_()
    guided, plain = (class_signal(network, PIXELS, CLASSES, rule) for rule in ("guided", "plain"))
    torch.testing.assert_close(guided, plain)


def test_plain_signal_is_the_saliency_map_and_parts_are_whole():
    network = make("convnet")
    signal = class_signal(network, PIXELS, CLASSES)
    np.testing.assert_allclose(signal.abs().amax(1).numpy(), saliency_map(network, PIXELS, CLASSES), atol=1e-6)
    parts = class_signal(network, PIXELS, CLASSES, "guided", batch_size=2)
    torch.testing.assert_close(parts, class_signal(network, PIXELS, CLASSES, "guided"), atol=1e-6, rtol=1e-4)


def test_unit_signal_equals_finite_differences_at_the_strongest_position():
    network = ConvNet(3, 24, 0.1).double().eval()
    pixels = PIXELS[:1, :, :24, :24].double()
    signal = unit_signal(network, pixels, "features.4", 3)
    place = network.features[:5](pixels)[0, 3].argmax()
    for colour, row, column in ((0, 4, 5), (1, 12, 12), (2, 20, 3)):
        step = torch.zeros_like(pixels)
        step[0, colour, row, column] = 1e-6
        high, low = (network.features[:5](pixels + sign * step)[0, 3].flatten()[place].item() for sign in (1, -1))
        assert signal[0, colour, row, column].item() == pytest.approx((high - low) / 2e-6, abs=1e-6)


def test_the_strongest_position_may_be_named():
    network = make("convnet").eval()
    maps = network.features[:5](PIXELS[:1])[0, 7]
    place = divmod(int(maps.argmax()), maps.shape[1])
    one, other = (
        unit_signal(network, PIXELS[:1], "features.4", 7),
        unit_signal(network, PIXELS[:1], "features.4", 7, place),
    )
    torch.testing.assert_close(one, other)
    logits = unit_signal(network, PIXELS, "head.10", 2)
    torch.testing.assert_close(logits, class_signal(network, PIXELS, 2))


def test_smooth_grad_equals_captum_up_to_the_draw_and_is_the_gradient_without_noise():
    network = make("convnet").eval()
    plain = smooth_grad(network, PIXELS, CLASSES, noise=0, n_copies=2, progress=False)
    np.testing.assert_allclose(plain, saliency_map(network, PIXELS, CLASSES), atol=1e-6)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 5))
    np.testing.assert_allclose(
        smooth_grad(linear, PIXELS, CLASSES, n_copies=2, progress=False), saliency_map(linear, PIXELS, CLASSES)
    )
    ours = smooth_grad(network, PIXELS[:1], 0, noise=0.05, n_copies=150, progress=False)
    torch.manual_seed(0)
    deviation = 0.05 * (PIXELS[0].max() - PIXELS[0].min()).item()
    theirs = NoiseTunnel(Saliency(network)).attribute(
        PIXELS[:1].clone(), nt_samples=150, nt_samples_batch_size=50, stdevs=deviation, target=0, abs=False
    )
    theirs = theirs.detach().abs().amax(1).numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.1)


def test_smooth_grad_takes_the_seed_and_nothing_else():
    network = make("convnet")
    first, again, other = (
        smooth_grad(network, PIXELS[:1], 0, n_copies=2, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_guided_backprop_of_a_wide_random_network_shows_the_image_and_the_gradient_shows_noise():
    """Claim C9.5: Nie et al. 2018, theorems 1 and 2."""
    torch.manual_seed(0)
    smooth = functional.interpolate(torch.randn(1, 3, 4, 4), 16, mode="bilinear")
    cosines = {rule: [] for rule in RULES}
    for n_filters in (10, 100, 1000):
        network = random_wide_network(n_filters, 16)
        for rule in RULES:
            signal = class_signal(network, smooth, 3, rule)
            cosines[rule].append(functional.cosine_similarity(signal.flatten(), smooth.flatten(), 0).item())
    assert cosines["guided"] == sorted(cosines["guided"])
    assert cosines["guided"][-1] > 0.9
    assert abs(cosines["plain"][-1]) < 0.15
    assert abs(cosines["deconvnet"][-1]) < 0.15
    guided = [class_signal(network, smooth, class_, "guided").flatten() for class_ in (1, 2)]
    assert functional.cosine_similarity(*guided, 0) > 0.95


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_network_is_left_as_it_was(mode, unchanged):
    for name in ("convnet", "squeezenet"):
        with unchanged(make(name), mode) as network:
            class_signal(network, PIXELS, CLASSES, "guided")
            unit_signal(network, PIXELS, "features.4", 1, rule="deconvnet")
            guided_grad_cam(network, PIXELS, "features.12", 1)
            smooth_grad(network, PIXELS, 1, n_copies=1, progress=False)


def test_an_error_leaves_the_network_and_the_relu_as_they_were(unchanged):
    with pytest.raises(ValueError, match="classes 0 to 4"), unchanged(make("resnet")) as network:
        class_signal(network, PIXELS, 5, "guided")
    values = torch.ones(1, requires_grad=True)
    (gradient,) = torch.autograd.grad(functional.relu(values), values, -torch.ones(1))
    assert gradient == -1


def test_errors_name_the_thing_and_the_cure():
    network = make("convnet")
    with pytest.raises(ValueError, match="Unknown rule 'deconv'; choose one of plain, deconvnet, guided"):
        class_signal(network, PIXELS, 0, "deconv")
    with pytest.raises(ValueError, match="'guided' is defined for ReLUs only, and this network has a hardtanh"):
        class_signal(mobilenet_v2(num_classes=5), PIXELS, 0, "guided")
    for rectifier in (nn.SiLU(), nn.GELU(), nn.LeakyReLU(), nn.Hardswish(), nn.Softplus(), nn.PReLU()):
        with pytest.raises(ValueError, match="defined for ReLUs only"):
            class_signal(Functional(rectifier), PIXELS, 0, "deconvnet")
        assert class_signal(Functional(rectifier), PIXELS, 0).shape == PIXELS.shape
    hidden = [lambda x: torch.maximum(x, torch.zeros_like(x)), lambda x: torch.where(x > 0, x, 0), torch.tanh]
    for rectify in (*hidden, lambda values: values.clamp_min(1e-6)):
        with pytest.raises(ValueError, match=r"'guided' met no ReLU: write .* of the network as nn\.ReLU"):
            class_signal(Functional(rectify), PIXELS, 0, "guided")
        assert class_signal(Functional(rectify), PIXELS, 0).shape == PIXELS.shape
    with pytest.raises(ValueError, match="defined for ReLUs only, and this network has a clamp"):
        class_signal(Functional(lambda values: values.clamp(0, 6)), PIXELS, 0, "guided")
    compiled = torch.jit.trace(Functional(functional.relu), PIXELS)
    with pytest.raises(ValueError, match="'guided' cannot be given to the ReLUs of a network compiled by TorchScript"):
        class_signal(compiled, PIXELS, 0, "guided")
    assert class_signal(compiled, PIXELS, 0).shape == PIXELS.shape
    with pytest.raises(ValueError, match="has no layer 'features"):
        unit_signal(network, PIXELS, "features.99", 0)
    with pytest.raises(ValueError, match=r"Layer .features\.0. has units 0 to 5, not 6"):
        unit_signal(network, PIXELS, "features.0", 6)
    for layer, position in (("features.0", (20, 0)), ("features.0", (-1, 0)), ("head.10", (0, 0))):
        with pytest.raises(ValueError, match=rf"Layer '{layer}' has units and positions .* is not one of them"):
            unit_signal(network, PIXELS, layer, 1, position)
    with pytest.raises(ValueError, match="n_copies must be at least 1, not 0"):
        smooth_grad(network, PIXELS, 0, n_copies=0)
    with pytest.raises(ValueError, match=r"units and positions .* \(1,\) is not one of them"):
        unit_signal(network, PIXELS, "features.0", 1, (1,))
    with pytest.raises(ValueError, match=r"Layer 'head\.10' has no positions, so no Grad-CAM"):
        guided_grad_cam(network, PIXELS, "head.10", 0)
    with pytest.raises(ValueError, match="batch of pixels is empty"):
        class_signal(network, PIXELS[:0], 0)
    with pytest.raises(ValueError, match="Images of 8x8 pixels are too small for this network"):
        class_signal(make("squeezenet"), PIXELS[:, :, :8, :8], 0)
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        class_signal(network, torch.from_numpy(IMAGES), 0)
