"""Images made by gradients: DeepDream, neural style and images that fool a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import resize
from tqdm import tqdm, trange

from wsol_utils.methods.activations import activations, taken
from wsol_utils.methods.networks import (
    check_pixels,
    class_indices,
    device_of,
    evaluating,
    pixel_range,
    unrectified,
)


@dataclass(frozen=True)
class Dream:
    """Dreamt images, pixels (B, 3, H, W), and the mean square of the layer's activations before each step, float32
    (n_octaves * n_steps, B).
    """

    pixels: torch.Tensor
    activation: torch.Tensor


@dataclass(frozen=True)
class Styled:
    """Styled images, pixels (B, 3, H, W), and the course of both losses, float32 (n_steps, B)."""

    pixels: torch.Tensor
    content_loss: torch.Tensor
    style_loss: torch.Tensor


@dataclass(frozen=True)
class Fooling:
    """Fooling images, pixels (B, 3, H, W), and P_c of the class each was to show, float32 (B,)."""

    pixels: torch.Tensor
    confidence: torch.Tensor


def dream_signal(network: nn.Module, pixels: torch.Tensor, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Send the activations a of a layer back to the image as their own signal: the gradient of |a|^2 / 2, as a is its
    gradient at the layer (Mordvintsev et al. 2015; CS231n notes).

    Returns the signal (B, 3, H, W) and the mean square of the activations (B,). ValueError for other pixels and names.

    >>> signal, activation = dream_signal(nn.Sequential(nn.Identity()), torch.full((1, 3, 2, 2), 2.0), "0")
    >>> signal.unique().tolist(), activation.tolist()
    ([2.0], [4.0])
    """
    with torch.inference_mode(False), torch.enable_grad():
        inputs = check_pixels(network, pixels).detach().clone().requires_grad_()
        (maps,) = activations(network, inputs, [layer])
        (signal,) = torch.autograd.grad(maps, inputs, maps.detach())
    return signal, maps.detach().square().flatten(1).mean(1)


