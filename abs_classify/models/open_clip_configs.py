"""The ``open_clip_config.json`` of a stranger: what must hold before open_clip builds a model. Imports no torch.

open_clip checks little: a wrong type ends in an assertion somewhere inside, and a large number in all of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from abs_classify.models.weights import CONFIG_FILE, read_json
from abs_core.errors import ModelError, WeightsError
from abs_core.text import validation_message

__all__ = ["PREPROCESS_KEYS", "read_config"]

#: What open_clip's own tokenizers take; the rest reaches transformers, where one option runs code.
_TOKENIZER_OPTIONS = {"clean", "strip_sep_token", "language"}

#: What a configuration may say of the preprocessing, beside the size, which is the model's.
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Pixels = Annotated[int, Field(ge=1, le=1 << 13)]
Depth = Annotated[int, Field(ge=1, le=512)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
PositiveChannels = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class _ImageConfig(BaseModel):
    model_config = ConfigDict(strict=True)

    layers: Depth | list[Depth] = 12
    width: Width = 768
    head_width: Width = 64
    mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    # null in ResNets
    patch_size: Pixels | list[Pixels] | None = 16
    image_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] = 224
    attn_pooler_queries: Width = 256
    attn_pooler_heads: Width = 8
    timm_model_name: str | None = None
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> _ImageConfig:
        is_plain = self.timm_model_name is None and isinstance(self.layers, int)
        if is_plain and self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        return self


class _TextConfig(BaseModel):
    model_config = ConfigDict(strict=True)

    # the causal mask has its square in numbers
    context_length: Annotated[int, Field(ge=1, le=8192)] = 77
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 49408
    width: Width = 512
    heads: Width = 8
    layers: Depth = 12
    mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    hf_model_name: str | None = None
    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> _TextConfig:
        if self.hf_model_name is None and self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class _ModelConfig(BaseModel):
    model_config = ConfigDict(strict=True)

    embed_dim: Width
    vision_cfg: _ImageConfig
    text_cfg: _TextConfig
    quick_gelu: bool = False


class _PreprocessConfig(BaseModel):
    model_config = ConfigDict(strict=True)

    size: Pixels | list[Pixels] | None = None
    mean: Channels | None = None
    std: PositiveChannels | None = None
    interpolation: Literal["bicubic", "bilinear", "random"] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    fill_color: int | list[int] | None = None


def read_config(path: Path) -> dict[str, Any]:
    """The content of an ``open_clip_config.json``.

    Raises:
        WeightsError: it is missing or unreadable, or sets options of a tokenizer that are not allowed.
        ModelError: open_clip could not build a model of it.
    """
    if not path.is_file():
        raise WeightsError(
            f"there is no {CONFIG_FILE} in {str(path.parent)!r}, and no config.json of transformers",
            remedy="Check the folder",
        )
    config = read_json(path)
    if not isinstance(config.get("model_cfg"), dict):
        raise WeightsError(
            f"{str(path)!r} has no 'model_cfg'", remedy="Use the configuration that open_clip saves with a model"
        )
    preprocess = config.get("preprocess_cfg") or {}
    try:
        model = _ModelConfig.model_validate(config["model_cfg"])
        _PreprocessConfig.model_validate(preprocess)
    except ValidationError as error:
        raise ModelError(
            f"open_clip cannot build a model of {str(path)!r}: {validation_message(error)}",
            remedy=f"Compare it with the {CONFIG_FILE} that open_clip saved with the weights",
        ) from error
    _check_large_numbers(path, config["model_cfg"])
    refused = set(model.text_cfg.tokenizer_kwargs or ()) - _TOKENIZER_OPTIONS
    if refused:
        raise WeightsError(
            f"{str(path)!r} sets tokenizer options that are not allowed: {', '.join(sorted(map(repr, refused)))}",
            remedy="Remove them if you trust the rest of the folder",
        )
    return {**config, "preprocess_cfg": {name: value for name, value in preprocess.items() if value is not None}}


def _check_large_numbers(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse numbers that no setting needs, also under names that only open_clip or timm knows."""
    for name, value in _numbers(config):
        if abs(value) > 10_000_000:
            raise ModelError(
                f"open_clip cannot build a model of {str(path)!r}: {name} is {value!r:.40}",
                remedy=f"Compare it with the {CONFIG_FILE} that open_clip saved with the weights",
            )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, name)
    elif isinstance(value, (int, float)):
        yield name, value
