"""The last block of an image encoder: an encoder split in front of it, and feature windows, which start from its input.

Nothing of a model is copied or patched. open_clip's own VisionTransformer and timm's ViT, EVA and relative-position
models expose the two parts; here both have the same interface. A model of any other kind has no split.

A feature window is a part of the token grid, resized to the whole grid, on which the last block runs. For
CLS-pooled plain blocks the same result follows from the original tokens without running the block (``fast_views``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, pad

from abs_classify.models.cls_attention import ClsBlock, cls_row, find_projections
from abs_classify.models.copies import to_device
from abs_core.errors import UsageError

__all__ = [
    "EncoderSplit",
    "fast_views",
    "full_views",
    "resize_table",
    "split_image_encoder",
    "split_timm",
    "to_grid",
    "view_matrices",
    "window_tokens",
]

Pooling = Literal["token", "average", "attention"]


@dataclass(frozen=True)
class EncoderSplit:
    """The two parts of an image encoder and what is known of them.

    Attributes:
        grid: side g of the patch grid, in tokens.
        prefix: number P of tokens in front of it (CLS, registers).
        pooling: which token or tokens become the feature: the CLS token, the mean, or an attention-pooling head.
        embed: pixels [B, 3, S, S] to the input of the last block, [B, P + g*g, w].
        block: the last block, [B, P + g*g, w] to the same shape.
        head: final norm, pooling and projection, [B, T, w] to [B, d].
        row: the input of the last block to the attention over all tokens, by head, of the query that makes the feature:
            [B, h, P + g*g] float32; None where there is no such query.
        cls: the last block taken apart, for CLS-pooled plain pre-LayerNorm blocks; None for all others.
    """

    grid: int
    prefix: int
    pooling: Pooling
    embed: Callable[[Tensor], Tensor]
    block: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    row: Callable[[Tensor], Tensor] | None
    cls: ClsBlock | None

    def finish(self, tokens: Tensor) -> Tensor:
        """The whole second part: [B, P + g*g, w] to [B, d]."""
        return self.head(self.block(tokens))


def split_image_encoder(visual: nn.Module) -> EncoderSplit | None:
    """Split the image encoder of an open_clip model; None where it has no square grid of transformer tokens.

    Args:
        visual: ``model.visual`` of an open_clip CLIP, CustomTextCLIP or CoCa, in eval mode.
    """
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return _split_open_clip(visual)
    if isinstance(visual, TimmModel):
        # a pooling module of the adapter's own expects a feature map, not tokens
        return None if hasattr(visual.head, "pool") else split_timm(visual.trunk, visual.head)
    return None


def _split_open_clip(visual: Any) -> EncoderSplit | None:
    blocks = visual.transformer.resblocks
    height, width = visual.grid_size
    if height != width or len(blocks) < 2 or not visual.transformer.batch_first:
        return None
    last = blocks[-1]
    before = len(blocks) - 2

    def embed(pixels: Tensor) -> Tensor:
        parts = visual.forward_intermediates(
            pixels,
            indices=[before],
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        return torch.cat([parts["image_intermediates_prefix"][0], parts["image_intermediates"][0]], dim=1)

    def head(tokens: Tensor) -> Tensor:
        pooled, _ = visual._pool(tokens)
        return pooled if visual.proj is None else pooled @ visual.proj  # type: ignore[no-any-return]

    pooling = _open_clip_pooling(visual)
    if pooling is None:
        return None
    cls = _open_clip_cls_block(last) if pooling == "token" else None
    row: Callable[[Tensor], Tensor] | None = cls.row if cls else None
    if pooling == "token" and row is None:
        row = _block_row(last, last.ln_1, None)
    if pooling == "attention" and visual.pool_type == "tok":
        row = partial(_pooler_row, last, visual.attn_pool)
    return EncoderSplit(grid=height, prefix=1, pooling=pooling, embed=embed, block=last, head=head, row=row, cls=cls)


def _open_clip_pooling(visual: Any) -> Pooling | None:
    # a second pooler, and no pooling at all, leave more than one vector
    if visual.attn_pool is not None and visual.attn_pool_contrastive is None and visual.pool_type in ("tok", "avg"):
        return "attention"
    return None if visual.attn_pool is not None else {"tok": "token", "avg": "average"}.get(visual.pool_type)  # type: ignore[return-value]


def _open_clip_cls_block(block: Any) -> ClsBlock | None:
    from open_clip.transformer import ResidualAttentionBlock

    projections = find_projections(block.attn)
    if type(block) is not ResidualAttentionBlock or projections is None:
        return None

    def finish(cls: Tensor, attended: Tensor) -> Tensor:
        x = cls + block.ls_1(block.attn.out_proj(attended.to(cls.dtype)))
        return x + block.ls_2(block.mlp(block.ln_2(x)))  # type: ignore[no-any-return]

    return ClsBlock.build(block.ln_1, projections, finish)


def _pooler_row(block: nn.Module, pooler: Any, tokens: Tensor) -> Tensor:
    """The first query's row of CoCa's attention pooler over the last block's output: [B, h, T]."""
    attention = pooler.attn
    batch, count, _ = tokens.shape
    q_weight, k_weight = attention.q_proj_weight, attention.k_proj_weight
    if q_weight is None:
        q_weight, k_weight, _ = attention.in_proj_weight.chunk(3)
    q_bias, k_bias, _ = attention.in_proj_bias.chunk(3)
    q = linear(pooler.ln_q(pooler.query[:1]), q_weight, q_bias).reshape(attention.num_heads, 1, -1)
    k = linear(pooler.ln_k(block(tokens)), k_weight, k_bias)
    k = k.reshape(batch, count, attention.num_heads, -1).transpose(1, 2)
    return _softmax_row(q, k)


