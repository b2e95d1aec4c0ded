"""The parts of the embedded model: the image backbone, the sentence encoder, and the map between their spaces.

The backbone is EfficientNet-Lite0 (Tan & Le 2019) with ImageNet-1k weights, the sentence encoder all-MiniLM-L6-v2
(Reimers & Gurevych 2019; Wang et al. 2020). Its vectors of the 1000 class names are the anchors to which class scores
are mapped.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from abs_classify.models.embedded_files import EmbeddedFiles, ImagenetTexts
from abs_classify.threads import in_threads
from abs_core.extras import require
from abs_core.files import atomic_write

__all__ = ["Backbone", "EmbeddedTextEncoder", "Semantics", "cached_semantics", "load_backbone"]


_TEXT_BATCH = 32


# A processor's cache holds the feature maps of a few images: a quarter faster than 16 or more at once.
_CPU_BATCH = 4


@dataclass(frozen=True)
class Backbone:
    """EfficientNet-Lite0 up to its last feature map, and its linear classifier.

    Args:
        network: [B, 3, S, S] to [B, 1280, S / 32, S / 32]. Safe to call from threads.
        weight: [1000, 1280] float32.
        bias: [1000] float32.
    """

    network: Callable[[Tensor], Tensor]
    weight: Tensor
    bias: Tensor


def load_backbone(files: EmbeddedFiles, device: torch.device, dtype: torch.dtype, *, fold: bool = True) -> Backbone:
    """Read the image backbone.

    Args:
        files: where the weights are.
        device: where to run it.
        dtype: of the convolutions; the classifier stays in float32.
        fold: join every batch norm with the convolution before it and use channels-last memory, which more than
            halves the time; without it the network as published, the oracle of the tests.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
        MissingExtraError: timm is not installed.
    """
    state = torch.load(io.BytesIO(files.backbone.read()), map_location="cpu", weights_only=True)
    # `tf_` pads as TensorFlow does, as these weights expect; the model without it loads as well and loses 7 points
    model: Any = require("timm").create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(_timm_names(state, [len(stage) for stage in model.blocks]), strict=True)
    model.eval().requires_grad_(False)
    weight, bias = model.classifier.weight.to(device), model.classifier.bias.to(device)
    model.classifier = nn.Identity()
    if fold:
        _fold_batch_norms(model)
        model.to(memory_format=torch.channels_last)
    model.to(device=device, dtype=dtype)
    layout = torch.channels_last if fold else torch.contiguous_format

    def network(pixels: Tensor) -> Tensor:
        pixels = pixels.to(device, dtype).contiguous(memory_format=layout)
        if device.type != "cpu":
            features: Tensor = model.forward_features(pixels)
            return features
        return torch.cat(list(in_threads(model.forward_features, torch.split(pixels, _CPU_BATCH))))

    return Backbone(network, weight, bias)


_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _timm_names(state: dict[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """The same tensors under timm's names; ``stages`` counts the blocks of each stage."""
    places = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.([^.]+)\.(.+)", key)
        if match:
            stage, block = places[int(match[1])]
            names = _OTHER_STAGES if stage else _FIRST_STAGE
            renamed[f"blocks.{stage}.{block}.{names[match[2]]}.{match[3]}"] = tensor
        else:
            layer, _, rest = key.partition(".")
            renamed[f"{_TOP[layer]}.{rest}"] = tensor
    return renamed


def _fold_batch_norms(model: Any) -> None:
    """Replace every convolution and its batch norm by one convolution with a bias; activations stay."""
    _fold(model, "conv_stem", "bn1")
    _fold(model, "conv_head", "bn2")
    for block in (block for stage in model.blocks for block in stage):
        expands = hasattr(block, "conv_pwl")
        pairs = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
        for conv, norm in pairs if expands else (("conv_dw", "bn1"), ("conv_pw", "bn2")):
            _fold(block, conv, norm)


