"""Transformers' CLIP and SigLIP as open_clip's own networks: the same function, under the names that the house reads.

CLIP becomes open_clip's CLIP. SigLIP becomes open_clip's CustomTextCLIP, whose image encoder is timm's vision
transformer with attention pooling, as in open_clip's own SigLIP, but with the activations that transformers computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from open_clip.transformer import LayerNorm, QuickGELU, TextTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from abs_classify.models.transformers_configs import EncoderShape, TransformersShape

__all__ = ["build_network", "open_clip_state"]

_tanh_gelu: Callable[[], nn.Module] = partial(nn.GELU, approximate="tanh")

# transformers has several implementations of the approximation by tanh, which differ by rounding alone
_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


def build_network(shape: TransformersShape, preprocess: Mapping[str, Any]) -> Any:
    """An open_clip model with random weights that computes what transformers' model of this shape does.

    Args:
        shape: the architecture.
        preprocess: mean, std, interpolation and resize mode.
    """
    network = _build_clip(shape) if shape.kind == "clip" else _SiglipNetwork(shape)
    settings = merge_preprocess_dict(PreprocessCfg(), dict(preprocess))
    settings["size"] = (shape.image_size, shape.image_size)
    set_model_preprocess_cfg(network, settings)
    return network.eval()


def _mlp_ratio(shape: EncoderShape) -> float:
    # the product with the width is cut to an integer; the half keeps rounding from losing one
    return (shape.hidden + 0.5) / shape.width


def _build_clip(shape: TransformersShape) -> Any:
    network = CLIP(
        shape.embed_dim,
        vision_cfg={
            "layers": shape.image.layers,
            "width": shape.image.width,
            "head_width": shape.image.width // shape.image.heads,
            "mlp_ratio": _mlp_ratio(shape.image),
            "patch_size": shape.patch_size,
            "image_size": shape.image_size,
            "norm_kwargs": {"eps": shape.image.eps},
        },
        text_cfg={
            "context_length": shape.context_length,
            "vocab_size": shape.vocab_size,
            "width": shape.text.width,
            "heads": shape.text.heads,
            "layers": shape.text.layers,
            "mlp_ratio": _mlp_ratio(shape.text),
            "pool_type": "argmax" if shape.eos_id is None else "eos",
            "eos_id": shape.eos_id if shape.eos_id is not None else 2,
            "norm_kwargs": {"eps": shape.text.eps},
        },
    )
    # open_clip gives both encoders one activation
    for encoder, activation in (
        (network.visual.transformer, shape.image.activation),
        (network.transformer, shape.text.activation),
    ):
        for block in encoder.resblocks:
            block.mlp.gelu = _ACTIVATIONS[activation]()
    return network


class _SiglipImageEncoder(TimmModel):  # type: ignore[misc]
    """open_clip's adapter around a timm trunk that no timm name describes."""

    def __init__(self, shape: TransformersShape) -> None:
        nn.Module.__init__(self)
        self.image_size = (shape.image_size, shape.image_size)
        self.trunk = VisionTransformer(
            img_size=shape.image_size,
            patch_size=shape.patch_size,
            embed_dim=shape.image.width,
            depth=shape.image.layers,
            num_heads=shape.image.heads,
            mlp_ratio=_mlp_ratio(shape.image),
            class_token=False,
            global_pool="map",
            num_classes=0,
            norm_layer=partial(nn.LayerNorm, eps=shape.image.eps),
            act_layer=_ACTIVATIONS[shape.image.activation],
        )
        self.head = nn.Sequential()


class _SiglipNetwork(CustomTextCLIP):  # type: ignore[misc]
    """open_clip's model around encoders that its configurations cannot describe."""

    def __init__(self, shape: TransformersShape) -> None:
        nn.Module.__init__(self)
        self.output_dict = False
        self.visual = _SiglipImageEncoder(shape)
        self.text = TextTransformer(
            context_length=shape.context_length,
            vocab_size=shape.vocab_size,
            width=shape.text.width,
            heads=shape.text.heads,
            layers=shape.text.layers,
            mlp_ratio=_mlp_ratio(shape.text),
            output_dim=shape.embed_dim,
            no_causal_mask=True,
            pool_type="last",
            proj_bias=True,
            act_layer=_ACTIVATIONS[shape.text.activation],
            norm_layer=partial(LayerNorm, eps=shape.text.eps),
        )
        self.context_length, self.vocab_size = shape.context_length, shape.vocab_size
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))


