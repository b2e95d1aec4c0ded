"""Plain transformer blocks taken apart, and run one after another by oneDNN or OpenVINO.

A plain block is pre-LayerNorm with scaled dot-product attention over all tokens and a two-layer perceptron:
x + s (W_o attention(LN x)), then x + s (W_2 act(W_1 LN x)), as in CLIP, SigLIP and DINO. Every other block (rotary
embedding, norms of queries and keys, gates) has no form here and runs in torch.

oneDNN: the weights are reordered once into the blocked layout that its matrix products use, which torch otherwise does
at each call or not at all, since its float32 goes to MKL. Activation and residual are fused into the products.
OpenVINO: one graph of all blocks, compiled at construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, LifoQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from abs_classify.models.cls_attention import find_projections
from abs_classify.models.signal_state import keep_signal_state
from abs_core.extras import require

__all__ = ["BlockStack", "OneDnnStack", "OpenVinoStack", "PlainBlock", "read_block"]

_QUICK_GELU = 1.702


@dataclass(frozen=True)
class PlainBlock:
    """The weights of a block of width w with h heads of size c, in float32; scales of its branches are folded in.

    Attributes:
        norms: weight [w], bias [w] and epsilon of both LayerNorms.
        qkv: weight [3*h*c, w] and bias of query, key and value.
        out: weight [w, h*c] and bias of the attention's output.
        up, down: weight and bias of both layers of the perceptron.
        heads: h.
        activation: ``gelu``, ``gelu_tanh``, ``quick_gelu``, ``silu`` or ``relu``.
    """

    norms: tuple[tuple[Tensor, Tensor, float], tuple[Tensor, Tensor, float]]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    heads: int
    activation: str


def read_block(block: nn.Module) -> PlainBlock | None:
    """Take a block of open_clip or timm apart; None where it is not plain.

    Args:
        block: in eval mode, on the CPU.
    """
    from open_clip.transformer import ResidualAttentionBlock
    from timm.models.vision_transformer import Block

    parts: Any = block
    if type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv"):
        norms, scales = (parts.ln_1, parts.ln_2), (parts.ls_1, parts.ls_2)
        layers = (parts.attn.out_proj, parts.mlp.c_fc, parts.mlp.gelu, parts.mlp.c_proj)
    elif type(block) is Block and _is_plain_timm(parts):
        norms, scales = (parts.norm1, parts.norm2), (parts.ls1, parts.ls2)
        layers = (parts.attn.proj, parts.mlp.fc1, parts.mlp.act, parts.mlp.fc2)
    else:
        return None
    out, up, activation, down = layers
    projections = find_projections(parts.attn)
    name = _activation(activation)
    are_norms = all(isinstance(norm, nn.LayerNorm) and norm.weight is not None for norm in norms)
    are_linear = all(isinstance(layer, nn.Linear) for layer in (out, up, down))
    if projections is None or not projections.plain or name is None or not are_norms or not are_linear:
        return None
    weights = torch.cat([projections.query, projections.key, projections.value])
    biases = [
        torch.zeros(len(projections.query)) if bias is None else bias.detach().float()
        for bias in (projections.query_bias, projections.key_bias, projections.value_bias)
    ]
    return PlainBlock(
        norms=(_norm(norms[0]), _norm(norms[1])),
        qkv=(weights.detach().float(), torch.cat(biases)),
        out=_scaled(out, scales[0]),
        up=_scaled(up, nn.Identity()),
        down=_scaled(down, scales[1]),
        heads=projections.heads,
        activation=name,
    )


def _is_plain_timm(block: Any) -> bool:
    from timm.layers import Attention, Mlp

    attention, perceptron = block.attn, block.mlp
    if type(attention) is not Attention or type(perceptron) is not Mlp or getattr(attention, "gate", None) is not None:
        return False
    return isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity) and isinstance(
        perceptron.norm, nn.Identity
    )


def _activation(module: nn.Module) -> str | None:
    if type(module) is nn.GELU:
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    kind = (type(module).__module__.partition(".")[0], type(module).__name__)
    return _ACTIVATIONS.get(kind)


_ACTIVATIONS = {
    ("torch", "SiLU"): "silu",
    ("torch", "ReLU"): "relu",
    ("open_clip", "QuickGELU"): "quick_gelu",
    ("timm", "QuickGELU"): "quick_gelu",
    ("timm", "GELU"): "gelu",
    ("timm", "GELUTanh"): "gelu_tanh",
}


def _norm(norm: Any) -> tuple[Tensor, Tensor, float]:
    weight = norm.weight.detach().float()
    return weight, torch.zeros_like(weight) if norm.bias is None else norm.bias.detach().float(), norm.eps


def _scaled(layer: nn.Module, scale: nn.Module) -> tuple[Tensor, Tensor]:
    linear: Any = layer
    weight = linear.weight.detach().float()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
    gamma = getattr(scale, "gamma", None)
    return (weight, bias) if gamma is None else (weight * gamma.detach().float()[:, None], bias * gamma.detach())


class BlockStack(nn.Module):
    """Blocks that run as one: tokens [B, T, w] to tokens, in the dtype that came in. Several threads may call it.

    It stands where the blocks stood in a network of open_clip or timm. Its weights are no parameters: it cannot be
    moved to another device, cast or saved.
    """

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Run all blocks. ``attn_mask`` is what open_clip passes to every block; an image encoder has none."""
        assert attn_mask is None
        return self.run(tokens).to(tokens.dtype)

    def run(self, tokens: Tensor) -> Tensor:
        """[B, T, w] to [B, T, w], in a dtype of the stack's own."""
        raise NotImplementedError


