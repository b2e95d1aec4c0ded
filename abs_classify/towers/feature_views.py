"""Feature views: the last block of an image tower, run on windows of its token grid (ABS, arXiv 2505.13233, section 3).

Two ways to the same numbers. ``full_views`` resizes each window's tokens and runs the whole block on them; it works
for every tower that can be split, and is the oracle of the other. ``fast_views`` uses that resizing is linear over
tokens and LayerNorm is linear up to one scale per token, so for a CLS-pooled pre-LayerNorm block the attention scores,
the deviations and the weighted sums of all views come from products over the original tokens.

Shapes: B images, N views, P prefix tokens, g x g patch tokens of width w, h heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from abs_classify.towers.cls_attention import ClsBlock
from abs_classify.towers.splitting import to_grid
from abs_core.errors import UsageError

__all__ = ["fast_views", "full_views", "resize_table", "view_matrices", "window_tokens"]

#: Token sets that the last block sees at once. Bounds memory; the result does not depend on it.
_SETS_AT_ONCE = 128
#: Floats that the fast path holds at once beside its inputs (about 128 MiB).
_FLOATS_AT_ONCE = 1 << 25


def resize_table(grid: int, device: torch.device) -> Tensor:
    """The matrices that cut tokens start..stop out of a line of g and resize them to g, for every start and stop.

    Bicubic with a = -0.75, ``align_corners=False``, no antialias, edges clamped: torch's own kernel, applied to the
    identity in float64.

    Returns:
        [g + 1, g + 1, g, g] float32 on ``device``, indexed by start, stop, output position, input position. Entries
        with start >= stop are zero.
    """
    table = torch.zeros(grid + 1, grid + 1, grid, grid, dtype=torch.float64)
    unit = torch.eye(grid, dtype=torch.float64)
    for start in range(grid):
        for stop in range(start + 1, grid + 1):
            line = unit[None, :, start:stop, None]
            table[start, stop] = interpolate(line, size=(grid, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T
    return table.to(device=device, dtype=torch.float32)


def view_matrices(table: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """The row and the column resize matrices of windows.

    Args:
        table: from ``resize_table``.
        windows: int64 [B, N, 4]: row0, row1, col0, col1, ends exclusive.

    Returns:
        rows and columns, [B, N, g, g] each: a view of a grid X is rows X columns'.

    Raises:
        UsageError: a window is empty or leaves the grid, or the shape is wrong.
    """
    grid = table.shape[-1]
    if windows.ndim != 3 or windows.shape[-1] != 4:
        raise UsageError(f"feature windows have shape {list(windows.shape)}, not [images, views, 4]")
    low, high = windows[..., 0::2], windows[..., 1::2]
    bad = ((low < 0) | (high > grid) | (low >= high)).any(-1)
    if bool(bad.any()):
        first = windows[bad][0].tolist()
        raise UsageError(
            f"feature window {first} (row0, row1, col0, col1) is empty or leaves the {grid} x {grid} token grid",
            remedy="Give windows inside the grid, with exclusive ends",
        )
    windows = windows.to(table.device)
    return table[windows[..., 0], windows[..., 1]], table[windows[..., 2], windows[..., 3]]


def window_tokens(tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The token sets of feature views: the original prefix tokens, then the resized windows in row-major order.

    Args:
        tokens: [B, P + g*g, w].
        rows, columns: [B, N, g, g] from ``view_matrices``.

    Returns:
        [B, N, P + g*g, w] in the dtype of ``tokens``; the resizing itself is float32.
    """
    batch, count, grid, _ = rows.shape
    width = tokens.shape[-1]
    prefix = tokens.shape[1] - grid * grid
    patches = tokens[:, prefix:].float().reshape(batch, grid, grid * width)
    by_row = (rows.reshape(batch, count * grid, grid) @ patches).reshape(batch, count, grid, grid, width)
    resized = (columns.unsqueeze(2) @ by_row).reshape(batch, count, grid * grid, width).to(tokens.dtype)
    return torch.cat([tokens[:, None, :prefix].expand(-1, count, -1, -1), resized], dim=2)


