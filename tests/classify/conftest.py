"""Shared by the tests of abs_classify: the golden models and photos, and tiny models of every model family."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluations import Bench
from PIL import Image
from support import GOLDEN

# One tiny text encoder serves all: the image encoder is what differs between families.
TEXT = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}

# open_clip's own VisionTransformer: 112 pixels, patches of 16, so a grid of 7.
VIT = {"layers": 3, "width": 64, "head_width": 16, "patch_size": 16, "image_size": 112}
OWN = {
    "CLIP": VIT,
    "CLIP with layer scale": {**VIT, "ls_init_value": 0.5},
    "CLIP, norm after pooling": {**VIT, "final_ln_after_pool": True},
    "CLIP with query and key norm": {**VIT, "qk_norm": True},
    "CLIPA": {**VIT, "pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "average after norm": {**VIT, "pool_type": "avg"},
    "CoCa": {**VIT, "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8, "output_tokens": True},
    "CoCa without pooler": {**VIT, "output_tokens": True},
}
# timm trunks: the real entry point with smaller numbers, then the adapter settings that open_clip's configurations use.
SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 4}
TIMM: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "SigLIP": ("vit_base_patch16_siglip_224", SMALL, {"timm_pool": "map", "timm_proj": "none"}),
    "SigLIP 2": (
        "vit_base_patch32_siglip_256",
        SMALL,
        {"timm_pool": "map", "timm_proj": "none", "image_size": 256},
    ),
    "EVA01": ("eva_giant_patch14_224", SMALL, {"timm_pool": "token", "timm_proj": None}),
    "EVA02": ("eva02_base_patch16_clip_224", SMALL, {"timm_pool": "token", "timm_proj": None}),
    "PE": (
        "vit_pe_core_base_patch16_224",
        {**SMALL, "attn_pool_num_heads": 4},
        {"timm_pool": "map", "timm_proj": None},
    ),
    "mixed rotary positions": (
        "vit_small_patch16_rope_mixed_224",
        SMALL,
        {"timm_pool": "token", "timm_proj": "linear"},
    ),
    "MobileCLIP2-L": ("vit_large_patch14_clip_224", SMALL, {"timm_pool": "token", "timm_proj": None}),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        {**SMALL, "img_size": 112},
        {"timm_pool": "token", "timm_proj": "linear", "image_size": 112},
    ),
    "MobileCLIP-B": ("vit_base_mci_224", {"depth": 2}, {"timm_pool": "token", "timm_proj": None}),
    "ViTamin": ("vitamin_small_224", {"depth": 2}, {"timm_pool": "", "timm_proj": "linear"}),
    "average of patches": (
        "vit_medium_patch16_gap_256",
        SMALL,
        {"timm_pool": "", "timm_proj": "linear", "image_size": 256},
    ),
    "relative positions": ("vit_relpos_medium_patch16_cls_224", SMALL, {"timm_pool": "", "timm_proj": "linear"}),
    "relative positions, shared": (
        "vit_relpos_medium_patch16_rpn_224",
        {**SMALL, "shared_rel_pos": True},
        {"timm_pool": "", "timm_proj": "linear"},
    ),
}
NO_GRID: dict[str, dict[str, Any]] = {
    "ResNet": {"layers": [1, 1, 1, 1], "width": 16, "patch_size": None, "image_size": 64},
    "ConvNeXt": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
    "MobileCLIP-S": {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": None, "image_size": 64},
}
EMBED = 24


def build_family(family: str) -> Any:
    """A small open_clip model of a family with random weights, in eval mode."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    torch.manual_seed(1)
    if family in TIMM:
        entry, overrides, adapter = TIMM[family]
        vision = {"timm_model_name": _register(family, entry, overrides), "image_size": 224, **adapter}
    else:
        vision = {**OWN, **NO_GRID}[family]
    if "CoCa" in family:
        model = CoCa(EMBED, dict(TEXT), {**TEXT, "embed_cls": True, "output_tokens": True}, vision)
    elif family == "CLIP":
        model = CLIP(EMBED, vision, TEXT, quick_gelu=True)
    else:
        model = CustomTextCLIP(EMBED, vision, TEXT)
    _sharpen(model)
    if isinstance(model, CoCa):
        # open_clip leaves the projection of the caption decoder as the memory was, which may hold NaN
        torch.nn.init.normal_(model.text_decoder.text_projection)
    return model.eval()


def _register(family: str, entry: str, overrides: dict[str, Any]) -> str:
    """Make a smaller version of a timm model known to timm, since open_clip's adapter passes no sizes on."""
    import timm

    name = "tiny_" + "".join(letter if letter.isalnum() else "_" for letter in family.lower())
    if not timm.is_model(name):

        def tiny(pretrained: bool = False, **settings: Any) -> Any:
            return timm.create_model(entry, pretrained=pretrained, **{**overrides, **settings})

        tiny.__name__, tiny.__module__ = name, __name__
        assert __name__ in sys.modules
        timm.models.register_model(tiny)
    return name


def _sharpen(model: Any) -> None:
    """Random weights give flat attention and trivial norms; larger and uneven ones make mistakes visible."""
    with torch.no_grad():
        for name, parameter in model.visual.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif parameter.ndim == 2 and name.endswith("weight"):
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
            elif "latent" in name:
                parameter.normal_()


@pytest.fixture(scope="session")
def family_model() -> Callable[[str], Any]:
    """A family's name to its model, built once."""
    return cache(build_family)


@pytest.fixture(scope="session")
def golden_photos() -> list[Image.Image]:
    """The five golden photos, in their order."""
    photos = []
    for path in sorted((GOLDEN / "photos").glob("*.png")):
        with Image.open(path) as image:
            photos.append(image.convert("RGB"))
    return photos


@pytest.fixture(scope="session")
def golden_model() -> Callable[[int], Any]:
    """A grid to the golden CLIP of that grid as a model, built once. It has no tokenizer: feed ids to encode_tokens."""
    return cache(_build_golden_model)


def _build_golden_model(grid: int) -> Any:
    from open_clip.model import CLIP
    from safetensors.torch import load_file

    from abs_classify.models.open_clip import OpenClipModel

    parts = [load_file(GOLDEN / "models" / f"clip_{part}.safetensors") for part in ("common", f"grid{grid}")]
    model = CLIP(
        64,
        {"layers": 3, "width": 128, "patch_size": 224 // grid, "image_size": 224},
        {"context_length": 77, "vocab_size": 512, "width": 64, "heads": 1, "layers": 2},
        quick_gelu=True,
    )
    model.load_state_dict({**parts[0], **parts[1]})
    return OpenClipModel.from_model(model, name=f"golden-{grid}")


@pytest.fixture
def bench(tmp_path: Path, small_clips: tuple[str, str]) -> Bench:
    """Evaluates with the first of the small models and a cache of its own."""
    return Bench(tmp_path / "bench", small_clips[0])
