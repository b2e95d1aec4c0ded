"""What transformers writes about a CLIP or SigLIP model, read without transformers: architecture and preprocessing.

``config.json`` may leave out what is a default, so the defaults stand here, as transformers 5 has them. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from abs_classify.models.weights import read_json
from abs_core.errors import ModelError, WeightsError
from abs_core.text import quoted, validation_message

__all__ = ["EncoderShape", "TransformersShape", "read_preprocess", "read_shape"]

Kind = Literal["clip", "siglip"]
Activation = Literal["quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish"]
Size = Annotated[int, Field(ge=1, le=1 << 16)]
Layers = Annotated[int, Field(ge=1, le=512)]


def _side(value: Any) -> Any:
    """Height and width that are equal are one number."""
    is_square = isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_square else value


Side = Annotated[int, BeforeValidator(_side), Field(ge=1, le=1 << 13)]


class _EncoderConfig(BaseModel):
    """What image and text encoders have in common."""

    model_config = ConfigDict(strict=True, frozen=True)

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers = 12
    num_attention_heads: Size
    hidden_act: Activation
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> _EncoderConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self

    @property
    def shape(self) -> EncoderShape:
        return EncoderShape(
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation=self.hidden_act,
            eps=self.layer_norm_eps,
        )


class _ImageEncoderConfig(_EncoderConfig):
    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_attention_heads: Size = 12
    num_channels: Literal[3] = 3
    image_size: Side = 224


class _TextEncoderConfig(_EncoderConfig):
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)]
    # the causal mask has its square in numbers
    max_position_embeddings: Annotated[int, Field(ge=2, le=8192)]


class _ClipImageConfig(_ImageEncoderConfig):
    patch_size: Side = 32
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class _ClipTextConfig(_TextEncoderConfig):
    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_attention_heads: Size = 8
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 49408
    max_position_embeddings: Annotated[int, Field(ge=2, le=8192)] = 77
    eos_token_id: Annotated[int, Field(ge=0)] = 49407


class _SiglipImageConfig(_ImageEncoderConfig):
    patch_size: Side = 16
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    vision_use_head: Literal[True] = True


class _SiglipTextConfig(_TextEncoderConfig):
    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_attention_heads: Size = 12
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 32000
    max_position_embeddings: Annotated[int, Field(ge=2, le=8192)] = 64
    projection_size: Size | None = None
    pad_token_id: Annotated[int, Field(ge=0)] | None = 1


class _ClipConfig(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    vision_config: _ClipImageConfig
    text_config: _ClipTextConfig
    projection_dim: Size = 512

    @property
    def shape(self) -> TransformersShape:
        text = self.text_config
        return TransformersShape(
            kind="clip",
            embed_dim=self.projection_dim,
            image=self.vision_config.shape,
            image_size=self.vision_config.image_size,
            patch_size=self.vision_config.patch_size,
            text=text.shape,
            vocab_size=text.vocab_size,
            context_length=text.max_position_embeddings,
            # 2 stands in configurations of before 2023, whose models take the largest token for the last
            eos_id=None if text.eos_token_id in (2, text.vocab_size - 1) else text.eos_token_id,
            pad_id=None,
        )


class _SiglipConfig(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    vision_config: _SiglipImageConfig
    text_config: _SiglipTextConfig

    @model_validator(mode="after")
    def _encoders_meet(self) -> _SiglipConfig:
        width, projection = self.vision_config.hidden_size, self.text_config.projection_size
        if (projection or self.text_config.hidden_size) != width:
            raise ValueError(f"texts become {projection or self.text_config.hidden_size} numbers and images {width}")
        return self

    @property
    def shape(self) -> TransformersShape:
        return TransformersShape(
            kind="siglip",
            embed_dim=self.vision_config.hidden_size,
            image=self.vision_config.shape,
            image_size=self.vision_config.image_size,
            patch_size=self.vision_config.patch_size,
            text=self.text_config.shape,
            vocab_size=self.text_config.vocab_size,
            context_length=self.text_config.max_position_embeddings,
            eos_id=None,
            pad_id=self.text_config.pad_token_id,
        )


@dataclass(frozen=True)
class EncoderShape:
    """An image or a text encoder of transformers.

    Args:
        width: of a token.
        layers: number of blocks.
        heads: of the attention.
        hidden: width inside the perceptron of a block.
        activation: as transformers names it.
        eps: of the layer norms.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    activation: Activation
    eps: float