def _fold(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    setattr(parent, norm_name, norm.act)


class EmbeddedTextEncoder:
    """all-MiniLM-L6-v2: mean of the last hidden states over a text's tokens, to unit length; float32.

    Args:
        files: where the weights are.
        device: where to run it.

    Raises:
        WeightsError: the weights are missing or not the expected ones.
        MissingExtraError: transformers is not installed.
    """

    dim = 384
    #: tokens of the longest text that the model was trained for; longer texts are cut
    context_length = 256

    def __init__(self, files: EmbeddedFiles, device: torch.device) -> None:
        transformers = require("transformers", extra="embedded")
        from safetensors.torch import load

        state = load(files.sentences.read())
        # the pooler is not used, and newer models make their position ids themselves
        state = {key: t for key, t in state.items() if not key.startswith("pooler.") and "position_ids" not in key}
        config = transformers.BertConfig(**json.loads(files.config.read()))
        model = transformers.BertModel(config, add_pooling_layer=False)
        model.load_state_dict(state, strict=True)
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer = load_tokenizer(files)
        self._device = device

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """n texts to unit vectors [n, 384], float32, on the device. Order and batches change them by rounding only."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        ids = [row if len(row) <= self.context_length else [*row[: self.context_length - 1], row[-1]] for row in ids]
        vectors = torch.empty(len(ids), self.dim, device=self._device)
        # texts of like length together, so that little is spent on padding; the long ones first, so that threads end
        # together
        order = sorted(range(len(ids)), key=lambda position: -len(ids[position]))
        batches = [order[at : at + _TEXT_BATCH] for at in range(0, len(order), _TEXT_BATCH)]

        def encode(chosen: list[int]) -> Tensor:
            return self._encode_batch([ids[position] for position in chosen])

        encoded = in_threads(encode, batches) if self._device.type == "cpu" else map(encode, batches)
        for chosen, part in zip(batches, encoded, strict=True):
            vectors[chosen] = part
        return vectors

    def _encode_batch(self, ids: Sequence[list[int]]) -> Tensor:
        longest = max(len(row) for row in ids)
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=self._device)
        hidden: Tensor = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        # normalising makes the mean and the sum over tokens the same vector
        return normalize((hidden * mask[..., None]).sum(dim=1), dim=-1)


def load_tokenizer(files: EmbeddedFiles) -> Any:
    """MiniLM's tokenizer, a ``tokenizers.Tokenizer`` that neither cuts nor pads.

    Raises:
        WeightsError: the file is missing or not the expected one.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(files.tokenizer.read().decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class Semantics:
    """From class scores to the sentence space, and the centre of that space.

    Convex combination of semantic embeddings (ConSE, Norouzi et al. 2014), plus a ridge map from centred scores to
    anchors (a linear map as in DeViSE, Frome et al. 2013).

    Args:
        anchors: T, unit vectors of the 1000 classes [1000, 384], float32, centred twice.
        mean: mu [384], what texts of the form "a photo of a ..." share.
        ridge: T (T'T + 10 I)^-1 [1000, 384].
    """

    anchors: Tensor
    mean: Tensor
    ridge: Tensor

    @classmethod
    def of(cls, anchors: Tensor, mean: Tensor) -> Semantics:
        """Add the ridge map, penalty 10, to the anchors [1000, 384] and the mean [384]."""
        wide = anchors.double()
        gram = wide.T @ wide + 10.0 * torch.eye(wide.shape[1], dtype=wide.dtype, device=wide.device)
        return cls(anchors, mean, torch.linalg.solve(gram, wide.T).T.contiguous().float())

    def embed(self, logits: Tensor) -> Tensor:
        """[..., 1000] class scores to [..., 384] in the sentence space, not normalised."""
        convex = normalize(logits.softmax(dim=-1) @ self.anchors, dim=-1)
        linear = normalize((logits - logits.mean(dim=-1, keepdim=True)) @ self.ridge, dim=-1)
        return convex + 0.3 * linear


def build_anchors(texts: ImagenetTexts, encode: Callable[[Sequence[str]], Tensor]) -> tuple[Tensor, Tensor]:
    """Anchors [1000, 384] and mean [384] from the class texts; the second centring of the anchors matters."""
    photos = encode([f"a photo of a {name}." for name in texts.names])
    glossed = [f"{name}: {gloss}" for name, gloss in zip(texts.names, texts.glosses, strict=True)]
    anchors = normalize(encode(texts.names) + photos + encode(glossed), dim=-1)
    mean = photos.mean(dim=0)
    anchors = normalize(anchors - mean, dim=-1)
    return normalize(anchors - anchors.mean(dim=0), dim=-1), mean


def cached_semantics(build: Callable[[], tuple[Tensor, Tensor]], path: Path | None, device: torch.device) -> Semantics:
    """The semantics, from ``path`` if it holds them, else built and kept there.

    Args:
        build: gives anchors and mean, which takes seconds.
        path: a safetensors file whose name tells all that the numbers depend on; a damaged one is written anew.
        device: where to put the tensors.

    Raises:
        StorageError: the file cannot be written.
    """
    kept = _read_anchors(path) if path is not None else None
    if kept is None:
        kept = build()
        if path is not None:
            from safetensors.torch import save

            with atomic_write(path) as stream:
                stream.write(save({"anchors": kept[0].cpu(), "mean": kept[1].cpu()}))
    return Semantics.of(kept[0].to(device), kept[1].to(device))


def _read_anchors(path: Path) -> tuple[Tensor, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    with suppress(OSError, SafetensorError, KeyError):
        tensors = load(path.read_bytes())
        anchors, mean = tensors["anchors"], tensors["mean"]
        fits = anchors.shape == (1000, EmbeddedTextEncoder.dim) and mean.shape == (EmbeddedTextEncoder.dim,)
        # NaN fails the comparison; unit rows tell most other damage
        if fits and bool(mean.isfinite().all()) and bool(((anchors.norm(dim=-1) - 1).abs() < 1e-4).all()):
            return anchors.float(), mean.float()
    return None