def full_views(finish: Callable[[Tensor], Tensor], tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Feature views by running the whole last block on every window: any tower, and the oracle of ``fast_views``.

    Args:
        finish: last block, final norm, pooling and projection: [M, P + g*g, w] to [M, d].
        tokens: [B, P + g*g, w].
        rows, columns: [B, N, g, g] from ``view_matrices``.

    Returns:
        [B, N, d] in the dtype of ``finish``.
    """
    batch, count = rows.shape[:2]
    owner = torch.arange(batch, device=rows.device).repeat_interleave(count)
    rows, columns = rows.flatten(0, 1).unsqueeze(1), columns.flatten(0, 1).unsqueeze(1)
    parts = [
        finish(window_tokens(tokens[owner[part]], rows[part], columns[part]).squeeze(1))
        for part in torch.split(torch.arange(batch * count, device=rows.device), _SETS_AT_ONCE)
    ]
    return torch.cat(parts).reshape(batch, count, -1)


def fast_views(block: ClsBlock, tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Feature views of a CLS-pooled tower without running the block on any window.

    Args:
        block: the last block, taken apart.
        tokens: [B, P + g*g, w], CLS first.
        rows, columns: [B, N, g, g] from ``view_matrices``.

    Returns:
        [B, N, w]: the block's output for the CLS token of every view, in the dtype of ``tokens``.
    """
    count, grid = rows.shape[1], rows.shape[-1]
    floats = count * (
        2 * grid**3 + 4 * block.query.shape[0] * grid * grid + 2 * block.query.shape[0] * tokens.shape[-1]
    )
    step = max(1, _FLOATS_AT_ONCE // max(floats, 1))
    parts = [
        block.finish(part[:, None, 0].expand(-1, count, -1), block.values(_mixed_tokens(block, part, r, c)))
        for part, r, c in zip(*(torch.split(each, step) for each in (tokens, rows, columns)), strict=True)
    ]
    return torch.cat(parts)


def _mixed_tokens(block: ClsBlock, tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each view's and head's attention-weighted mean of normalised tokens: [B, N, h, w] float32.

    With x the tokens less their channel mean, a normalised token is weight * x / sigma + bias. A view's patch tokens
    are R x with R the Kronecker product of its row and column matrices, so its scores are R (x . direction) / sigma,
    and its weighted sum of patches is (R' (p / sigma)) x.
    """
    batch, count, grid, _ = rows.shape
    prefix = tokens.shape[1] - grid * grid
    tokens = tokens.float()
    centred = tokens - tokens.mean(-1, keepdim=True)
    head, patches = centred[:, :prefix], centred[:, prefix:]
    # the bias's share of a score is the same for all tokens, so the softmax does not see it
    directions = block.key_directions(block.normalise(tokens[:, 0])) * block.norm_weight
    scores = to_grid(directions @ patches.transpose(1, 2), grid)
    head_inverse = (head.square().mean(-1) + block.eps).rsqrt()
    inverse = (_view_variance(patches, rows, columns) + block.eps).rsqrt()

    rows, columns = rows.unsqueeze(2), columns.unsqueeze(2)
    view_scores = (rows @ scores.unsqueeze(1) @ columns.transpose(-1, -2)) * inverse.unsqueeze(2)
    head_scores = (directions @ head.transpose(1, 2)) * head_inverse.unsqueeze(1)
    joint = torch.cat([head_scores.unsqueeze(1).expand(-1, count, -1, -1), view_scores.flatten(-2)], -1).softmax(-1)

    weights = to_grid(joint[..., prefix:], grid) * inverse.unsqueeze(2)
    pushed = (rows.transpose(-1, -2) @ weights @ columns).flatten(-2)
    original = torch.cat([joint[..., :prefix] * head_inverse[:, None, None], pushed], -1)
    mixed = (original.flatten(1, 2) @ centred).reshape(batch, count, -1, tokens.shape[-1])
    return mixed * block.norm_weight + block.norm_bias


def _view_variance(patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The variance over channels of every patch token of every view: [B, N, g, g].

    It is the diagonal of R G R' with G = x x' / w. R is a Kronecker product, so the column half is one matrix product
    for all views, with G's axes paired as (column, column) by (row, row), and the row half another.

    Args:
        patches: [B, g*g, w], channel mean removed.
        rows, columns: [B, N, g, g].
    """
    batch, count, grid, _ = rows.shape
    gram = (patches @ patches.transpose(1, 2)) / patches.shape[-1]
    gram = gram.reshape(batch, grid, grid, grid, grid).permute(0, 2, 4, 1, 3).reshape(batch, grid**2, grid**2)
    column_pairs = (columns.unsqueeze(-1) * columns.unsqueeze(-2)).reshape(batch, count * grid, grid**2)
    row_pairs = (rows.unsqueeze(-1) * rows.unsqueeze(-2)).reshape(batch, count, grid, grid**2)
    by_column = (column_pairs @ gram).reshape(batch, count, grid, grid**2)
    # rounding can leave a constant window a hair below zero
    return (row_pairs @ by_column.transpose(-1, -2)).clamp_min(0)