@dataclass(frozen=True)
class TransformersShape:
    """A CLIP or SigLIP model of transformers.

    Args:
        kind: ``clip`` or ``siglip``.
        embed_dim: the embedding size.
        image, text: the encoders.
        image_size, patch_size: sides of squares, in pixels.
        vocab_size, context_length: of the text encoder, in tokens.
        eos_id: of CLIP: the token whose feature is the text's; None: the largest.
        pad_id: of SigLIP: the token that texts are filled up with, where the tokenizer does not say.
    """

    kind: Kind
    embed_dim: int
    image: EncoderShape
    image_size: int
    patch_size: int
    text: EncoderShape
    vocab_size: int
    context_length: int
    eos_id: int | None
    pad_id: int | None

    READS: ClassVar[str] = "CLIP and SigLIP (model types clip and siglip)"

    @property
    def has_openai_vocabulary(self) -> bool:
        """Whether it has as many tokens as OpenAI's byte pairs, which open_clip's own tokenizer makes."""
        return self.kind == "clip" and self.vocab_size == 49408

    def as_config(self) -> dict[str, Any]:
        """The same as JSON values, with what open_clip's configurations have too under its names there."""
        return {
            "transformers": asdict(self),
            "embed_dim": self.embed_dim,
            "quick_gelu": self.image.activation == "quick_gelu",
            "vision_cfg": {"image_size": self.image_size},
            "text_cfg": {"context_length": self.context_length, "vocab_size": self.vocab_size},
        }


def read_shape(path: Path) -> TransformersShape:
    """The architecture that a ``config.json`` of transformers describes.

    Raises:
        WeightsError: the file cannot be read.
        ModelError: it describes another kind of model, or one that cannot be built.
    """
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in ("clip", "siglip"):
        raise _other_kind(path, kind)
    if config.get("quantization_config"):
        raise ModelError(
            f"{str(path)!r} describes quantized weights, which are not read",
            remedy="Use the weights in float16 or more",
        )
    encoders = {part: _encoder_values(path, config, part, kind) for part in ("vision_config", "text_config")}
    try:
        if kind == "siglip":
            return _SiglipConfig.model_validate(encoders).shape
        projection = config.get("projection_dim")
        size = {} if projection is None else {"projection_dim": projection}
        return _ClipConfig.model_validate({**encoders, **size}).shape
    except ValidationError as error:
        raise ModelError(
            f"{str(path)!r} describes no {kind} model that can be built: {validation_message(error)}",
            remedy="Compare it with the configuration that transformers saved with the weights",
        ) from error


def _encoder_values(path: Path, config: Mapping[str, Any], part: str, kind: str) -> dict[str, Any]:
    """The stated values of an encoder. Old configurations have them twice, and only the second ones count."""
    values = config.get(part) or {}
    old = config.get(f"{part}_dict") if kind == "clip" else None
    if not isinstance(values, dict) or not isinstance(old or {}, dict):
        raise ModelError(f"{part} in {str(path)!r} must be a JSON object", remedy="Fetch the file again")
    # nulls stand for defaults
    return {name: value for name, value in (old or values).items() if value is not None}


_HALVES = {
    "clip_vision_model": "the image encoder of a CLIP model alone",
    "clip_text_model": "the text encoder of a CLIP model alone",
    "siglip_vision_model": "the image encoder of a SigLIP model alone",
    "siglip_text_model": "the text encoder of a SigLIP model alone",
    "siglip2": "a SigLIP 2 model for images of any shape (NaFlex)",
    "metaclip_2": "a MetaCLIP 2 model",
    "vit": "a vision transformer, which has no text encoder",
}

_OTHER_REMEDIES = {
    "siglip2": "Use one of a fixed size, such as hf-hub:google/siglip2-base-patch16-224 or ViT-B-16-SigLIP2/webli",
    "metaclip_2": "Use open_clip's, such as ViT-H-14-worldwide-quickgelu/metaclip2_worldwide",
    "vit": "Use it as an attention backend: --attention dino:FOLDER",
}


