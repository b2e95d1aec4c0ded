"""The two networks of the embedded model: an image backbone and a sentence encoder, in plain torch.

The backbone is EfficientNet-Lite0 (Tan & Le 2019) with ImageNet-1k weights, the sentence encoder all-MiniLM-L6-v2
(Reimers & Gurevych 2019; Wang et al. 2020). Both are short, and timm and transformers, which know them as well, take
longer to import than the networks take to run; the tests compare both with those libraries.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
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

_TEXTS_AT_ONCE = 32

# A processor's cache holds the feature maps of a few images: a quarter faster than 16 or more at once.
_IMAGES_AT_ONCE = 4

# Blocks whose depthwise convolution halves the resolution, as the stem does.
_HALVING_BLOCKS = (1, 3, 5, 11)
_BLOCKS = 16


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its batch norm folded in.

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

    def __call__(self, x: Tensor) -> Tensor:
        size = self.weight.shape[-1]
        if self.stride == 1:
            x = conv2d(x, self.weight, self.bias, padding=size // 2, groups=self.groups)
        else:
            x = conv2d(_pad_as_tensorflow(x, size), self.weight, self.bias, self.stride, groups=self.groups)
        return x.clamp_(0, 6) if self.bounded else x


def _pad_as_tensorflow(x: Tensor, size: int) -> Tensor:
    """Pad for a stride of 2, the odd pixel at the end, as the weights expect: other padding costs 7 points of top-1."""
    height, width = (max((-(-side // 2) - 1) * 2 + size - side, 0) for side in x.shape[-2:])
    return pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class ImageBackbone:
    """EfficientNet-Lite0 up to its last feature map, and its linear classifier.

    Every batch norm is folded into the convolution before it, and memory is channels-last, which more than halves the
    time.

    Args:
        files: where the weights are.
        device: where to run.
        dtype: of the convolutions; the classifier stays in float32.

    Attributes:
        weight: of the classifier, [1000, 1280] float32.
        bias: of the classifier, [1000] float32.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """

    def __init__(self, files: EmbeddedFiles, device: torch.device, dtype: torch.dtype) -> None:
        state = torch.load(io.BytesIO(files.backbone.read()), map_location="cpu", weights_only=True)
        self.weight, self.bias = state["_fc.weight"].to(device), state["_fc.bias"].to(device)
        self._device, self._dtype = device, dtype

        def convolution(conv: str, norm: str, *, stride: int = 1, bounded: bool = True) -> _Convolution:
            weight, bias = _fold_batch_norm(state, conv, norm)
            weight = weight.to(device, dtype).contiguous(memory_format=torch.channels_last)
            groups = len(weight) if "depthwise" in conv else 1
            return _Convolution(weight, bias.to(device, dtype), stride, groups, bounded)

        self._stem = convolution("_conv_stem", "_bn0", stride=2)
        self._blocks = [_block(f"_blocks.{number}.", number, convolution) for number in range(_BLOCKS)]
        self._head = convolution("_conv_head", "_bn1")

    def __call__(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, 1280, S / 32, S / 32] in the dtype of the convolutions. Safe to call from threads."""
        pixels = pixels.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
        if self._device.type != "cpu":
            return self._forward(pixels)
        return torch.cat(list(in_threads(self._forward, torch.split(pixels, _IMAGES_AT_ONCE))))

    def _forward(self, x: Tensor) -> Tensor:
        x = self._stem(x)
        for block in self._blocks:
            y = x
            for convolution in block:
                y = convolution(y)
            x = x + y if y.shape == x.shape else y
        return self._head(x)


def _block(prefix: str, number: int, convolution: Callable[..., _Convolution]) -> list[_Convolution]:
    """An inverted residual block (Sandler et al. 2018); the first one has nothing to expand."""
    expand = [convolution(f"{prefix}_expand_conv", f"{prefix}_bn0")] if number else []
    depthwise = convolution(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=2 if number in _HALVING_BLOCKS else 1)
    return [*expand, depthwise, convolution(f"{prefix}_project_conv", f"{prefix}_bn2", bounded=False)]


def _fold_batch_norm(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """The weight and bias of one convolution that does the work of a convolution and its batch norm (epsilon 1e-3)."""
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-3).sqrt()
    weight = state[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


class EmbeddedTextEncoder:
    """all-MiniLM-L6-v2: the mean of a BERT's last hidden states over a text's tokens, to unit length; float32.

    Args:
        files: where the weights are.
        device: where to run.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
    """

    def __init__(self, files: EmbeddedFiles, device: torch.device) -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer

        config = json.loads(files.config.read())
        self._heads, self._eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        self._layers = int(config["num_hidden_layers"])
        self._state = {name: tensor.to(device) for name, tensor in load(files.sentences.read()).items()}
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
        # texts of like length together, so that little is spent on padding; the long ones first, so that threads end
        # together
        order = sorted(range(len(ids)), key=lambda position: -len(ids[position]))
        batches = [order[start : start + _TEXTS_AT_ONCE] for start in range(0, len(order), _TEXTS_AT_ONCE)]

        def encode(positions: list[int]) -> Tensor:
            return self._encode_batch([ids[position] for position in positions])

        encoded = in_threads(encode, batches) if self._device.type == "cpu" else map(encode, batches)
        for positions, part in zip(batches, encoded, strict=True):
            vectors[positions] = part
        return vectors

    def _encode_batch(self, ids: Sequence[list[int]]) -> Tensor:
        """Token ids of n texts to unit vectors [n, 384]."""
        longest = max(len(row) for row in ids)
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self._device)
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        is_token = torch.arange(longest, device=self._device) < lengths[:, None]
        hidden = self._hidden_states(padded, is_token)
        # normalising makes the mean and the sum over tokens the same vector
        return normalize((hidden * is_token[..., None]).sum(dim=1), dim=-1)

    def _hidden_states(self, ids: Tensor, is_token: Tensor) -> Tensor:
        """BERT (Devlin et al. 2019): ids [n, L] and what of them is no padding, bool [n, L], to [n, L, 384]."""
        words = embedding(ids, self._state["embeddings.word_embeddings.weight"])
        types = self._state["embeddings.token_type_embeddings.weight"][0]
        places = self._state["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm(words + types + places, "embeddings")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}."
            attended = self._attend(x, is_token, f"{layer}attention.self.")
            x = self._norm(x + self._linear(attended, f"{layer}attention.output.dense"), f"{layer}attention.output")
            expanded = gelu(self._linear(x, f"{layer}intermediate.dense"))
            x = self._norm(x + self._linear(expanded, f"{layer}output.dense"), f"{layer}output")
        return x

    def _attend(self, x: Tensor, is_token: Tensor, prefix: str) -> Tensor:
        projected = (self._linear(x, f"{prefix}{part}") for part in ("query", "key", "value"))
        query, key, value = (part.reshape(*x.shape[:2], self._heads, -1).transpose(1, 2) for part in projected)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=is_token[:, None, None])
        return attended.transpose(1, 2).flatten(2)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self._state[f"{name}.weight"], self._state[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        name = f"{name}.LayerNorm"
        return layer_norm(x, x.shape[-1:], self._state[f"{name}.weight"], self._state[f"{name}.bias"], self._eps)