class OneDnnStack(BlockStack):
    """Blocks with prepacked weights.

    Args:
        blocks: taken one by one, so that their originals can go meanwhile.
        dtype: of weights and activations: float32 or bfloat16.
        rows: tokens that a usual call has in all; the layout of the weights suits it, and any other number works.

    Raises:
        AttributeError, RuntimeError: this torch or this machine lacks the operators.
    """

    def __init__(self, blocks: Sequence[Callable[[], PlainBlock]], dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self._dtype = dtype
        self._blocks = [_PackedBlock.of(read(), dtype, rows) for read in blocks]

    def run(self, tokens: Tensor) -> Tensor:
        """[B, T, w] to [B, T, w] in the dtype of the weights."""
        x = tokens.to(self._dtype).contiguous()
        for block in self._blocks:
            x = block(x)
        return x


_Packed = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _PackedBlock:
    norms: tuple[tuple[Tensor, Tensor, float], tuple[Tensor, Tensor, float]]
    qkv: _Packed
    out: _Packed
    up: _Packed
    down: _Packed
    heads: int
    activation: tuple[str, str]

    @classmethod
    def of(cls, block: PlainBlock, dtype: torch.dtype, rows: int) -> _PackedBlock:
        operators = torch.ops.mkldnn

        def pack(layer: tuple[Tensor, Tensor], scale: float = 1.0) -> Tensor:
            packed: Tensor = operators._reorder_linear_weight((layer[0] * scale).to(dtype).contiguous(), rows)
            return packed

        # x sigmoid(ax) is silu(ax) / a, and oneDNN has silu as a post-op: a goes into the weights before and after it
        factor = _QUICK_GELU if block.activation == "quick_gelu" else 1.0
        (first, first_bias, first_eps), (second, second_bias, second_eps) = block.norms
        return cls(
            norms=(
                (first.to(dtype), first_bias.to(dtype), first_eps),
                (second.to(dtype), second_bias.to(dtype), second_eps),
            ),
            qkv=(pack(block.qkv), block.qkv[1].to(dtype)),
            out=(pack(block.out), block.out[1].to(dtype)),
            up=(pack(block.up, factor), (block.up[1] * factor).to(dtype)),
            down=(pack(block.down, 1 / factor), block.down[1].to(dtype)),
            heads=block.heads,
            activation=_POST_OPS[block.activation],
        )

    def __call__(self, x: Tensor) -> Tensor:
        # overloads by name: choosing one by its arguments takes torch a millisecond, tensors being sequences
        linear, linear_add = torch.ops.mkldnn._linear_pointwise.default, torch.ops.mkldnn._linear_pointwise.binary
        first, second = self.norms
        qkv = linear(_normalised(x, first), *self.qkv, "none", [], "")
        attend = _attend_fused if x.dtype == torch.float32 else _attend_by_image
        x = linear_add(attend(qkv, self.heads), x, *self.out, "add")
        attribute, algorithm = self.activation
        hidden = linear(_normalised(x, second), *self.up, attribute, [], algorithm)
        result: Tensor = linear_add(hidden, x, *self.down, "add")
        return result


# of mkldnn._linear_pointwise: attribute and algorithm
_POST_OPS = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "quick_gelu": ("swish", ""),
    "silu": ("swish", ""),
    "relu": ("relu", ""),
}


def _normalised(x: Tensor, norm: tuple[Tensor, Tensor, float]) -> Tensor:
    weight, bias, eps = norm
    return layer_norm(x, weight.shape, weight, bias, eps)


def _attend_fused(qkv: Tensor, heads: int) -> Tensor:
    """Attention of packed queries, keys and values: [B, T, 3*h*c] to [B, T, h*c]."""
    batch, count, rows = qkv.shape
    q, k, v = qkv.view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, rows // 3)