def _other_kind(path: Path, kind: object) -> ModelError:
    if kind is None:
        return ModelError(f"{str(path)!r} names no model_type", remedy="Use a folder that save_pretrained wrote")
    name = kind if isinstance(kind, str) else repr(kind)
    what = _HALVES.get(name, f"a model of type {quoted(name)}")
    remedy = _OTHER_REMEDIES.get(name, f"Use a folder of one of these: {TransformersShape.READS}")
    return ModelError(
        f"{str(path)!r} describes {what}; of transformers' models only CLIP and SigLIP load", remedy=remedy
    )


#: The preprocessing of the published models of each kind.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "clip": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
    "siglip": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
}

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}


class _ImageProcessor(BaseModel):
    """What an image processor of transformers does, as its file says it."""

    model_config = ConfigDict(frozen=True)

    do_resize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_normalize: bool = True
    do_center_crop: bool = False
    do_pad: Literal[False] | None = None
    rescale_factor: Annotated[float, Field(ge=0.99 / 255, le=1.01 / 255)] = 1 / 255
    image_mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    image_std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None = None
    resample: Literal[2, 3] = 3
    size: int | dict[str, int | None] | None = None
    crop_size: int | dict[str, int | None] | None = None


def read_preprocess(folder: Path, shape: TransformersShape) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The preprocessing that the image processor beside a model states, in open_clip's terms, and what was assumed.

    Args:
        folder: holds ``preprocessor_config.json``, or a ``processor_config.json`` with an image processor in it.
        shape: of the model.

    Raises:
        WeightsError: the file cannot be read.
        ModelError: it asks for something that open_clip's preprocessing does not do, or for another size than the
            model's.
    """
    published = _PUBLISHED[shape.kind]
    path, values = _read_processor(folder)
    if path is None:
        name = "CLIP" if shape.kind == "clip" else "SigLIP"
        return dict(published), (f"no preprocessor_config.json, so the preprocessing of the published {name} is used",)
    values = {name: value for name, value in values.items() if value is not None}
    values.setdefault("do_center_crop", shape.kind == "clip")
    try:
        processor = _ImageProcessor.model_validate(values)
    except ValidationError as error:
        raise _unsuitable(path, validation_message(error)) from error
    return {
        "mean": (processor.image_mean or published["mean"]) if processor.do_normalize else [0.0] * 3,
        "std": (processor.image_std or published["std"]) if processor.do_normalize else [1.0] * 3,
        "interpolation": _INTERPOLATIONS[processor.resample],
        "resize_mode": _resize_mode(path, processor, shape),
    }, ()


def _read_processor(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return path, read_json(path)
    path = folder / "processor_config.json"
    values = read_json(path).get("image_processor") if path.is_file() else None
    if values is None:
        return None, {}
    if not isinstance(values, dict):
        raise WeightsError(f"image_processor in {str(path)!r} must be a JSON object", remedy="Fetch the file again")
    return path, values


def _resize_mode(path: Path, processor: _ImageProcessor, shape: TransformersShape) -> str:
    side, size, crop = shape.image_size, processor.size, processor.crop_size
    if isinstance(size, int):
        size = {"shortest_edge": size} if processor.do_center_crop else {"height": size, "width": size}
    if size is None:
        size = {"shortest_edge": side} if processor.do_center_crop else {"height": side, "width": side}
    if isinstance(crop, int) or crop is None:
        crop = {"height": crop or side, "width": crop or side}
    wanted = {"height": side, "width": side}
    if processor.do_center_crop and crop != wanted:
        raise _unsuitable(path, f"it crops to {_size(crop)}, and the model takes {side} x {side} pixels")
    if size == wanted:
        return "squash"
    if size == {"shortest_edge": side} and processor.do_center_crop:
        return "shortest"
    raise _unsuitable(path, f"it resizes to {_size(size)}, and the model takes {side} x {side} pixels")


def _size(size: Mapping[str, int | None]) -> str:
    return quoted(", ".join(f"{name} {value}" for name, value in size.items()))


def _unsuitable(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"the preprocessing in {str(path)!r} cannot be followed: {reason}",
        remedy="Correct the file if it is wrong; a model that needs this preprocessing cannot be used",
    )
