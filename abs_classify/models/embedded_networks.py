"""The two networks of the embedded model: an image backbone and a sentence encoder, in plain torch.

The backbone is EfficientNet-Lite0 (Tan & Le 2019) with ImageNet-1k weights, the sentence encoder all-MiniLM-L6-v2
(Reimers & Gurevych 2019; Wang et al. 2020). Both are short, and timm and transformers, which know them as well, take
longer to import than the networks take to run; the tests compare both with those libraries.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import (
    conv2d,
    embedding,
    gelu,
    layer_norm,
    linear,
    normalize,
    pad,
    scaled_dot_product_attention,
)

from abs_classify.models.embedded_files import EMBED_DIM, MAX_TOKENS, EmbeddedFiles
from abs_classify.threads import in_threads

__all__ = ["EmbeddedTextEncoder", "ImageBackbone"]

# Tokens that go through the sentence encoder together, about as many as keep its widest layer in a processor's cache.
_TOKENS_AT_ONCE = 1024

# The first blocks widen large maps: those of one image just fit a processor's cache. The later ones have small maps and
# large weights, which a few images share.
_IMAGES_AT_ONCE = 4
_EARLY_BLOCKS = 6

# The side of a view in pixels, for which weights are prepacked.
_SIDE = 224

# Blocks whose depthwise convolution halves the resolution, as the stem does.
_HALVING_BLOCKS = (1, 3, 5, 11)
_BLOCKS = 16


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its batch norm folded in.

    Where it halves the resolution, the weights expect the padding of TensorFlow, which puts the odd pixel at the end
    (any other costs 7 points of top-1). Torch pads both ends alike, so the kernel has a row and a column of zeros in
    front instead, and no padded copy is made. That holds for even sides.

    Attributes:
        weight: [out, in / groups, k, k].
        bias: [out].
        stride: 1 or 2.
        groups: 1, or the number of channels for a depthwise convolution.
        bounded: whether ReLU6 follows.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    bounded: bool

    @property
    def padding(self) -> int:
        """Pixels on each side."""
        return (self.weight.shape[-1] - 1) // 2

    def __call__(self, x: Tensor) -> Tensor:
        x = conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return x.clamp_(0, 6) if self.bounded else x


class _PackedConvolution:
    """The same through oneDNN's own operator: weights laid out for its kernels once, ReLU6 done while it writes.

    Args:
        plain: the convolution.
        images: how many images it will see at once.
        side: of the maps that it will see. Others give the same result, but up to ten times as slowly.

    Raises:
        RuntimeError, AttributeError: this processor or this torch has no such operator.
    """

    def __init__(self, plain: _Convolution, images: int, side: int) -> None:
        self._bias, self._groups = plain.bias, plain.groups
        self._stride, self._padding = [plain.stride] * 2, [plain.padding] * 2
        self._activation: tuple[str, list[float]] = ("hardtanh", [0.0, 6.0]) if plain.bounded else ("none", [])
        shape = [images, plain.weight.shape[1] * plain.groups, side, side]
        self._operator = torch.ops.mkldnn._convolution_pointwise
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            plain.weight, self._padding, self._stride, [1, 1], plain.groups, shape
        )

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = self._operator(
            x, self._weight, self._bias, self._padding, self._stride, [1, 1], self._groups, *self._activation, ""
        )
        return result


_Step = Callable[[Tensor], Tensor]


class ImageBackbone:
    """EfficientNet-Lite0 up to its last feature map, and its linear classifier.

    Every batch norm is folded into the convolution before it, and memory is channels-last. On a CPU the convolutions
    of views, 224 x 224 pixels, are oneDNN's with prepacked weights, where torch has that operator for the dtype.

    Args:
        files: where the weights are.
        device: where to run.
        dtype: of the convolutions; the classifier stays in float32.
        prepack: whether to use that operator where it is there.

    Attributes:
        weight: of the classifier, [1000, 1280] float32.
        bias: of the classifier, [1000] float32.
        prepacked: whether the operator is used.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """

    def __init__(self, files: EmbeddedFiles, device: torch.device, dtype: torch.dtype, *, prepack: bool = True) -> None:
        state = torch.load(io.BytesIO(files.backbone.read()), map_location="cpu", weights_only=True)
        self.weight, self.bias = state["_fc.weight"].to(device), state["_fc.bias"].to(device)
        self._device, self._dtype = device, dtype
        self._plain: Sequence[Sequence[_Step]] = (blocks := _read_blocks(state, device, dtype))
        packed = _pack_blocks(blocks, dtype) if prepack and device.type == "cpu" else None
        self.prepacked = packed is not None
        self._packed = packed or self._plain

    def __call__(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, 1280, S / 32, S / 32] in the dtype of the convolutions. Safe to call from threads.

        Args:
            pixels: of images whose side S is a multiple of 32.
        """
        pixels = pixels.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
        if self._device.type != "cpu":
            return _run_blocks(self._plain, pixels)
        return torch.cat(list(in_threads(self._on_cpu, torch.split(pixels, _IMAGES_AT_ONCE))))

    def _on_cpu(self, pixels: Tensor) -> Tensor:
        blocks = self._packed if pixels.shape[-2:] == (_SIDE, _SIDE) else self._plain
        early, late = blocks[: _EARLY_BLOCKS + 1], blocks[_EARLY_BLOCKS + 1 :]
        return _run_blocks(late, torch.cat([_run_blocks(early, image) for image in torch.split(pixels, 1)]))