def split_timm(trunk: Any, head: nn.Module | None = None, pooling: Pooling | None = None) -> EncoderSplit | None:
    """Split a timm vision transformer; None for every other kind of trunk.

    Args:
        trunk: a timm model in eval mode: VisionTransformer (also hybrid: MobileCLIP-B, ViTamin), Eva (EVA, EVA02, PE)
            or VisionTransformerRelPos.
        head: what follows the trunk (the adapter's projection), applied to [B, d'].
        pooling: whose attention ``EncoderSplit.row`` gives; by default that of the trunk.
    """
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    if not isinstance(trunk, (VisionTransformer, Eva, VisionTransformerRelPos)) or len(trunk.blocks) < 2:
        return None
    rows, columns = trunk.patch_embed.grid_size
    pooling = pooling or _timm_pooling(trunk)
    if rows != columns or pooling is None:
        return None
    last, before = trunk.blocks[-1], len(trunk.blocks) - 2
    prefix = trunk.num_prefix_tokens
    extra = _block_arguments(trunk)

    def embed(pixels: Tensor) -> Tensor:
        (part,) = trunk.forward_intermediates(
            pixels, indices=[before], stop_early=True, intermediates_only=True, output_fmt="NLC",
            return_prefix_tokens=prefix > 0,
        )  # fmt: skip
        return torch.cat([part[1], part[0]], dim=1) if prefix else part

    def finish_head(tokens: Tensor) -> Tensor:
        pooled: Tensor = trunk.forward_head(trunk.norm(tokens))
        return pooled if head is None else head(pooled)

    cls = _timm_cls_block(last) if pooling == "token" and not extra() else None
    return EncoderSplit(
        grid=rows,
        prefix=prefix,
        pooling=pooling,
        embed=embed,
        block=lambda tokens: last(tokens, **extra()),
        head=finish_head,
        row=cls.row if cls else _timm_row(trunk, pooling, prefix, extra),
        cls=cls,
    )


def _timm_pooling(trunk: Any) -> Pooling | None:
    if getattr(trunk, "attn_pool", None) is not None:
        return "attention"
    if trunk.global_pool == "token":
        return "token"
    # an empty name means that the trunk gives all tokens back, so nothing here makes one feature of them
    return "average" if trunk.global_pool else None


def _block_arguments(trunk: Any) -> Callable[[], dict[str, Tensor]]:
    """What the last block takes besides the tokens: a rotary embedding or a shared position bias.

    Computed at each call, because timm may keep either as a module whose buffers move with the device.
    """
    rope, shared = getattr(trunk, "rope", None), getattr(trunk, "shared_rel_pos", None)

    def arguments() -> dict[str, Tensor]:
        if rope is not None:
            sized = hasattr(rope, "feat_shape")
            embedding = rope.get_embed() if sized else rope.get_embed(shape=trunk.patch_embed.grid_size)
            # mixed rotary embedding holds one entry for each block
            return {"rope": embedding[-1] if getattr(trunk, "rope_mixed", False) else embedding}
        return {} if shared is None else {"shared_rel_pos": shared.get_bias()}

    return arguments


def _timm_cls_block(block: Any) -> ClsBlock | None:
    from timm.layers import Attention
    from timm.models.vision_transformer import Block

    attention = block.attn
    if type(block) is not Block or type(attention) is not Attention or getattr(attention, "gate", None) is not None:
        return None
    projections = find_projections(attention)
    if projections is None:
        return None

    def finish(cls: Tensor, attended: Tensor) -> Tensor:
        x = cls + block.ls1(attention.proj(attention.norm(attended.to(cls.dtype))))
        return x + block.ls2(block.mlp(block.norm2(x)))  # type: ignore[no-any-return]

    return ClsBlock.build(block.norm1, projections, finish)