def _attend_by_image(qkv: Tensor, heads: int) -> Tensor:
    """The same through two matrix products for each image: in bfloat16 torch's fused kernel takes twice as long."""
    batch, count, rows = qkv.shape
    attended = qkv.new_empty(batch, count, rows // 3)
    for image, result in zip(qkv, attended, strict=True):
        q, k, v = image.view(count, 3, heads, -1).permute(1, 2, 0, 3)
        weights = torch.bmm(q, k.transpose(1, 2)).mul_(q.shape[-1] ** -0.5).softmax(-1)
        result.view(count, heads, -1).copy_(torch.bmm(weights, v).transpose(0, 1))
    return attended


class OpenVinoStack(BlockStack):
    """Blocks as one compiled graph; each thread that calls has a request and a stream of its own.

    Args:
        blocks: read one by one.
        dtype: in which OpenVINO computes: float32 or bfloat16. Tokens go in and come out in float32.
        threads: most calls that run at once, each on one core.

    Raises:
        MissingExtraError: openvino is not installed.
        RuntimeError: it cannot compile the graph.
    """

    def __init__(self, blocks: Sequence[Callable[[], PlainBlock]], dtype: torch.dtype, threads: int) -> None:
        super().__init__()
        openvino = require("openvino")
        self._tensor = openvino.Tensor
        graph = _Graph()
        for read in blocks:
            graph.add(read())
        options = {
            # its default is the fastest type of the machine
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        with keep_signal_state():
            self._compiled = openvino.Core().compile_model(graph.finish(), "CPU", options)
        self._idle: LifoQueue[Any] = LifoQueue()

    def run(self, tokens: Tensor) -> Tensor:
        """[B, T, w] to [B, T, w] float32."""
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            request.infer([self._tensor(tokens.float().contiguous().numpy(), shared_memory=True)])
            return torch.from_numpy(request.get_output_tensor().data.copy())
        finally:
            self._idle.put(request)


class _Graph:
    """A graph of blocks, [B, T, w] to [B, T, w] with any B and T. The weights stay torch's until it is compiled."""

    def __init__(self) -> None:
        self._ops: Any = require("openvino").opset15
        self._input: Any = None
        self._last: Any = None

    def add(self, block: PlainBlock) -> None:
        ops = self._ops
        if self._last is None:
            self._last = self._input = ops.parameter([-1, -1, block.out[0].shape[0]], np.float32)
        qkv = self._linear(self._normalised(self._last, block.norms[0]), block.qkv)
        split = ops.reshape(qkv, self._integers(0, 0, 3, block.heads, -1), special_zero=True)
        parts = ops.split(ops.transpose(split, self._integers(2, 0, 3, 1, 4)), self._integers(0, scalar=True), 3)
        q, k, v = (ops.squeeze(part, self._integers(0)) for part in parts.outputs())
        attended = ops.transpose(ops.scaled_dot_product_attention(q, k, v), self._integers(0, 2, 1, 3))
        joined = ops.reshape(attended, self._integers(0, 0, block.out[0].shape[1]), special_zero=True)
        self._last = ops.add(self._last, self._linear(joined, block.out))
        hidden = self._linear(self._normalised(self._last, block.norms[1]), block.up)
        self._last = ops.add(self._last, self._linear(self._activated(hidden, block.activation), block.down))

    def finish(self) -> Any:
        from openvino import Model

        return Model([self._ops.result(self._last)], [self._input])

    def _constant(self, tensor: Tensor) -> Any:
        return self._ops.constant(tensor.contiguous().numpy(), shared_memory=True)

    def _integers(self, *values: int, scalar: bool = False) -> Any:
        return self._ops.constant(np.array(values[0] if scalar else values, dtype=np.int64))

    def _linear(self, x: Any, layer: tuple[Tensor, Tensor]) -> Any:
        return self._ops.add(self._ops.matmul(x, self._constant(layer[0]), False, True), self._constant(layer[1]))

    def _normalised(self, x: Any, norm: tuple[Tensor, Tensor, float]) -> Any:
        centred = self._ops.mvn(x, self._integers(-1), True, norm[2], "inside_sqrt")
        return self._ops.add(self._ops.multiply(centred, self._constant(norm[0])), self._constant(norm[1]))

    def _activated(self, x: Any, activation: str) -> Any:
        ops = self._ops
        if activation in ("gelu", "gelu_tanh"):
            return ops.gelu(x, "erf" if activation == "gelu" else "tanh")
        if activation == "relu":
            return ops.relu(x)
        return ops.swish(x, ops.constant(np.float32(_QUICK_GELU if activation == "quick_gelu" else 1.0)))
