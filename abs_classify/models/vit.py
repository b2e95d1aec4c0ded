"""Vision transformers that attention is taken from: published timm weights, and local files of timm or Hugging Face.

The forms of a name:

    vit_base_patch16_224.dino   any timm vision transformer with published weights, from the local hub cache
    FOLDER                      config.json and weights; a Hugging Face ViTModel or a timm model
    FILE                        weights of vit_base_patch16_224 in timm's names
    ARCH@FILE                   weights of another timm architecture

Nothing is downloaded unless the caller allows it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abs_classify.models.checkpoint import check_finite, fit_state, model_errors, read_checkpoint
from abs_classify.models.weights import TRANSFORMER_FILES, hub_file, no_downloads, read_json
from abs_core.errors import ModelError, UnknownNameError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file

__all__ = ["DEFAULT_VIT", "LoadedVit", "load_vit", "vit_files"]

DEFAULT_VIT = "vit_base_patch16_224.dino"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: What Hugging Face's ViT uses, and so the published runs of ABS; timm's own is 1e-6.
_EPS = 1e-12


@dataclass(frozen=True)
class LoadedVit:
    """A timm vision transformer with its weights.

    Attributes:
        trunk: the model, float32 on the CPU, in eval mode.
        size: side of the square input, in pixels.
        mean, std: of the RGB channels.
        weights: ``sha256:...`` of the weights file.
        architecture: JSON values that identify the structure.
        files: the weights, and the configuration where there is one.
    """

    trunk: nn.Module
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    architecture: Mapping[str, Any]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _VitSource:
    """A weights file, and what the model is built from: a timm name, or, where that is empty, a Hugging Face config."""

    weights: Path
    name: str
    configuration: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.weights,) if self.configuration is None else (self.weights, self.configuration)


def vit_files(spec: str) -> tuple[Path, ...]:
    """The files behind a name: weights, and the configuration where there is one. Errors as in ``load_vit``."""
    return _find_source(spec, allow_download=False).files


def load_vit(spec: str, *, allow_download: bool = False) -> LoadedVit:
    """Load a vision transformer (the module's docstring has the forms of ``spec``).

    Raises:
        UnknownNameError: timm knows no such model.
        WeightsError: the weights are not here, cannot be read safely, or are of another architecture.
        ModelError: NaN in the weights, or a configuration of another kind of model.
    """
    source = _find_source(spec, allow_download=allow_download)
    state = read_checkpoint(source.weights).tensors
    subject = f"the weights in {str(source.weights)!r} and the vision transformer {spec!r}"
    if source.configuration is not None and not source.name:
        config = read_json(source.configuration)
        with model_errors("cannot build the vision transformer of", str(source.configuration)):
            state = _timm_names(state)
            with torch.device("meta"):
                # sizes that the file does not have are found before their memory is asked for
                fit_state(_build_hugging_face(config)[0], state, subject=subject, copy=False)
            trunk, size, mean, std, architecture = _build_hugging_face(config)
    else:
        with model_errors("timm cannot build", source.name):
            trunk, size, mean, std, architecture = _build_timm(source.name)
        # classifier heads play no part in attention
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "fc_norm.", "head_"))}
    fit_state(trunk, state, subject=subject)
    trunk.eval().requires_grad_(False)
    check_finite(trunk, subject=f"the weights in {str(source.weights)!r}")
    return LoadedVit(trunk, size, mean, std, sha256_file(source.weights), architecture, source.files)


def _find_source(spec: str, *, allow_download: bool) -> _VitSource:
    arch, sign, file = spec.partition("@")
    path = Path(file if sign else spec).expanduser()
    if sign:
        _check_name(arch)
        return _VitSource(path, arch)
    if path.is_dir():
        return _find_in_folder(path)
    if path.is_file():
        return _VitSource(path, DEFAULT_VIT)
    if "/" in spec or spec.startswith(("~", ".")):
        raise WeightsError(f"there is no file or folder {spec!r}", remedy="Check the path")
    repository = _check_name(spec)
    weights = hub_file(repository, TRANSFORMER_FILES, allow_download=allow_download) if repository else None
    if weights is None:
        raise WeightsError(
            f"the weights of the vision transformer {spec!r} are not on this machine",
            remedy=f"Run `abs models pull dino:{spec}`, or name a local file: dino:{spec}@FILE",
        )
    return _VitSource(weights, spec)


def _find_in_folder(folder: Path) -> _VitSource:
    weights = next((folder / name for name in TRANSFORMER_FILES if (folder / name).is_file()), None)
    config = folder / "config.json"
    if weights is None or not config.is_file():
        raise WeightsError(
            f"the folder {str(folder)!r} holds no config.json with one of {', '.join(TRANSFORMER_FILES)}",
            remedy="Give the folder of a Hugging Face ViTModel or of a timm model",
        )
    content = read_json(config)
    if content.get("model_type") == "vit":
        return _VitSource(weights, "", config)
    architecture, published = content.get("architecture"), content.get("pretrained_cfg")
    if isinstance(architecture, str) and require("timm").is_model(architecture):
        tag = published.get("tag") if isinstance(published, dict) else None
        return _VitSource(weights, f"{architecture}.{tag}" if tag else architecture, config)
    raise ModelError(
        f"{str(config)!r} describes model type {content.get('model_type')!r}",
        remedy="Give a Hugging Face ViTModel (model type vit) or a timm model",
    )


def _check_name(name: str) -> str:
    """The hub repository of a timm model, or an empty string where it has none."""
    timm = require("timm")
    try:
        published = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:
        published = None
    if published is None and not timm.is_model(name.partition(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models("vit_*", pretrained=True), n=8, cutoff=0.4)
        raise UnknownNameError("vision transformer", name, close or [DEFAULT_VIT])
    if published is None:
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        remedy = "Name one of its weights, or leave them out for timm's default"
        raise UnknownNameError("weights of the vision transformer", name, tags, remedy=remedy)
    return str(published.hf_hub_id or "")


_Built = tuple[nn.Module, int, tuple[float, float, float], tuple[float, float, float], dict[str, Any]]


def _build_timm(name: str) -> _Built:
    timm = require("timm")
    with no_downloads():
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
    published = trunk.pretrained_cfg
    if published.get("tag") == "dino":
        for module in trunk.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = _EPS
    mean, std = tuple(published["mean"]), tuple(published["std"])
    size = int(published["input_size"][-1])
    return trunk, size, mean, std, {"timm": name, "mean": list(mean), "std": list(std)}


_MOST = {"hidden_size": 1 << 16, "intermediate_size": 1 << 18, "num_hidden_layers": 512, "image_size": 1 << 13}


def _build_hugging_face(config: Mapping[str, Any]) -> _Built:
    from timm.models.vision_transformer import VisionTransformer

    if config.get("hidden_act", "gelu") != "gelu":
        raise ModelError(f"the activation of the vision transformer must be gelu, got {config['hidden_act']!r}")
    try:
        for name, most in _MOST.items():
            if int(config[name]) > most:
                raise ValueError(f"{name} must be at most {most}, got {config[name]}")
        width, hidden = int(config["hidden_size"]), int(config["intermediate_size"])
        trunk = VisionTransformer(
            img_size=int(config["image_size"]),
            patch_size=int(config["patch_size"]),
            embed_dim=width,
            depth=int(config["num_hidden_layers"]),
            num_heads=int(config["num_attention_heads"]),
            # timm cuts width * ratio to an integer; the half keeps rounding from losing one
            mlp_ratio=(hidden + 0.5) / width,
            qkv_bias=bool(config.get("qkv_bias", True)),
            norm_layer=partial(nn.LayerNorm, eps=float(config.get("layer_norm_eps", _EPS))),
            num_classes=0,
        )
    except (KeyError, TypeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise ModelError(f"the configuration of the vision transformer does not describe one: {error}") from error
    return trunk, int(config["image_size"]), _MEAN, _STD, {"hugging_face": dict(config)}


_PARTS = {
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}

_STEM = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}


def _timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Hugging Face ViTModel's state dict in timm's names; query, key and value become one matrix."""
    known = {name.removeprefix("vit."): tensor for name, tensor in state.items()}
    named: dict[str, Tensor] = {}
    for name, tensor in known.items():
        if name.startswith(("pooler.", "classifier.")) or ".attention.attention." in name:
            continue
        named[_timm_name(name)] = tensor
    for name in known:
        head, query, kind = name.partition(".attention.attention.query.")
        if query:
            three = [known.get(f"{head}.attention.attention.{part}.{kind}") for part in ("query", "key", "value")]
            number = head.rpartition(".")[2]
            named[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat([part for part in three if part is not None])
    return named


def _timm_name(name: str) -> str:
    if name in _STEM:
        return _STEM[name]
    _, _, tail = name.partition("encoder.layer.")
    number, _, rest = tail.partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blocks.{number}.{_PARTS[part]}.{kind}" if part in _PARTS else name