def _timm_row(
    trunk: Any, pooling: Pooling, prefix: int, extra: Callable[[], dict[str, Tensor]]
) -> Callable[[Tensor], Tensor] | None:
    from timm.layers import AttentionPoolLatent

    last = trunk.blocks[-1]
    if pooling == "token":
        return _block_row(last, last.norm1, lambda keys: _rotate(last.attn, prefix, keys, extra().get("rope")))
    if pooling == "attention" and isinstance(trunk.attn_pool, AttentionPoolLatent):
        skip = 0 if getattr(trunk, "pool_include_prefix", True) else prefix

        def row(tokens: Tensor) -> Tensor:
            attended = _latent_row(trunk.attn_pool, trunk.norm(last(tokens, **extra()))[:, skip:])
            return pad(attended, (skip, 0))

        return row
    return None


def _block_row(
    block: Any, norm: nn.Module, rotate: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor] | None:
    if type(block).__name__ not in _PRE_NORM_BLOCKS:
        return None
    projections = find_projections(block.attn)
    if projections is None:
        return None
    return lambda tokens: cls_row(projections, norm(tokens), rotate)


#: Blocks whose attention sees the first norm of their input.
_PRE_NORM_BLOCKS = {"ResidualAttentionBlock", "CustomResidualAttentionBlock", "Block", "EvaBlock"}


def _rotate(attention: Any, prefix: int, keys: Tensor, rope: Tensor | None) -> Tensor:
    """Rotary embedding of patch keys [B, h, T, c], as timm's attention applies it; prefix tokens have no position."""
    from timm.layers import apply_rot_embed_cat

    if rope is None:
        return keys
    half = getattr(attention, "rotate_half", False)
    turned = apply_rot_embed_cat(keys[:, :, prefix:], rope, half=half).to(keys.dtype)
    return torch.cat([keys[:, :, :prefix], turned], dim=2)


def _latent_row(pool: Any, tokens: Tensor) -> Tensor:
    """The first latent query's row of timm's attention pooling: [B, T, w] to [B, h, T]."""
    batch, count, _ = tokens.shape
    if pool.pos_embed is not None:
        tokens = tokens + pool.pos_embed.unsqueeze(0).to(tokens.dtype)
    q = pool.q_norm(pool.q(pool.latent[0, :1]).reshape(pool.num_heads, 1, -1))
    keys = pool.kv(tokens).reshape(batch, count, 2, pool.num_heads, pool.head_dim)[:, :, 0].transpose(1, 2)
    return _softmax_row(q, pool.k_norm(keys))


def _softmax_row(query: Tensor, keys: Tensor) -> Tensor:
    """[h, 1, c] and [B, h, T, c] to softmax(q k' / sqrt(c)), [B, h, T] float32."""
    scores = query.float() @ keys.float().transpose(-1, -2) / query.shape[-1] ** 0.5
    return torch.softmax(scores.squeeze(-2), dim=-1)


def to_grid(flat: Tensor, grid: int) -> Tensor:
    """[..., g*g] to [..., g, g], row by row."""
    return flat.reshape(*flat.shape[:-1], grid, grid)


#: Token sets that the last block sees at once. Bounds memory; the result does not depend on it.
_SETS_AT_ONCE = 128

#: Floats that the fast path holds at once besides its inputs (about 128 MiB).
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
        raise UsageError(f"feature windows must have the shape [images, views, 4], got {list(windows.shape)}")
    low, high = windows[..., 0::2], windows[..., 1::2]
    bad = ((low < 0) | (high > grid) | (low >= high)).any(-1)
    if bool(bad.any()):
        first = windows[bad][0].tolist()
        raise UsageError(
            f"feature window {first} (row0, row1, col0, col1) is empty or leaves the {grid} x {grid} token grid",
            remedy="Give windows inside the grid, with exclusive ends",
        )
    windows = to_device(windows, table.device)
    return table[windows[..., 0], windows[..., 1]], table[windows[..., 2], windows[..., 3]]


def window_tokens(tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The token sets of feature windows: the original prefix tokens, then the resized windows in row-major order.

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
    """Features of windows by running the whole last block on each of them: any model, and the oracle of ``fast_views``.

    Args:
        finish: last block, final norm, pooling and projection: [M, P + g*g, w] to [M, d].
        tokens: [B, P + g*g, w].
        rows, columns: [B, N, g, g] from ``view_matrices``.

    Returns:
        [B, N, d] in the dtype of ``finish``.
    """
    batch, count = rows.shape[:2]
    image_index = torch.arange(batch, device=rows.device).repeat_interleave(count)
    rows, columns = rows.flatten(0, 1).unsqueeze(1), columns.flatten(0, 1).unsqueeze(1)
    parts = [
        finish(window_tokens(tokens[image_index[part]], rows[part], columns[part]).squeeze(1))
        for part in torch.split(torch.arange(batch * count, device=rows.device), _SETS_AT_ONCE)
    ]
    return torch.cat(parts).reshape(batch, count, -1)


def fast_views(block: ClsBlock, tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Features of the windows of a CLS-pooled model without running the block on any of them.

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
        for part, r, c in zip(*(torch.split(tensor, step) for tensor in (tokens, rows, columns)), strict=True)
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
