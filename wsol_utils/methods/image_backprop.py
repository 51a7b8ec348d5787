"""A unit's or a class score's signal sent back to the image, under three rules for the ReLU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from tqdm import trange

from wsol_utils.methods.activations import activations, layer_named, taken
from wsol_utils.methods.cam import grad_cam
from wsol_utils.methods.networks import check_pixels, class_indices, evaluating

RULES = ("plain", "deconvnet", "guided")
RELUS = {functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}
CLAMPS = {
    torch.clamp, torch.clamp_, torch.clamp_min, torch.clamp_min_, torch.Tensor.clamp, torch.Tensor.clamp_,
    torch.Tensor.clamp_min, torch.Tensor.clamp_min_,
}  # fmt: skip
OTHER_RECTIFIERS = {
    functional.celu, functional.elu, functional.gelu, functional.hardswish, functional.hardtanh, functional.leaky_relu,
    functional.mish, functional.prelu, functional.relu6, functional.rrelu, functional.selu, functional.silu,
    functional.softplus, functional.threshold,
}  # fmt: skip


class _Rectify(torch.autograd.Function):
    """ReLU(x) forwards; backwards R, masked by x > 0 (plain), by R > 0 (deconvnet) or by both (guided)."""

    @staticmethod
    def forward(context, values: torch.Tensor, rule: str, in_place: bool) -> torch.Tensor:
        rectified = values.relu_() if in_place else values.relu()
        if in_place:
            context.mark_dirty(values)
        context.rule = rule
        context.save_for_backward(rectified)
        return rectified

    @staticmethod
    def backward(context, signal: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (rectified,) = context.saved_tensors
        if context.rule != "plain":
            signal = signal.relu()
        if context.rule != "deconvnet":
            signal = signal * (rectified > 0)
        return signal, None, None


class _ReLUMode(TorchFunctionMode):
    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule
        self.n_relus = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        clamped_at = _bounds(*arguments, **options) if function in CLAMPS and self.rule != "plain" else None
        if function in RELUS or clamped_at == (0, None):
            values = arguments[0] if arguments else options["input"]
            in_place = function.__name__.endswith("_") or options.get("inplace", False)
            self.n_relus += 1
            return _Rectify.apply(values, self.rule, in_place)
        if (function in OTHER_RECTIFIERS and self.rule != "plain") or (clamped_at and clamped_at[0] == 0):
            raise ValueError(
                f"The rule {self.rule!r} is defined for ReLUs only, and this network has a {function.__name__}; "
                "take a network of ReLUs, such as SqueezeNet, ResNet or ConvNet, or the rule 'plain'."
            )
        return function(*arguments, **options)


def _bounds(values=None, min=None, max=None, **options) -> tuple | None:
    """What a clamp with these arguments cuts numbers at: (0, None) is a ReLU; None for integers and tensor bounds."""
    is_plain = options.get("input", values).is_floating_point() and not torch.is_tensor(min)
    return (min, max) if is_plain else None


@contextmanager
def relu_rule(rule: str) -> Iterator[None]:
    """Give every ReLU run inside the block another backward rule, be it a module, a function, in place or a clamp at 0.

    Deep Inside ConvNets, section 4; Springenberg et al. 2015, figure 1. The signal R that comes from above passes where
    x > 0 ("plain", the gradient), where R > 0 ("deconvnet") or where both hold ("guided"). What runs forward keeps its
    values. No module is touched; the rule stays with the recorded graph, so the block may end before the backward pass.
    Raises ValueError for an unknown rule and, unless it is "plain", for other rectifiers (ReLU6, SiLU, GELU ...) and
    for a block in which no ReLU ran: it may be written in a way that cannot be seen, such as torch.maximum(x, 0).
    What is compiled by TorchScript keeps its own rule; `class_signal` and `unit_signal` refuse it.

    >>> values = torch.tensor([-1.0, 1.0, 1.0], requires_grad=True)
    >>> with relu_rule("guided"):
    ...     rectified = values.relu()
    >>> torch.autograd.grad(rectified, values, torch.tensor([1.0, 1.0, -1.0]))[0].tolist()
    [0.0, 1.0, 0.0]
    """
    if rule not in RULES:
        raise ValueError(f"Unknown rule {rule!r}; choose one of {', '.join(RULES)}.")
    mode = _ReLUMode(rule)
    with mode:
        yield
    if rule != "plain" and not mode.n_relus:
        raise ValueError(
            f"The rule {rule!r} met no ReLU: write the rectifiers of the network as nn.ReLU, or take the rule 'plain'."
        )


def class_signal(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    rule: str = "plain",
    batch_size: int = 64,
) -> torch.Tensor:
    """Return the signal of a class score at the image, signed, (B, 3, H, W): dS_c/dI under the plain rule.

    `pixels` is float (B, 3, H, W), `classes` one index or one per image; the signal is on the CPU. The network runs in
    evaluation mode and is left as it was. Raises ValueError for other pixels, none or too small ones, classes out of
    range, and as `relu_rule`.

    >>> class_signal(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2), 1).shape
    torch.Size([1, 3, 2, 2])
    """

    def score(inputs: torch.Tensor, part: slice) -> torch.Tensor:
        logits = network(inputs)
        indices = class_indices(classes, len(pixels), logits.shape[1])[part].to(logits.device)
        return logits.gather(1, indices[:, None]).sum()

    return _signal(network, pixels, rule, score, batch_size)


def unit_signal(
    network: nn.Module,
    pixels: torch.Tensor,
    layer: str,
    unit: int,
    position: tuple[int, int] | None = None,
    rule: str = "plain",
    batch_size: int = 64,
) -> torch.Tensor:
    """Return the signal of one unit of a layer at the image, signed, (B, 3, H, W) (CS231n notes, deconv approach).

    The signal at the layer is 1 for the unit at one position (row, column), which is where it is strongest in each
    image unless given, and 0 elsewhere; a fully connected layer has no positions. `layer` is a name of
    `named_modules()`. Raises ValueError for other pixels, names, units and positions, and as `relu_rule`: below the
    first ReLU there is no rule but "plain".

    >>> unit_signal(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(1, 3, 8, 8), "0", 2, (5, 5))[0, 0, :5].abs().sum()
    tensor(0.)
    """

    def score(inputs: torch.Tensor, part: slice) -> torch.Tensor:
        (maps,) = activations(network, inputs, [layer])
        shape = tuple(maps.shape[1:])
        if not 0 <= unit < shape[0]:
            raise ValueError(f"Layer {layer!r} has units 0 to {shape[0] - 1}, not {unit}.")
        values = maps[:, unit].flatten(1) if maps.ndim > 2 else maps[:, [unit]]
        if position is None:
            return values.gather(1, values.argmax(1, keepdim=True)).sum()
        places = [range(side) for side in shape[1:]]
        if len(places) != 2 or len(position) != 2 or any(p not in r for p, r in zip(position, places, strict=True)):
            raise ValueError(f"Layer {layer!r} has units and positions {shape}: {tuple(position)} is not one of them.")
        return maps[:, unit, position[0], position[1]].sum()

    return _signal(network, pixels, rule, score, batch_size)


def guided_grad_cam(
    network: nn.Module, pixels: torch.Tensor, layer: str, classes: int | np.ndarray | torch.Tensor
) -> torch.Tensor:
    """Return the guided signal of a class score times its Grad-CAM at a layer, (B, 3, H, W).

    Selvaraju et al. 2017, section 3. Raises ValueError as `class_signal` does, for a layer that is not there and for
    one without positions, such as a fully connected one.
    """
    signal, module = class_signal(network, pixels, classes, "guided"), layer_named(network, layer)
    with torch.no_grad():
        (maps,) = activations(network, pixels[:1], [layer])
    if maps.ndim != 4:
        raise ValueError(f"Layer {layer!r} has no positions, so no Grad-CAM: choose one below the last pooling.")
    return signal * torch.from_numpy(grad_cam(network, module, pixels, classes))[:, None]


def smooth_grad(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    noise: float = 0.15,
    n_copies: int = 25,
    seed: int = 0,
    progress: bool = True,
) -> np.ndarray:
    """Return max over colours of |mean of dS_c/dI over noisy copies|, (B, H, W) (Smilkov et al. 2017).

    `noise` is the deviation of the normal noise as a share of each image's range, from its smallest to its largest
    value. Without noise it is `saliency_map`. Raises ValueError as `class_signal` does and without a copy.
    """
    if n_copies < 1:
        raise ValueError(f"SmoothGrad is a mean over copies: n_copies must be at least 1, not {n_copies}.")
    generator = torch.Generator().manual_seed(seed)
    pixels = check_pixels(network, pixels)
    deviation = noise * (pixels.amax((1, 2, 3), keepdim=True) - pixels.amin((1, 2, 3), keepdim=True))
    total = 0
    for _ in trange(n_copies, desc="noisy copies", disable=not progress):
        copies = pixels + deviation * torch.randn(pixels.shape, generator=generator).to(pixels)
        total = total + class_signal(network, copies, classes)
    return (total / n_copies).abs().amax(1).numpy()


def random_wide_network(
    n_filters: int, image_size: int, kernel_size: int = 3, n_classes: int = 10, seed: int = 0
) -> nn.Sequential:
    """Return an untrained network of one convolution, a ReLU and one linear layer (Nie et al. 2018).

    All weights are normal and there are no biases. With many filters guided backprop gives nearly the image itself for
    any class, and the gradient nearly white noise (theorems 1 and 2).

    >>> random_wide_network(20, 8)(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 10])
    """
    side = image_size + 2 * (kernel_size // 2) - kernel_size + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolution = nn.Conv2d(3, n_filters, kernel_size, padding=kernel_size // 2, bias=False)
        linear = nn.Linear(n_filters * side**2, n_classes, bias=False)
        for layer in (convolution, linear):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear)


def _signal(
    network: nn.Module,
    pixels: torch.Tensor,
    rule: str,
    score: Callable[[torch.Tensor, slice], torch.Tensor],
    batch_size: int,
) -> torch.Tensor:
    """Send the score of each part of the batch back to its pixels."""
    if rule != "plain" and any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise ValueError(
            f"The rule {rule!r} cannot be given to the ReLUs of a network compiled by TorchScript; take the network "
            "it was compiled from, or the rule 'plain'."
        )
    signals = []
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        pixels = check_pixels(network, pixels)
        for first in range(0, max(len(pixels), 1), batch_size):
            part = slice(first, first + batch_size)
            inputs = pixels[part].detach().clone().requires_grad_()
            with taken(inputs), relu_rule(rule):
                total = score(inputs, part)
            signals.append(torch.autograd.grad(total, inputs)[0].cpu())
    return torch.cat(signals)
