"""Class activation maps: the weighted sum of the last feature maps, and its gradient form."""

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.networks import check_pixels, class_indices, class_weights, evaluating, feature_maps


def class_maps(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return M_c = sum_k w_k^c f_k of all classes at the resolution of the features, (B, C, h, w) (CAM paper, eq. 2).

    Raw signed values without the bias, so that S_c = mean of M_c + b_c for average pooling. SqueezeNet rectifies first:
    S_c = mean of ReLU(M_c + b_c). With a maximum over positions (head "max"), S_c = max of M_c + b_c.
    Raises ValueError for a network without global pooling.
    """
    with torch.no_grad():
        weights, _ = class_weights(network)
        return torch.einsum("ck,bkhw->bchw", weights, feature_maps(network, pixels))


def class_activation_map(
    network: nn.Module, pixels: torch.Tensor, classes: int | np.ndarray | torch.Tensor
) -> np.ndarray:
    """Return M_c of one class per image, raw and signed, upsampled bilinearly to the pixels, float32 (B, H, W).

    CAM paper, section 2. `classes` is one index or one per image. Costs one forward pass.
    Raises ValueError for a network without global pooling and for classes out of range.
    """
    with torch.no_grad():
        weights, _ = class_weights(network)
        weights = weights[class_indices(classes, len(pixels), len(weights)).to(weights.device)]
        maps = torch.einsum("bk,bkhw->bhw", weights, feature_maps(network, pixels))
    return upsample(maps, pixels.shape[-2:])


def grad_cam(
    network: nn.Module, layer: nn.Module, pixels: torch.Tensor, classes: int | np.ndarray | torch.Tensor
) -> np.ndarray:
    """Return Grad-CAM, ReLU(sum_k a_k f_k) with a_k the mean of dS_c/df_k over positions, float32 (B, H, W).

    Selvaraju et al. 2017, equations 1 and 2, at the output f of `layer`, for any network; upsampled bilinearly.
    On a network with global average pooling it is ReLU(CAM) divided by the number of positions.
    Raises ValueError for classes out of range.
    """
    outputs = []
    handle = layer.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    try:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
            logits = network(check_pixels(network, pixels).detach().clone().requires_grad_())
            indices = class_indices(classes, *logits.shape).to(logits.device)
            (gradient,) = torch.autograd.grad(logits.gather(1, indices[:, None]).sum(), outputs[-1])
    finally:
        handle.remove()
    maps = (gradient.mean((2, 3), keepdim=True) * outputs[-1].detach()).sum(1).relu()
    return upsample(maps, pixels.shape[-2:])


def upsample(maps: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Bring maps (B, h, w) to an image's size by bilinear interpolation, numpy (B, H, W).

    >>> upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4)).round(2).tolist()
    [[[0.0, 0.25, 0.75, 1.0]]]
    """
    return nn.functional.interpolate(maps[:, None], tuple(size), mode="bilinear")[:, 0].float().cpu().numpy()
