"""CLIP and SigLIP of transformers: the same features, attention and views as transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_open_clip import load
from transformers_models import TEXTS, save_clip, save_processor, save_siglip

from abs_classify.models.open_clip import OpenClipModel

pytestmark = pytest.mark.usefixtures("no_network")

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

TOLERANCE = 1e-5


def image_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
    return features


def text_features(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = model.get_text_features(input_ids=ids).pooler_output
    return features


def check(model: Any, folder: Path, ids: torch.Tensor) -> OpenClipModel:
    """The model loads from the folder and gives transformers' features."""
    own = load(f"local-dir:{folder}")
    torch.testing.assert_close(own.encode_image(PIXELS), image_features(model, PIXELS), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(own.encode_tokens(ids), text_features(model, ids), rtol=0, atol=TOLERANCE)
    return own


def random_ids(vocabulary: int, length: int, *, end: int | None = None) -> torch.Tensor:
    ids = torch.randint(3, vocabulary - 2, (4, length), generator=torch.Generator().manual_seed(2))
    if end is not None:
        for row, position in enumerate((3, 5, length - 1, 7)):
            ids[row, position:] = end
    return ids


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ({}, {}),
        ({"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
        ({"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}, {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-2}),
        ({"hidden_size": 40, "intermediate_size": 53}, {"patch_size": 16}),
        ({"hidden_act": "relu"}, {"hidden_act": "silu", "image_size": 36, "patch_size": 8}),
    ],
)
def test_clip(tmp_path: Path, text: dict[str, Any], image: dict[str, Any]) -> None:
    model = save_clip(tmp_path, text={"vocab_size": 99, "eos_token_id": 98, **text}, image=image)
    if image.get("image_size") == 36:
        pixels = torch.randn(2, 3, 36, 36)
        own = load(f"local-dir:{tmp_path}").encode_image(pixels)
        torch.testing.assert_close(own, image_features(model, pixels), rtol=0, atol=TOLERANCE)
        return
    own_model = check(model, tmp_path, random_ids(99, 16, end=98))
    assert own_model.embed_dim == 24
    assert own_model.context_length == 16


@pytest.mark.parametrize("eos", [2, 50])
def test_where_a_text_of_clip_ends(tmp_path: Path, eos: int) -> None:
    """2 stands in old configurations, whose models take the largest token; others name the token."""
    model = save_clip(tmp_path, text={"vocab_size": 99, "eos_token_id": eos})
    check(model, tmp_path, random_ids(99, 16, end=98 if eos == 2 else eos))


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ({}, {}),
        ({"hidden_act": "gelu", "layer_norm_eps": 1e-3}, {"hidden_act": "gelu", "layer_norm_eps": 1e-2}),
        ({"hidden_size": 48, "projection_size": 32, "num_attention_heads": 2}, {"patch_size": 16}),
    ],
)
def test_siglip(tmp_path: Path, text: dict[str, Any], image: dict[str, Any]) -> None:
    model = save_siglip(tmp_path, text=text, image=image)
    check(model, tmp_path, random_ids(64, 12))


def test_scale_and_bias_are_transformers_own(tmp_path: Path) -> None:
    for name, save in (("clip", save_clip), ("siglip", save_siglip)):
        model = save(tmp_path / name)
        network = load(f"local-dir:{tmp_path / name}").network
        assert torch.equal(network.logit_scale.reshape(()), model.logit_scale.detach().reshape(()))
    assert torch.equal(network.logit_bias, model.logit_bias.detach())


@pytest.mark.parametrize("safe", [True, False])
def test_weights_in_several_files(tmp_path: Path, safe: bool) -> None:
    model = save_siglip(tmp_path)
    if safe:
        (tmp_path / "model.safetensors").unlink()
        model.save_pretrained(tmp_path, max_shard_size="50KB")
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    else:
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    own = check(model, tmp_path, random_ids(64, 12))
    (tmp_path / "other").mkdir()
    single = load(f"local-dir:{(save_siglip(tmp_path / 'other'), tmp_path / 'other')[1]}")
    assert own.digest != single.digest
    torch.testing.assert_close(own.encode_image(PIXELS), single.encode_image(PIXELS), rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "save"), [("clip", save_clip), ("siglip", save_siglip)])
def test_the_pixels_are_those_of_the_image_processor(tmp_path: Path, kind: str, save: Any) -> None:
    save(tmp_path)
    processor = save_processor(tmp_path, kind)
    model = load(f"local-dir:{tmp_path}")
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (48, 60, 3), dtype=np.uint8))
    expected = processor(images=image, return_tensors="pt")["pixel_values"][0]
    # transformers resizes tensors and not pictures, which rounds otherwise: one step of 255
    assert float((model.preprocess(image) - expected).abs().max()) < 1.5 / 255 / 0.26
    assert model.crop_fraction == (1.0 if kind == "clip" else None)
    assert not any("preprocess" in remark for remark in model.remarks)


def test_the_attention_of_the_cls_token_is_transformers_own(tmp_path: Path) -> None:
    model = save_clip(tmp_path, text={"vocab_size": 99, "eos_token_id": 98})
    model.set_attn_implementation("eager")
    with torch.no_grad():
        rows = model.vision_model(pixel_values=PIXELS, output_attentions=True).attentions[-1]
    expected = rows[:, :, 0, 1:].mean(1).reshape(3, 4, 4)
    own = load(f"local-dir:{tmp_path}")
    assert set(own.attention_backends()) == {"self", "norm"}
    torch.testing.assert_close(own.query_attention(own.tokens(PIXELS)), expected, rtol=0, atol=TOLERANCE)


def test_the_attention_of_siglip_is_that_of_its_pooling(tmp_path: Path) -> None:
    model = save_siglip(tmp_path)
    head = model.vision_model.head
    with torch.no_grad():
        tokens = model.vision_model(pixel_values=PIXELS).last_hidden_state
        _, weights = head.attention(head.probe.repeat(3, 1, 1), tokens, tokens, need_weights=True)
    own = load(f"local-dir:{tmp_path}")
    assert own.split is not None
    assert own.split.pooling == "attention"
    maps = own.query_attention(own.tokens(PIXELS))
    torch.testing.assert_close(maps, weights.reshape(3, 4, 4), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("save", [save_clip, save_siglip])
def test_feature_windows(tmp_path: Path, save: Any) -> None:
    save(tmp_path)
    own = load(f"local-dir:{tmp_path}")
    tokens = own.tokens(PIXELS)
    torch.testing.assert_close(own.pool(tokens), own.encode_image(PIXELS))
    windows = torch.tensor([[[0, 4, 0, 4], [1, 3, 0, 2]]]).expand(3, -1, -1)
    views = own.pool_windows(tokens, windows)
    torch.testing.assert_close(views, own.pool_windows_by_block(tokens, windows), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(views[:, 0], own.encode_image(PIXELS), rtol=0, atol=TOLERANCE)


def test_every_text_reaches_the_right_token(tmp_path: Path) -> None:
    """OpenAI's vocabulary without tokenizer files: open_clip's own tokenizer has it."""
    model = save_clip(tmp_path)
    own = load(f"local-dir:{tmp_path}")
    ids = own._need_tokenizer()(TEXTS)
    assert ids.shape == (len(TEXTS), 16)
    torch.testing.assert_close(own.encode_text(TEXTS), text_features(model, ids), rtol=0, atol=TOLERANCE)
