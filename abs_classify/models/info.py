"""What a model is, read from its configuration: it is built on torch's meta device, and no weights are read.

Building takes seconds, most of which are imports, so callers may remember what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.models.embedded_files import EMBED_DIM, EMBEDDED, GRID, MAX_TOKENS
from abs_classify.models.open_clip_configs import PREPROCESS_KEYS
from abs_classify.models.open_clip_sources import CheckpointSource, find_source, read_catalogue
from abs_classify.models.registered import is_registered, load_registered
from abs_classify.models.registry import ModelEntry, files_of
from abs_classify.models.runtime_names import RUNTIMES, Remember
from abs_classify.models.transformers_sources import TOKENIZER_FILES
from abs_classify.models.weights import no_downloads
from abs_core.errors import UsageError, WeightsError
from abs_core.extras import installed_version, require

if TYPE_CHECKING:
    from abs_classify.models.last_block import EncoderSplit

__all__ = ["ModelInfo", "read_model_info", "text_repositories"]

# Packages that decide what a configuration becomes.
_PACKAGES = ("open_clip_torch", "timm", "torch", "transformers")


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without its weights.

    Args:
        architecture: open_clip's or timm's name, or a description.
        parameters: number of weights; 0 where it is not known.
        grid: side of the token grid; 0 where there are no feature windows.
        embed_dim: length of a feature; 0 for an attention backend.
        context_length: tokens that a text may have; 0 for an attention backend.
        tokenizer: its repository, or open_clip's own; empty for an attention backend.
        preprocess: the image preprocessing: size in pixels, mean, std, interpolation, resize mode.
        quick_gelu: whether the activation is QuickGELU; None where that is not known.
        pooling: how tokens become the feature: token, average or attention; empty where that is not known.
        attention: attention backends that need no other weights.
        default_attention: what ``auto`` means.
        runtimes: what can run its image encoder on a CPU.
        remark: what could not be found out, and why; empty if nothing.
    """

    architecture: str
    parameters: int
    grid: int
    embed_dim: int
    context_length: int
    tokenizer: str
    preprocess: Mapping[str, Any]
    quick_gelu: bool | None
    pooling: str
    attention: tuple[str, ...]
    default_attention: str
    runtimes: tuple[str, ...] = ("torch",)
    remark: str = ""


class _IncompleteInfo(Exception):  # noqa: N818 - it carries a result
    def __init__(self, info: ModelInfo) -> None:
        self.info = info


def read_model_info(entry: ModelEntry, use: str, *, remember: Remember | None = None) -> ModelInfo:
    """Describe a model. One that was registered is loaded: only its loader knows what it is.

    Args:
        entry: the model.
        use: the name that loads it, which says where its configuration is if open_clip does not know it.
        remember: keeps what was found until a package or a file changes; what could not be found is not kept.

    Raises:
        WeightsError: a hub repository or a folder whose configuration is not on this machine.
        ModelError: a configuration that open_clip cannot build.
        MissingExtraError: a package is not installed.
    """
    if entry.name == EMBEDDED:
        return _embedded()
    if is_registered(entry.name):
        return _registered(entry.name)
    if remember is None:
        return _build(entry, use)

    def describe() -> str:
        info = _build(entry, use)
        if info.remark:
            raise _IncompleteInfo(info)
        return json.dumps(asdict(info))

    inputs = json.dumps(["model info with runtimes", use, [installed_version(package) for package in _PACKAGES]])
    try:
        values = json.loads(remember(inputs, _files(entry, use), describe))
    except _IncompleteInfo as incomplete:
        return incomplete.info
    return ModelInfo(**{**values, "attention": tuple(values["attention"]), "runtimes": tuple(values["runtimes"])})


def _build(entry: ModelEntry, use: str) -> ModelInfo:
    if entry.is_attention:
        return _vit(use.removeprefix("dino:"))
    require("open_clip")
    return _open_clip(use)


def _files(entry: ModelEntry, use: str) -> tuple[Path, ...]:
    """The files that decide what is said of a model; none where open_clip or timm knows it by name."""
    known = entry.repository and use == entry.name and not use.startswith("hf-hub:")
    return () if known else files_of(use)


def text_repositories(name: str) -> tuple[str, str]:
    """The hub repositories of an open_clip model's tokenizer and of its text encoder's configuration; empty: none.

    Raises:
        WeightsError, UnknownNameError: as in ``find_source``.
    """
    text = _read_configuration(name).config.get("text_cfg", {})
    return str(text.get("hf_tokenizer_name") or ""), str(text.get("hf_model_name") or "")