def _run_blocks(blocks: Sequence[Sequence[_Step]], x: Tensor) -> Tensor:
    for block in blocks:
        y = x
        for convolution in block:
            y = convolution(y)
        x = y.add_(x) if y.shape == x.shape else y
    return x


def _read_blocks(state: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> list[list[_Convolution]]:
    """The stem, the inverted residual blocks (Sandler et al. 2018) and the head."""

    def convolution(conv: str, norm: str, *, stride: int = 1, bounded: bool = True) -> _Convolution:
        weight, bias = _fold_batch_norm(state, conv, norm)
        if stride == 2:
            weight = pad(weight, (1, 0, 1, 0))
        weight = weight.to(device, dtype).contiguous(memory_format=torch.channels_last)
        return _Convolution(weight, bias.to(device, dtype), stride, len(weight) if "depthwise" in conv else 1, bounded)

    def block(number: int) -> list[_Convolution]:
        prefix, stride = f"_blocks.{number}.", 2 if number in _HALVING_BLOCKS else 1
        # the first one has nothing to expand
        expand = [convolution(f"{prefix}_expand_conv", f"{prefix}_bn0")] if number else []
        depthwise = convolution(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride)
        return [*expand, depthwise, convolution(f"{prefix}_project_conv", f"{prefix}_bn2", bounded=False)]

    stem, head = convolution("_conv_stem", "_bn0", stride=2), convolution("_conv_head", "_bn1")
    return [[stem], *(block(number) for number in range(_BLOCKS)), [head]]


def _pack_blocks(blocks: Sequence[Sequence[_Convolution]], dtype: torch.dtype) -> list[list[_Step]] | None:
    """The same blocks for oneDNN; None where it does not take the dtype on this processor, or torch lacks it."""
    packed: list[list[_Step]] = []
    side = _SIDE
    try:
        for number, block in enumerate(blocks):
            images = 1 if number <= _EARLY_BLOCKS else _IMAGES_AT_ONCE
            packed.append([])
            for convolution in block:
                packed[-1].append(_PackedConvolution(convolution, images, side))
                side //= convolution.stride
        with torch.inference_mode():
            packed[0][0](torch.zeros(1, 3, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last))
    except (RuntimeError, AttributeError):
        return None
    return packed


def _fold_batch_norm(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """The weight and bias, float64, of one convolution that does the work of a convolution and its batch norm."""
    scale = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + 1e-3).sqrt()
    weight = state[f"{conv}.weight"].double() * scale[:, None, None, None]
    return weight, state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * scale


@dataclass(frozen=True)
class _Linear:
    """A linear layer, [out, in] and [out], and whether GELU follows."""

    weight: Tensor
    bias: Tensor
    gelu: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        x = linear(x, self.weight, self.bias)
        return gelu(x) if self.gelu else x


class _PackedLinear:
    """The same through oneDNN's own operator, as ``_PackedConvolution``: torch's goes to MKL, which is slow on AMD."""

    def __init__(self, plain: _Linear) -> None:
        self._bias = plain.bias
        self._activation: tuple[str, list[float], str] = ("gelu", [], "none") if plain.gelu else ("none", [], "")
        self._operator = torch.ops.mkldnn._linear_pointwise
        self._weight = torch.ops.mkldnn._reorder_linear_weight(plain.weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = self._operator(x, self._weight, self._bias, *self._activation)
        return result


class EmbeddedTextEncoder:
    """all-MiniLM-L6-v2: the mean of a BERT's last hidden states over a text's tokens, to unit length; float32.

    Args:
        files: where the weights are.
        device: where to run.
        prepack: whether to use oneDNN's linear layers with prepacked weights where torch has them.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """

    def __init__(self, files: EmbeddedFiles, device: torch.device, *, prepack: bool = True) -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer

        config = json.loads(files.config.read())
        self._heads, self._eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        state = {name: tensor.to(device) for name, tensor in load(files.sentences.read()).items()}
        self._vectors = {name: tensor for name, tensor in state.items() if "embeddings." in name or "LayerNorm" in name}
        linears = {name: _read_linear(state, name) for name in _linear_layers(int(config["num_hidden_layers"]))}
        packed = _pack_linears(linears) if prepack and device.type == "cpu" else None
        self._linears: Mapping[str, _Step] = linears if packed is None else packed
        self._layers = int(config["num_hidden_layers"])
        self._tokenizer = Tokenizer.from_str(files.tokenizer.read().decode("utf-8"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._device = device

    def count_tokens(self, text: str) -> int:
        """How many tokens the whole text has, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """n texts to unit vectors [n, 384], float32, on the device. Order and batches change them by rounding only."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        ids = [row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in ids]
        vectors = torch.empty(len(ids), EMBED_DIM, device=self._device)
        batches = _equal_lengths(ids)

        def encode(positions: list[int]) -> Tensor:
            hidden = self._hidden_states(torch.tensor([ids[position] for position in positions], device=self._device))
            # normalising makes the mean and the sum over tokens the same vector
            return normalize(hidden.sum(dim=1), dim=-1)

        encoded = in_threads(encode, batches) if self._device.type == "cpu" else map(encode, batches)
        for positions, part in zip(batches, encoded, strict=True):
            vectors[positions] = part
        return vectors

    def _hidden_states(self, ids: Tensor) -> Tensor:
        """BERT (Devlin et al. 2019): ids [n, L] to [n, L, 384]."""
        words = embedding(ids, self._vectors["embeddings.word_embeddings.weight"])
        types = self._vectors["embeddings.token_type_embeddings.weight"][0]
        places = self._vectors["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(words + types + places, "embeddings")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}."
            attended = self._linears[f"{layer}attention.output.dense"](self._attend(x, f"{layer}attention.self"))
            x = self._norm(x + attended, f"{layer}attention.output")
            expanded = self._linears[f"{layer}intermediate.dense"](x)
            x = self._norm(x + self._linears[f"{layer}output.dense"](expanded), f"{layer}output")
        return x

    def _attend(self, x: Tensor, name: str) -> Tensor:
        projected = self._linears[name](x).reshape(*x.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(*projected).transpose(1, 2).flatten(2)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        name = f"{name}.LayerNorm"
        return layer_norm(x, x.shape[-1:], self._vectors[f"{name}.weight"], self._vectors[f"{name}.bias"], self._eps)


def _equal_lengths(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions of the rows in batches of one length each, so that nothing is padded; the long ones first, so that
    threads end together."""
    by_length: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(position)
    batches = []
    for length, positions in sorted(by_length.items(), reverse=True):
        size = max(1, _TOKENS_AT_ONCE // length)
        batches += [positions[start : start + size] for start in range(0, len(positions), size)]
    return batches


def _linear_layers(layers: int) -> list[str]:
    parts = ("attention.self", "attention.output.dense", "intermediate.dense", "output.dense")
    return [f"encoder.layer.{number}.{part}" for number in range(layers) for part in parts]


def _read_linear(state: Mapping[str, Tensor], name: str) -> _Linear:
    """One linear layer; query, key and value of an attention are one."""
    names = [f"{name}.{part}" for part in ("query", "key", "value")] if name.endswith("self") else [name]
    weight, bias = (torch.cat([state[f"{layer}.{part}"] for layer in names]) for part in ("weight", "bias"))
    return _Linear(weight, bias, gelu=name.endswith("intermediate.dense"))


def _pack_linears(linears: Mapping[str, _Linear]) -> dict[str, _Step] | None:
    """The same layers for oneDNN; None where torch lacks the operator."""
    try:
        packed: dict[str, _Step] = {name: _PackedLinear(plain) for name, plain in linears.items()}
        with torch.inference_mode():
            next(iter(packed.values()))(torch.zeros(1, EMBED_DIM))
    except (RuntimeError, AttributeError):
        return None
    return packed
