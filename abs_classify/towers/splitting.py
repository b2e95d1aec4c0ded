"""An image tower in two parts: everything up to the input of its last block, and the last block with what follows.

Nothing of a model is copied or patched. open_clip's own VisionTransformer and timm's ViT, EVA and relative-position
towers expose the parts; this module names them in one way. A tower of any other kind has no split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from abs_classify.towers.cls_attention import ClsBlock, cls_row, find_projections

__all__ = ["Split", "split_image_tower", "split_timm", "to_grid"]

Pooling = Literal["token", "average", "attention"]


@dataclass(frozen=True)
class Split:
    """The two parts of an image tower and what is known of them.

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


def split_image_tower(visual: nn.Module) -> Split | None:
    """Split the image tower of an open_clip model; None where it has no square grid of transformer tokens.

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


def _split_open_clip(visual: Any) -> Split | None:
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
    return Split(grid=height, prefix=1, pooling=pooling, embed=embed, block=last, head=head, row=row, cls=cls)


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


def split_timm(trunk: Any, head: nn.Module | None = None, pooling: Pooling | None = None) -> Split | None:
    """Split a timm vision transformer; None for every other kind of trunk.

    Args:
        trunk: a timm model in eval mode: VisionTransformer (also hybrid: MobileCLIP-B, ViTamin), Eva (EVA, EVA02, PE)
            or VisionTransformerRelPos.
        head: what follows the trunk (the adapter's projection), applied to [B, d'].
        pooling: whose attention ``Split.row`` gives; by default what the trunk pools.
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
    return Split(
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
    """What the last block takes beside the tokens: rotary embedding or a shared position bias.

    Asked for at each call, because timm may keep either as a module whose buffers move with the device.
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
