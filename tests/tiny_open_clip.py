"""A tiny open_clip architecture, and files of a model of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.registry import load_model

ARCH = "tiny-for-tests"


CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def load(name: str, **settings: Any) -> OpenClipModel:
    model = load_model(name, device="cpu", **settings)
    assert isinstance(model, OpenClipModel)
    return model


def folder_with_configuration(tiny: Any, folder: Path, **model_cfg: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(tiny.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    content = {"model_cfg": {**CONFIG, **model_cfg}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def check_squashed(model: OpenClipModel) -> None:
    image = Image.new("RGB", (64, 32), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 32, 32))
    pixels = model.preprocess(image)
    assert model.crop_fraction is None
    assert pixels[:, :, 0].tolist() == [[-2.0] * 32] * 3
    assert pixels[:, :, 31].tolist() == [[2.0] * 32] * 3