_CLIP_STEM = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    # the spelling is transformers' own
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}

_SIGLIP_STEM = {
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm": "text.ln_final",
    "text_model.head": "text.text_projection",
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
    "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
    "vision_model.head.mlp.fc1": "visual.trunk.attn_pool.mlp.fc1",
    "vision_model.head.mlp.fc2": "visual.trunk.attn_pool.mlp.fc2",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
}

_OPEN_CLIP_BLOCK = {
    "self_attn.qkv": "attn.in_proj_",
    "self_attn.out_proj": "attn.out_proj.",
    "layer_norm1": "ln_1.",
    "layer_norm2": "ln_2.",
    "mlp.fc1": "mlp.c_fc.",
    "mlp.fc2": "mlp.c_proj.",
}

_TIMM_BLOCK = {
    "self_attn.qkv": "attn.qkv.",
    "self_attn.out_proj": "attn.proj.",
    "layer_norm1": "norm1.",
    "layer_norm2": "norm2.",
    "mlp.fc1": "mlp.fc1.",
    "mlp.fc2": "mlp.fc2.",
}

_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def open_clip_state(shape: TransformersShape, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of transformers under open_clip's names; what has no counterpart keeps its name.

    Args:
        shape: of the model.
        state: as transformers saves it.
    """
    stem = _CLIP_STEM if shape.kind == "clip" else _SIGLIP_STEM
    converted: dict[str, Tensor] = {}
    # buffers of old versions
    known = {name: tensor for name, tensor in state.items() if not name.endswith("embeddings.position_ids")}
    for name, tensor in _joined(known).items():
        if block := _BLOCK.fullmatch(name):
            converted[_block_name(shape, name, block)] = tensor
            continue
        whole, _, kind = name.rpartition(".")
        renamed = stem.get(name) or (f"{stem[whole]}.{kind}" if whole in stem else name)
        converted[renamed] = tensor
    return _siglip_pooling(converted) if shape.kind == "siglip" else _clip_projections(converted)


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of every attention as one tensor; an attention that lacks one keeps the others' names."""
    joined = dict(state)
    for name in state:
        head, query, kind = name.partition(".self_attn.q_proj.")
        parts = [f"{head}.self_attn.{part}_proj.{kind}" for part in "qkv"]
        if query and all(part in state and state[part].ndim == state[name].ndim for part in parts):
            joined[f"{head}.self_attn.qkv.{kind}"] = torch.cat([joined.pop(part) for part in parts])
    return joined


def _block_name(shape: TransformersShape, name: str, block: re.Match[str]) -> str:
    encoder, number, part, kind = block.groups()
    is_timm = shape.kind == "siglip" and encoder == "vision"
    parts = _TIMM_BLOCK if is_timm else _OPEN_CLIP_BLOCK
    if part not in parts:
        return name
    if is_timm:
        return f"visual.trunk.blocks.{number}.{parts[part]}{kind}"
    prefix = "visual." if encoder == "vision" else "text." if shape.kind == "siglip" else ""
    return f"{prefix}transformer.resblocks.{number}.{parts[part]}{kind}"


def _clip_projections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, renamed in (("visual_projection.weight", "visual.proj"), ("text_projection.weight", "text_projection")):
        if name in state and state[name].ndim == 2:
            state[renamed] = state.pop(name).T.contiguous()
    return state


def _siglip_pooling(state: dict[str, Tensor]) -> dict[str, Tensor]:
    position = state.pop("vision_model.embeddings.position_embedding.weight", None)
    if position is not None:
        state["visual.trunk.pos_embed"] = position.unsqueeze(0)
    for kind in ("weight", "bias"):
        joined = state.pop(f"vision_model.head.attention.in_proj_{kind}", None)
        if joined is not None:
            third = len(joined) // 3
            state[f"visual.trunk.attn_pool.q.{kind}"] = joined[:third]
            state[f"visual.trunk.attn_pool.kv.{kind}"] = joined[third:]
    return state
