"""Attention of the CLS token, computed by hand from the queries and keys of a block.

Fused attention kernels give no weights back, so what the CLS token attends to is computed here from the block's own
projections. For plain blocks the same numbers also finish the CLS token without touching any other token: the softmax
over keys does not see what is equal for all keys, and the weighted mean of values is the value projection of the
weighted mean of inputs. So neither keys nor values are ever projected token by token.

Shapes: B images, T tokens (CLS first), width w, h heads of size c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

__all__ = ["ClsBlock", "Projections", "cls_row", "find_projections"]


@dataclass(frozen=True)
class Projections:
    """The input projections of one attention module; the head size c is rows / heads.

    Attributes:
        query, key, value: weights, [h*c, w] each; a key with fewer heads serves several query heads.
        query_bias, key_bias, value_bias: [h*c] each, or None.
        heads, key_heads: number of query heads and of key heads.
        query_norm, key_norm: normalisation of each head's queries and keys.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    query_bias: Tensor | None
    key_bias: Tensor | None
    value_bias: Tensor | None
    heads: int
    key_heads: int
    query_norm: nn.Module
    key_norm: nn.Module

    @property
    def plain(self) -> bool:
        """Whether scores are query times key and nothing else, with as many key heads as query heads."""
        identity = isinstance(self.query_norm, nn.Identity) and isinstance(self.key_norm, nn.Identity)
        return identity and self.heads == self.key_heads


def find_projections(attention: nn.Module) -> Projections | None:
    """The projections of an attention module of torch, open_clip or timm; None for any other kind.

    Args:
        attention: ``torch.nn.MultiheadAttention``, open_clip's ``Attention``, timm's ``Attention``, ``EvaAttention`` or
            ``AttentionRope``. Their subclasses may compute other scores, so only these very types count.
    """
    kind = (type(attention).__module__.partition(".")[0], type(attention).__name__)
    if kind not in _KINDS or getattr(attention, "logit_scale", None) is not None:
        return None
    heads = int(attention.num_heads)  # type: ignore[arg-type]
    projections = _packed(attention) or _fused(attention) or _separate(attention)
    if projections is None:
        return None
    weights, biases = projections
    return Projections(
        *weights,
        *biases,
        heads=heads,
        key_heads=int(getattr(attention, "num_kv_heads", heads)),
        query_norm=_first_module(attention, "q_norm", "ln_q"),
        key_norm=_first_module(attention, "k_norm", "ln_k"),
    )


_KINDS = {
    ("torch", "MultiheadAttention"),
    ("open_clip", "Attention"),
    ("timm", "Attention"),
    ("timm", "EvaAttention"),
    ("timm", "AttentionRope"),
}

_Triple = tuple[Tensor, Tensor, Tensor]
_Biases = tuple[Tensor | None, Tensor | None, Tensor | None]


def _packed(attention: nn.Module) -> tuple[_Triple, _Biases] | None:
    """``in_proj_weight`` of torch and open_clip."""
    weight = getattr(attention, "in_proj_weight", None)
    if weight is None or getattr(attention, "bias_k", None) is not None:
        return None
    return _thirds(weight), _bias_thirds(getattr(attention, "in_proj_bias", None))


def _fused(attention: nn.Module) -> tuple[_Triple, _Biases] | None:
    """``qkv`` of timm, whose bias may be kept in three parts, of which the key's is zero."""
    qkv = getattr(attention, "qkv", None)
    if not isinstance(qkv, nn.Linear) or qkv.out_features % 3:
        return None
    if getattr(attention, "q_bias", None) is not None:
        return _thirds(qkv.weight), (attention.q_bias, None, attention.v_bias)  # type: ignore[return-value]
    return _thirds(qkv.weight), _bias_thirds(qkv.bias)