def deep_dream(
    network: nn.Module,
    pixels: torch.Tensor,
    layer: str,
    n_steps: int = 10,
    step_size: float = 0.03,
    n_octaves: int = 4,
    octave_ratio: float = 1.4,
    shift: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> Dream:
    """Make an image show more of what a layer sees in it already, by ascent of |a|^2 / 2 (Mordvintsev et al. 2015).

    Begins on the image made smaller by `octave_ratio` `n_octaves` - 1 times; what was dreamt on one octave is enlarged
    and added to the next, up to the size given. A step is `step_size`, in normalised pixels, times `dream_signal`
    divided by its mean absolute value in each image, on the image moved cyclically by up to `shift` pixels drawn from
    `seed`; values stay between black and white. Raises ValueError for other pixels, names and octaves.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> deep_dream(network, torch.zeros(2, 3, 16, 16), "0", n_steps=2, n_octaves=3, progress=False).activation.shape
    torch.Size([6, 2])
    """
    if n_octaves < 1 or octave_ratio < 1:
        raise ValueError(
            f"DeepDream needs 1 octave or more and a ratio of at least 1, not {n_octaves}, {octave_ratio}."
        )
    original = check_pixels(network, pixels).detach().clone()
    generator = torch.Generator().manual_seed(seed)
    black, white = pixel_range(original)
    trace = []
    bar = tqdm(total=n_octaves * n_steps, desc=f"dreaming {layer}", disable=not progress)
    details = torch.zeros_like(original)
    with bar:
        for octave in reversed(range(n_octaves)):
            size = [max(1, round(side / octave_ratio**octave)) for side in original.shape[2:]]
            start = resize(original, size, antialias=True)
            dream = start + resize(details, size, antialias=True)
            for _ in range(n_steps):
                down, right = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
                signal, activation = dream_signal(network, dream.roll((down, right), (2, 3)), layer)
                signal = signal.roll((-down, -right), (2, 3))
                size_of_signal = signal.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
                dream = (dream + step_size * signal / size_of_signal).clamp(black, white)
                trace.append(activation)
                bar.update()
            details = dream - start
    traces = torch.stack(trace).float().cpu() if trace else torch.zeros(0, len(original))
    return Dream((original + details).cpu(), traces)


def gram_matrix(maps: torch.Tensor) -> torch.Tensor:
    """Return G_ij = sum over positions p of F_ip F_jp, (B, K, K), of maps (B, K, h, w) (Gatys et al. 2016, equation 3).

    It keeps which features go together, and forgets where.

    >>> gram_matrix(torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]])).tolist()
    [[[5.0, 6.0], [6.0, 9.0]]]
    """
    features = maps.flatten(2)
    return features @ features.transpose(1, 2)


def content_loss(maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return half the sum of (F - P)^2 over units and positions, (B,) (Gatys et al. 2016, equation 1)."""
    return (maps - targets).square().flatten(1).sum(1) / 2


def style_loss(maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the sum of (G - A)^2 over 4 N^2 M^2, (B,), for N units and M positions (Gatys et al. 2016, equation 4).

    Each Gram matrix is divided by the positions of its own image, so the two may differ in size.
    """
    grams = [gram_matrix(each) / each[0, 0].numel() for each in (maps, targets)]
    return (grams[0] - grams[1]).square().sum((1, 2)) / (4 * maps.shape[1] ** 2)


def neural_style(
    network: nn.Module,
    content: torch.Tensor,
    style: torch.Tensor,
    content_layers: Sequence[str],
    style_layers: Sequence[str],
    content_weight: float = 1.0,
    style_weight: float = 1e3,
    n_steps: int = 200,
    step_size: float = 0.05,
    start: torch.Tensor | None = None,
    progress: bool = True,
) -> Styled:
    """Draw the content of one image in the style of another, by Adam on the pixels (Gatys et al. 2016, section 2).

    Minimises content_weight * sum of `content_loss` over its layers + style_weight * mean of `style_loss` over its
    layers, from `start` or else from the content image; values stay between black and white. `content` is pixels
    (B, 3, H, W), like `start`; `style` pixels (1 or B, 3, h, w) of any size the network takes. Raises ValueError for
    other pixels, for names that are not there, for layers without positions, and without any layer.

    >>> network, images = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(2, 1, 3, 8, 8)
    >>> neural_style(network, *images, ["0"], ["0"], n_steps=3, progress=False).style_loss.shape
    torch.Size([3, 1])
    """
    n_content, layers = len(content_layers), [*content_layers, *style_layers]
    if not layers:
        raise ValueError("Neural style needs a layer: name at least one in content_layers or style_layers.")
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        content, style = (check_pixels(network, images).detach().clone() for images in (content, style))
        if len(style) not in (1, len(content)):
            raise ValueError(f"Give one image of style, or {len(content)}, one for each content, not {len(style)}.")
        if start is not None and start.shape != content.shape:
            raise ValueError(f"The start must have the shape of the content, {tuple(content.shape)}.")
        contents = activations(network, content, content_layers) if n_content else []
        styles = activations(network, style, style_layers) if style_layers else []
        for name, maps in zip(style_layers, styles, strict=True):
            if maps.ndim != 4:
                raise ValueError(f"Layer {name!r} has no positions, so no style: choose one below the last pooling.")
        image = (content if start is None else check_pixels(network, start).detach()).clone().requires_grad_()
        black, white = pixel_range(image)
        optimiser = torch.optim.Adam([image], lr=step_size)
        nothing = image.new_zeros(len(image))
        traces = []
        for _ in trange(n_steps, desc="styling", disable=not progress):
            found = activations(network, image, layers)
            contented = sum(map(content_loss, found[:n_content], contents), nothing)
            styled = sum(map(style_loss, found[n_content:], styles), nothing) / max(len(styles), 1)
            loss = (content_weight * contented + style_weight * styled).sum()
            (image.grad,) = torch.autograd.grad(loss, image)
            optimiser.step()
            with torch.no_grad():
                image.clamp_(black, white)
            traces.append(torch.stack([contented, styled]).detach().float().cpu())
    losses = torch.stack(traces, 1) if traces else torch.zeros(2, 0, len(image))
    return Styled(image.detach().cpu(), *losses)


def fooling_images(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    confidence: float = 0.99,
    n_steps: int = 200,
    step_size: float = 0.02,
    progress: bool = True,
) -> Fooling:
    """Ascend log P_c from images of anything, such as noise or texture, until the network is sure of c.

    Nguyen et al. 2015 (their gradient ascent, without regularisation). An image stops once P_c reaches
    `confidence`, or after `n_steps`, so look at `Fooling.confidence`. A step is `step_size`, in normalised pixels,
    times the gradient divided by its root mean square in each image; values stay between black and white. SqueezeNet's
    gradient is taken before its last ReLU. `classes` is one index or one per image. Raises ValueError for
    other pixels, classes and confidences.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> bool(fooling_images(linear, torch.zeros(1, 3, 2, 2), 1, 0.6, progress=False).confidence >= 0.6)
    True
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a probability between 0 and 1, not {confidence}.")
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        pixels = check_pixels(network, pixels).detach().clone()
        black, white = pixel_range(pixels)
        for step in trange(n_steps + 1, desc="fooling", disable=not progress):
            with torch.no_grad(), taken(pixels):
                logits = network(pixels)
            indices = class_indices(classes, *logits.shape).to(logits.device)[:, None]
            reached = logits.softmax(1).gather(1, indices)[:, 0]
            if step == n_steps or (reached >= confidence).all():
                break
            inputs = pixels.clone().requires_grad_()
            with unrectified(network):
                objective = network(inputs).log_softmax(1).gather(1, indices).sum()
            (gradient,) = torch.autograd.grad(objective, inputs)
            size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
            moved = (pixels + step_size * gradient / size).clamp(black, white)
            pixels = torch.where((reached < confidence)[:, None, None, None], moved, pixels)
    return Fooling(pixels.cpu(), reached.float().cpu())


def evolved_images(
    network: nn.Module,
    classes: Sequence[int],
    n_generations: int = 50,
    n_children: int = 8,
    n_cells: int = 12,
    image_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Fooling:
    """Fool a network without its gradient, by evolution of one image per class (after Nguyen et al. 2015, section 2).

    An image is a grid of n_cells x n_cells colours, enlarged by bicubic interpolation. Each generation draws
    `n_children` copies in which a tenth of the colours are changed at random, and keeps the best of them if its P_c is
    higher. SqueezeNet's scores are taken before its last ReLU. Raises ValueError for classes out of range.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    >>> evolved_images(linear, [0, 1], 2, image_size=8, progress=False).pixels.shape
    torch.Size([2, 3, 8, 8])
    """
    generator = torch.Generator().manual_seed(seed)
    black, white = pixel_range(torch.zeros(1))
    genes = torch.zeros(len(classes), 1, 3, n_cells, n_cells)
    best = torch.full((len(classes),), -torch.inf)

    def grow(colours: torch.Tensor) -> torch.Tensor:
        large = nn.functional.interpolate(colours.flatten(0, 1), image_size, mode="bicubic")
        return large.clamp(black, white)

    with torch.no_grad(), evaluating(network), unrectified(network):
        for _ in trange(n_generations, desc="generations", disable=not progress):
            shape = (len(classes), n_children, 3, n_cells, n_cells)
            changed = torch.rand((*shape[:2], 1, n_cells, n_cells), generator=generator) < 0.1
            noise = 1.5 * torch.randn(shape, generator=generator)
            children = (genes + changed * noise).clamp(black, white)
            logits = network(grow(children).to(device_of(network)))
            indices = class_indices(classes, len(classes), logits.shape[1]).repeat_interleave(n_children)[:, None]
            beliefs = logits.log_softmax(1).float().cpu().gather(1, indices)
            fittest = beliefs.unflatten(0, shape[:2])[:, :, 0].max(1)
            better = fittest.values > best
            chosen = children[range(len(classes)), fittest.indices][:, None]
            genes = torch.where(better[:, None, None, None, None], chosen, genes)
            best = torch.where(better, fittest.values, best)
    pixels = grow(genes)
    with torch.no_grad(), evaluating(network):
        reached = network(pixels.to(device_of(network))).softmax(1).float().cpu()
    return Fooling(pixels, reached[range(len(classes)), list(classes)])