def _embedded() -> ModelInfo:
    return ModelInfo(
        architecture="EfficientNet-Lite0 with all-MiniLM-L6-v2, joined without training",
        parameters=0,
        grid=GRID,
        embed_dim=EMBED_DIM,
        context_length=MAX_TOKENS,
        tokenizer="all-MiniLM-L6-v2",
        preprocess={"size": [224, 224], "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "interpolation": "bicubic"},
        quick_gelu=False,
        pooling="average",
        attention=("norm",),
        default_attention="norm, at 320 pixels",
    )


def _registered(name: str) -> ModelInfo:
    from abs_classify.models.base import input_size

    model = load_registered(name, "auto", "float32")
    return ModelInfo(
        architecture=type(model).__name__,
        parameters=0,
        grid=model.grid,
        embed_dim=model.embed_dim,
        context_length=model.context_length,
        tokenizer="its own",
        preprocess={"size": [input_size(model)] * 2, "resize_mode": "its own preprocessing"},
        quick_gelu=None,
        pooling="",
        attention=tuple(model.attention_backends()),
        default_attention=model.default_attention(),
    )


def _vit(spec: str) -> ModelInfo:
    """An attention backend: published timm models from their configuration, local files by loading them."""
    timm = require("timm")
    import torch

    from abs_classify.models.last_block import split_timm
    from abs_classify.models.vit import load_vit

    if timm.is_model(spec.partition(".")[0]) and "@" not in spec:
        with torch.device("meta"), no_downloads():
            trunk = timm.create_model(spec, pretrained=False, num_classes=0).eval()
        config = trunk.pretrained_cfg
        size, mean, std = config["input_size"][-1], config["mean"], config["std"]
    else:
        loaded = load_vit(spec)
        trunk, size, mean, std = loaded.trunk, loaded.size, loaded.mean, loaded.std
    split = split_timm(trunk, pooling="token")
    usable = split is not None and split.row is not None and split.prefix > 0
    return ModelInfo(
        architecture=f"vision transformer {spec}",
        parameters=sum(parameter.numel() for parameter in trunk.parameters()),
        grid=split.grid if split and usable else 0,
        embed_dim=0,
        context_length=0,
        tokenizer="",
        preprocess={"size": [size, size], "mean": list(mean), "std": list(std), "resize_mode": "squash"},
        quick_gelu=False,
        pooling="token",
        attention=(),
        default_attention="",
        runtimes=_runtimes(trunk),
        remark="" if usable else "it has no CLS token whose attention could be read, so it cannot be used",
    )


def _open_clip(name: str) -> ModelInfo:
    import open_clip

    from abs_classify.models.last_block import split_image_encoder
    from abs_classify.models.open_clip_networks import create_network

    source = _read_configuration(name)
    config, preprocess = source.config, source.preprocess
    text = config.get("text_cfg", {})
    facts: dict[str, Any] = {
        "architecture": source.model,
        "embed_dim": int(config.get("embed_dim", 0)),
        "context_length": int(text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)),
        "tokenizer": str(text.get("hf_tokenizer_name") or _own_tokenizer(source)),
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "default_attention": "dino",
    }
    try:
        with no_downloads():
            model = create_network(source, "meta").eval()
    except OSError:
        size = config.get("vision_cfg", {}).get("image_size", 224)
        return ModelInfo(
            **facts,
            parameters=0,
            grid=0,
            preprocess={"size": [size, size], **preprocess},
            pooling="",
            attention=(),
            remark=f"its text encoder needs the configuration of {text.get('hf_model_name')}, which is not here, "
            "so grid and feature windows are not known",
        )
    if source.configuration is not None:
        _try_run(model, name)
    split = split_image_encoder(model.visual)
    return ModelInfo(
        **facts,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        grid=split.grid if split else 0,
        preprocess=_settings(model),
        pooling=split.pooling if split else "",
        attention=_own_attention(split),
        runtimes=_runtimes(model.visual),
    )


def _runtimes(network: Any) -> tuple[str, ...]:
    import torch

    from abs_classify.models.runtime import has_plain_blocks

    with torch.inference_mode():
        return RUNTIMES[1:] if has_plain_blocks(network) else ("torch",)


def _try_run(model: Any, name: str) -> None:
    """Find sizes that disagree, in a network without memory.

    Raises:
        ModelError: the network does not take images of its own size.
    """
    import torch

    from abs_classify.models.checkpoint import model_errors

    height, width = _settings(model)["size"]
    # what torch cannot compute without memory is found when the weights are loaded
    with torch.inference_mode(), model_errors("cannot run", name), suppress(NotImplementedError):
        model.visual(torch.zeros(1, 3, height, width, device="meta"))


def _own_tokenizer(source: CheckpointSource) -> str:
    if source.shape is None or not {path.name for path in source.extras}.intersection(TOKENIZER_FILES):
        return "open_clip's own" if source.shape is None or source.shape.has_openai_vocabulary else "missing"
    return "of its folder"


def _own_attention(split: EncoderSplit | None) -> tuple[str, ...]:
    if split is None:
        return ()
    return ("self", "norm") if split.row is not None else ("norm",)


def _settings(model: Any) -> dict[str, Any]:
    import open_clip

    side = model.visual.image_size
    settings = {**open_clip.get_model_preprocess_cfg(model), "size": [side, side] if isinstance(side, int) else side}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _read_configuration(name: str) -> CheckpointSource:
    """The source of a model; of published weights also when the weights are not here."""
    try:
        return find_source(name, allow_download=False)
    except WeightsError:
        if ":" in name or "@" in name:
            raise
    arch, _, tag = name.rpartition("/")
    catalogue = read_catalogue()
    published = catalogue.weights(arch, tag)
    if not published:
        raise UsageError(f"{name!r} is not the name of published weights", remedy="Write ARCH/TAG")
    preprocess = {key: published[key] for key in PREPROCESS_KEYS}
    return CheckpointSource(name, arch, catalogue.configs[arch], preprocess, Path(), arch)