def _separate(attention: nn.Module) -> tuple[_Triple, _Biases] | None:
    """``q_proj``, ``k_proj`` and ``v_proj`` of timm."""
    parts = [getattr(attention, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    if not all(isinstance(part, nn.Linear) for part in parts):
        return None
    q, k, v = parts
    return (q.weight, k.weight, v.weight), (q.bias, k.bias, v.bias)  # type: ignore[union-attr]


def _thirds(packed: Tensor) -> _Triple:
    q, k, v = packed.chunk(3)
    return q, k, v


def _bias_thirds(packed: Tensor | None) -> _Biases:
    return (None, None, None) if packed is None else _thirds(packed)


def _first_module(module: nn.Module, *names: str) -> nn.Module:
    for name in names:
        child = getattr(module, name, None)
        if isinstance(child, nn.Module):
            return child
    return nn.Identity()


def cls_row(projections: Projections, normed: Tensor, rotate: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The first row of softmax(q k' / sqrt(c)): what the CLS token attends to.

    Args:
        projections: of the block's attention.
        normed: [B, T, w], the attention's input, after the block's first norm.
        rotate: applies rotary position embedding to keys [B, h, T, c]. The CLS query has no position.

    Returns:
        [B, h, T] float32; sums to 1 over T.
    """
    batch, count, _ = normed.shape
    q = linear(normed[:, :1], projections.query, projections.query_bias)
    k = linear(normed, projections.key, projections.key_bias)
    q = projections.query_norm(q.reshape(batch, 1, projections.heads, -1).transpose(1, 2))
    k = projections.key_norm(k.reshape(batch, count, projections.key_heads, -1).transpose(1, 2))
    if rotate is not None:
        k = rotate(k)
    k = k.repeat_interleave(projections.heads // projections.key_heads, dim=1)
    scores = q.float() @ k.float().transpose(-1, -2) / q.shape[-1] ** 0.5
    return torch.softmax(scores.squeeze(2), dim=-1)


@dataclass(frozen=True)
class ClsBlock:
    """The last block of a CLS-pooled pre-LayerNorm transformer, taken apart so that only the CLS token is finished.

    Plain attention only: no rotary embedding, no norm of queries or keys, no gate. All arithmetic up to the output
    projection is float32 whatever the dtype of the weights.

    Attributes:
        norm_weight, norm_bias: [w] float32, the block's first LayerNorm.
        eps: its epsilon.
        query, query_bias, key, value, value_bias: float32 projections, [h, c, w] and [h, c].
        finish: (CLS tokens [..., w], attended values [..., h*c] float32) to the block's output for CLS, [..., w].
    """

    norm_weight: Tensor
    norm_bias: Tensor
    eps: float
    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    value_bias: Tensor
    finish: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def build(
        cls, norm: nn.LayerNorm, projections: Projections, finish: Callable[[Tensor, Tensor], Tensor]
    ) -> ClsBlock | None:
        """Take a block apart; None where its attention or its norm is not plain.

        Args:
            norm: the LayerNorm in front of the attention.
            projections: of its attention.
            finish: see the class.
        """
        if not projections.plain or not isinstance(norm, nn.LayerNorm) or norm.weight is None:
            return None
        heads = projections.heads
        rows, width = projections.query.shape
        zeros = torch.zeros(rows, device=projections.query.device)

        def per_head(weight: Tensor) -> Tensor:
            return weight.detach().float().reshape(heads, rows // heads, width)

        def bias(vector: Tensor | None) -> Tensor:
            return (zeros if vector is None else vector.detach().float()).reshape(heads, rows // heads)

        return cls(
            norm_weight=norm.weight.detach().float(),
            norm_bias=zeros.new_zeros(width) if norm.bias is None else norm.bias.detach().float(),
            eps=norm.eps,
            query=per_head(projections.query),
            query_bias=bias(projections.query_bias),
            key=per_head(projections.key),
            value=per_head(projections.value),
            value_bias=bias(projections.value_bias),
            finish=finish,
        )

    def normalise(self, tokens: Tensor) -> Tensor:
        """The block's first LayerNorm in float32, over the last axis of [..., w]."""
        return layer_norm(tokens.float(), self.norm_weight.shape, self.norm_weight, self.norm_bias, self.eps)

    def key_directions(self, normed_cls: Tensor) -> Tensor:
        """Queries folded into the key projection: [B, w] normalised CLS tokens to [B, h, w].

        The product with a normalised token is its attention score, less the part of the key's bias, which is the same
        for all tokens and so vanishes in the softmax.
        """
        q: Tensor = torch.einsum("bw,hcw->bhc", normed_cls, self.query) + self.query_bias
        folded: Tensor = torch.einsum("bhc,hcw->bhw", q / q.shape[-1] ** 0.5, self.key)
        return folded

    def row(self, tokens: Tensor) -> Tensor:
        """[B, T, w] tokens to the CLS row of the attention: [B, h, T] float32, summing to 1 over T."""
        return self._row(self.normalise(tokens))

    def values(self, mixed: Tensor) -> Tensor:
        """The value projection of each head's weighted mean of normalised tokens: [..., h, w] to [..., h*c]."""
        projected: Tensor = torch.einsum("...hw,hcw->...hc", mixed, self.value)
        return (projected + self.value_bias).flatten(-2)

    def __call__(self, tokens: Tensor) -> Tensor:
        """The block's output for the CLS token alone: [B, T, w] to [B, w]."""
        normed = self.normalise(tokens)
        mixed = self._row(normed) @ normed
        return self.finish(tokens[:, 0], self.values(mixed))

    def _row(self, normed: Tensor) -> Tensor:
        return torch.softmax(self.key_directions(normed[:, 0]) @ normed.transpose(1, 2), dim=-1)
