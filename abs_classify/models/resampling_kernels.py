"""The two passes of resampling as GPU kernels, each reading its pixels once: the same sums of integers, in Triton.

``abs_classify.models.resampling`` has the same passes in torch's own operations, which are the oracle; they read and
write every product of a pixel and a weight. Triton comes with torch for CUDA.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["across", "along"]

# bits of Pillow's fixed-point weights, and half of their unit
_BITS, _HALF = tl.constexpr(22), tl.constexpr(1 << 21)
_BLOCK = 128

# otherwise Triton compiles again for sizes that are multiples of 16 or 1
_SIZES = ["channel_stride", "line_stride", "pixel_stride", "last", "taps", "height", "width", "kept", "crops", "plane"]


@triton.jit(do_not_specialize=_SIZES)  # type: ignore[untyped-decorator, unused-ignore]
def along_kernel(
    image: tl.tensor,
    channel_stride: tl.tensor,
    line_stride: tl.tensor,
    pixel_stride: tl.tensor,
    last: tl.tensor,
    lines: tl.tensor,
    start: tl.tensor,
    weights: tl.tensor,
    taps: tl.tensor,
    resized: tl.tensor,
    height: tl.tensor,
    kept: tl.tensor,
    plane: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """A block of kept pixels of one line of one crop, all channels; weights are [n, T, kept]."""
    line, crop = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = column < kept
    source = image + tl.load(lines + crop * height + line) * line_stride
    first = tl.load(start + crop * kept + column, mask=inside, other=0)
    red = tl.full([BLOCK], _HALF, tl.int32)
    green, blue = red, red
    for tap in range(taps):
        weight = tl.load(weights + (crop * taps + tap) * kept + column, mask=inside, other=0)
        pixel = source + tl.minimum(first + tap, last) * pixel_stride
        red += weight * tl.load(pixel, mask=inside, other=0).to(tl.int32)
        green += weight * tl.load(pixel + channel_stride, mask=inside, other=0).to(tl.int32)
        blue += weight * tl.load(pixel + channel_stride + channel_stride, mask=inside, other=0).to(tl.int32)
    target = resized + (crop * height + line) * kept + column
    tl.store(target, tl.minimum(tl.maximum(red >> _BITS, 0), 255).to(tl.uint8), mask=inside)
    tl.store(target + plane, tl.minimum(tl.maximum(green >> _BITS, 0), 255).to(tl.uint8), mask=inside)
    tl.store(target + plane + plane, tl.minimum(tl.maximum(blue >> _BITS, 0), 255).to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=_SIZES)  # type: ignore[untyped-decorator, unused-ignore]
def across_kernel(
    narrow: tl.tensor,
    start: tl.tensor,
    weights: tl.tensor,
    taps: tl.tensor,
    resized: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    kept: tl.tensor,
    crops: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """A block of one kept row of one channel of one crop; ``narrow`` is [3, n, height, width], weights [n, kept, T]."""
    row, channel = tl.program_id(0) % kept, tl.program_id(0) // kept
    crop = tl.program_id(1).to(tl.int64)
    column = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    source = narrow + (channel * crops + crop) * height * width + column
    first = tl.load(start + crop * kept + row)
    total = tl.full([BLOCK], _HALF, tl.int32)
    for tap in range(taps):
        weight = tl.load(weights + (crop * kept + row) * taps + tap)
        line = tl.minimum(first + tap, height - 1)
        total += weight * tl.load(source + line * width, mask=inside, other=0).to(tl.int32)
    target = resized + ((crop * 3 + channel) * kept + row) * width + column
    tl.store(target, tl.minimum(tl.maximum(total >> _BITS, 0), 255).to(tl.uint8), mask=inside)


def along(image: Tensor, lines: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """The first pass, along the lines int64 [n, h] of an image uint8 [3, L, K]: uint8 [3, n, h, kept].

    Args:
        image: on a GPU.
        lines: which lines each crop needs.
        start: the first pixel that counts in each kept one, int64 [n, kept].
        weights: of the pixels from there on, int32 [n, kept, T].
    """
    (crops, height), (_, kept, taps) = lines.shape, weights.shape
    resized = torch.empty((3, crops, height, kept), dtype=torch.uint8, device=image.device)
    by_tap = weights.transpose(1, 2).contiguous()
    # the x axis of a grid may be long, the others 65,535
    along_kernel[height, crops, triton.cdiv(kept, _BLOCK)](
        image,
        *image.stride(),
        image.shape[2] - 1,
        lines,
        start,
        by_tap,
        taps,
        resized,
        height,
        kept,
        crops * height * kept,
        BLOCK=_BLOCK,
    )
    return resized


def across(narrow: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """The second pass, across the lines of the first, uint8 [3, n, h, width]: uint8 [n, 3, kept, width].

    Args:
        narrow: contiguous, on a GPU.
        start, weights: as in ``along``, for the lines.
    """
    (_, crops, height, width), (_, kept, taps) = narrow.shape, weights.shape
    resized = torch.empty((crops, 3, kept, width), dtype=torch.uint8, device=narrow.device)
    across_kernel[3 * kept, crops, triton.cdiv(width, _BLOCK)](
        narrow, start, weights, taps, resized, height, width, kept, crops, BLOCK=_BLOCK
    )
    return resized
