"""Operations written as others, while a function is traced."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from descent.browser.lower import Unsupported

aten = torch.ops.aten

#: those of PyTorch that its core set leaves as they are
_MORE = [aten._log_softmax, aten._softmax, aten.elu, aten.elu_backward, aten._native_batch_norm_legit]


def _patches(x: Tensor, size: int, padding: int, groups: int) -> Tensor:
    """What each place of an image (n, groups * channels, h, w) sees, (groups, channels * size^2, n * h' * w')."""
    n, channels, height, width = x.shape
    x = F.pad(x, (padding,) * 4)
    h, w = height + 2 * padding - size + 1, width + 2 * padding - size + 1
    seen = [x[:, :, i : i + h, j : j + w] for i in range(size) for j in range(size)]
    stacked = torch.stack([s.reshape(n, groups, -1, h, w).permute(1, 2, 0, 3, 4) for s in seen], dim=2)
    return stacked.reshape(groups, channels // groups * size * size, n * h * w)


def _convolved(x: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    size, n, side = weight.shape[-1], x.shape[0], [s + 2 * padding - weight.shape[-1] + 1 for s in x.shape[2:]]
    out = weight.reshape(groups, -1, weight.shape[1] * size * size) @ _patches(x, size, padding, groups)
    return out.reshape(-1, n, *side).transpose(0, 1)


def _plain(name: str, weight: Tensor, *rest: object) -> None:
    stride, padding, dilation, transposed = rest
    if {*stride, *dilation} != {1} or transposed or padding[0] != padding[1] or weight.shape[-1] != weight.shape[-2]:
        raise Unsupported(f"{name} with stride {stride}, padding {padding}, dilation {dilation}")


def _convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    _plain("aten.convolution", weight, stride, padding, dilation, transposed)
    out = _convolved(x, weight, padding[0], groups)
    return out if bias is None else out + bias[:, None, None]


def _convolution_backward(g, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask):
    _plain("aten.convolution_backward", weight, stride, padding, dilation, transposed)
    size, out = weight.shape[-1], weight.shape[0]
    dx = dw = db = None
    if mask[0]:  # the convolution of g with the weights turned around
        turned = weight.reshape(groups, out // groups, -1, size, size).transpose(1, 2).flip(-1, -2)
        dx = _convolved(g, turned.reshape(-1, out // groups, size, size), size - 1 - padding[0], groups)
    if mask[1]:
        flat = g.transpose(0, 1).reshape(groups, out // groups, -1)
        dw = (flat @ _patches(x, size, padding[0], groups).transpose(1, 2)).reshape(weight.shape)
    if mask[2]:
        db = g.sum((0, 2, 3))
    return dx, dw, db


def _halved(x: Tensor, size: list[int], stride: list[int], padding: list[int], *rest: object) -> None:
    if set(size) | set(stride or size) != {2} or set(padding) != {0} or x.shape[-1] % 2 or x.shape[-2] % 2:
        raise Unsupported(f"aten.avg_pool2d of sides {tuple(x.shape[-2:])}, window {size}, stride {stride}, padding {padding}")


def _avg_pool(x, size, stride=(), padding=(0, 0), *rest):
    _halved(x, size, stride, padding)
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def _avg_pool_backward(g, x, size, stride, padding, *rest):
    _halved(x, size, stride, padding)
    n, c, h, w = g.shape
    return (g / 4)[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def _var_mean(x, dims=None, *, correction=1, keepdim=False):
    dims = list(range(x.ndim)) if dims is None else dims
    mean = x.mean(dims, keepdim=True)
    count = math.prod(x.shape[d] for d in dims) - correction
    variance = (x - mean).square().sum(dims, keepdim=keepdim) / count
    return variance, mean if keepdim else x.mean(dims)


def table() -> dict[object, Callable]:
    """Every decomposition that tracing uses."""
    own = {
        aten.convolution.default: _convolution,
        aten.convolution_backward.default: _convolution_backward,
        aten.var_mean.correction: _var_mean,
        aten.avg_pool2d.default: _avg_pool,
        aten.avg_pool2d_backward.default: _avg_pool_backward,
    }
    return dict(core_aten_decompositions().items()) | get_decompositions(_MORE) | own
