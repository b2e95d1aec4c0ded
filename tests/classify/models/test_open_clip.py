"""open_clip models behind the protocol: every family split at its last block, texts, digests."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from parity import within
from PIL import Image
from safetensors.torch import save_file
from tiny_open_clip import ARCH, CONFIG, folder_with_configuration, load
from torch import Tensor
from torch.nn.functional import normalize

from abs_classify.models.base import Model
from abs_classify.models.open_clip import OpenClipModel, _logit_scale
from abs_classify.models.registry import model_files
from abs_core.errors import ModelError

pytestmark = pytest.mark.usefixtures("no_network")


#: family -> how it pools, its prefix tokens, whether its feature windows are nearly free
FAMILIES = {
    "CLIP": ("token", 1, True),
    "CLIP with layer scale": ("token", 1, True),
    "CLIP, norm after pooling": ("token", 1, True),
    "CLIP with query and key norm": ("token", 1, False),
    "CLIPA": ("average", 1, False),
    "average after norm": ("average", 1, False),
    "CoCa": ("attention", 1, False),
    "CoCa without pooler": ("token", 1, True),
    "SigLIP": ("attention", 0, False),
    "SigLIP 2": ("attention", 0, False),
    "EVA01": ("token", 1, False),
    "EVA02": ("token", 1, False),
    "PE": ("attention", 1, False),
    "MobileCLIP2-L": ("token", 1, True),
    "registers": ("token", 5, True),
    "MobileCLIP-B": ("token", 1, True),
    "ViTamin": ("average", 0, False),
    "average of patches": ("average", 0, False),
    "relative positions": ("token", 1, False),
    "relative positions, shared": ("average", 0, False),
}


def image_pixels(model: OpenClipModel, images: int = 2) -> Tensor:
    size = model.network.visual.image_size
    side = size if isinstance(size, int) else size[0]
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_split_equals_the_model(family_model: Callable[[str], Any], family: str) -> None:
    network = family_model(family)
    model = OpenClipModel.from_model(network, name=family)
    pooling, prefix, fast = FAMILIES[family]
    assert model.split is not None
    assert (model.split.pooling, model.split.prefix, model.split.cls is not None) == (pooling, prefix, fast)
    pixels = image_pixels(model)
    with torch.inference_mode():
        own = network.encode_image(pixels, normalize=False)
    tokens = model.tokens(pixels)
    assert tokens.shape[1] == prefix + model.grid**2
    assert own.shape == (2, model.embed_dim)
    for features in (model.pool(tokens), model.encode_image(pixels), model.split.finish(tokens)):
        assert within(
            "models split at the last block",
            f"{family}: {pooling}, {'exact short cut' if fast else 'whole block'}",
            float((features - own).abs().max()),
            1e-5,
        )
    assert (own[0] - own[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_window_of_the_whole_grid_is_the_whole_image(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    tokens, g = model.tokens(image_pixels(model)), model.grid
    windows = torch.tensor([[[0, g, 0, g], [1, g - 1, 0, g // 2]]]).expand(2, -1, -1)
    views, whole = model.pool_windows(tokens, windows), model.pool(tokens)
    assert views.shape == (2, 2, model.embed_dim)
    assert (views[:, 0] - whole).abs().max() < 1e-5
    assert (normalize(views[:, 1], dim=-1) - normalize(whole, dim=-1)).abs().max() > 1e-4
    by_block = model.pool_windows_by_block(tokens, windows)
    assert (normalize(views, dim=-1) - normalize(by_block, dim=-1)).abs().max() < 1e-6


@pytest.mark.parametrize("family", ["ResNet", "ConvNeXt", "MobileCLIP-S"])
def test_a_model_without_tokens_says_so_and_encodes(family_model: Callable[[str], Any], family: str) -> None:
    network = family_model(family)
    model = OpenClipModel.from_model(network, name=family)
    assert model.grid == 0
    assert model.attention_backends() == {}
    pixels = image_pixels(model)
    with torch.inference_mode():
        own = network.encode_image(pixels, normalize=False)
    torch.testing.assert_close(model.encode_image(pixels), own)
    assert own.shape[1] == model.embed_dim
    for ask in (lambda: model.tokens(pixels), lambda: model.pool_windows(own, own), lambda: model.pool(own)):
        with pytest.raises(ModelError, match="no feature windows"):
            ask()


@pytest.mark.parametrize("family", ["CLIP", "EVA02", "SigLIP", "average of patches"])
def test_low_precision_weights_give_float32_features_nearby(family_model: Callable[[str], Any], family: str) -> None:
    import copy

    model = family_model(family)
    exact = OpenClipModel.from_model(model, name=family)
    low = OpenClipModel.from_model(copy.deepcopy(model), name=family, dtype="bfloat16")
    pixels = image_pixels(exact)
    features, ours = exact.encode_image(pixels), low.encode_image(pixels)
    assert low.dtype == torch.bfloat16
    assert ours.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(features, ours).min() > 0.99
    assert exact.digest != low.digest


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ({}, True),
        ({"proj_bias": True}, True),
        ({"pool_type": "last", "no_causal_mask": True}, False),
        ({"pool_type": "eos"}, False),
        ({"embed_cls": True}, False),
    ],
)
def test_texts_without_their_padding_are_what_the_model_computes(text: dict[str, Any], cut: bool) -> None:
    from open_clip.model import CLIP, CustomTextCLIP

    text_cfg = {**CONFIG["text_cfg"], "vocab_size": 50, **text}
    kinds = [CustomTextCLIP] if text.get("embed_cls") else [CLIP, CustomTextCLIP]
    for kind in kinds:
        torch.manual_seed(4)
        model = OpenClipModel.from_model(kind(24, CONFIG["vision_cfg"], text_cfg).eval(), name="texts")
        ids = torch.randint(3, 48, (9, 12), generator=torch.Generator().manual_seed(2))
        for row, end in enumerate([3, 11, 2, 5, 5, 7, 4, 6, 9]):
            ids[row, end], ids[row, end + 1 :] = 49, 0
        with torch.inference_mode():
            own = model.network.encode_text(ids, normalize=False)
        assert (model._cut_encoder is not None) == cut
        torch.testing.assert_close(model.encode_tokens(ids), own, rtol=0, atol=1e-5)


def test_models_satisfy_the_protocol(family_model: Callable[[str], Any]) -> None:
    assert isinstance(OpenClipModel.from_model(family_model("CLIP"), name="CLIP"), Model)


def test_a_checkpoint_of_ones_own(tiny: Any, checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    assert (model.grid, model.embed_dim, model.context_length, model.crop_fraction) == (4, 24, 12, 1.0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))
    pixels = model.preprocess(image)
    assert pixels.shape == (3, 32, 32)
    assert torch.equal(pixels, model.preprocess_crop(image))
    with torch.inference_mode():
        own = tiny.encode_image(pixels[None])
        words = tiny.encode_text(open_clip.get_tokenizer(ARCH)(["a photo of a cat", "x " * 50]))
    torch.testing.assert_close(model.encode_image(pixels[None]), own, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode_text(["a photo of a cat", "x " * 50]), words)
    assert model_files(f"{ARCH}@{checkpoint}") == (checkpoint,)


def test_texts_in_batches(tiny: Any, checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    texts = [f"number {'x ' * (i % 12)} {i}" for i in range(300)]
    features = model.encode_text(texts)
    with torch.inference_mode():
        own = tiny.encode_text(open_clip.get_tokenizer(ARCH)(texts))
    torch.testing.assert_close(features, own, rtol=0, atol=1e-5)
    assert (own[:-1] - own[1:]).abs().max() > 0.01
    assert model.encode_text([]).shape == (0, 24)


def test_tokens_are_counted_before_cutting(checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    assert model.count_tokens("a photo of a cat") == 7
    assert model.count_tokens("cat " * 40) == 42
    assert model.count_tokens("") == 2


def test_digests_tell_apart_what_computes_otherwise(tiny: Any, checkpoint: Path, tmp_path: Path) -> None:
    changed = {**tiny.state_dict(), "visual.proj": tiny.state_dict()["visual.proj"] + 1e-6}
    save_file(changed, tmp_path / "changed.safetensors")
    digests = [
        load(f"{ARCH}@{checkpoint}").digest,
        load(f"{ARCH}-quickgelu@{checkpoint}").digest,
        load(f"{ARCH}@{checkpoint}", dtype="bfloat16").digest,
        load(f"{ARCH}@{tmp_path / 'changed.safetensors'}").digest,
    ]
    assert len(set(digests)) == 4
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(checkpoint.read_bytes())
    assert load(f"{ARCH}@{moved}").digest == digests[0]


@pytest.mark.parametrize("setting", [{"mean": [0.4] * 3}, {"std": [0.5] * 3}, {"interpolation": "bicubic"}])
def test_the_digest_names_the_preprocessing(tiny: Any, tmp_path: Path, setting: dict[str, Any]) -> None:
    path = folder_with_configuration(tiny, tmp_path / "model") / "open_clip_config.json"
    before = load(f"local-dir:{path.parent}").digest
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "preprocess_cfg": {**content["preprocess_cfg"], **setting}}))
    assert load(f"local-dir:{path.parent}").digest != before


def test_digests_of_models_in_memory(tiny: Any) -> None:
    import copy

    quick = open_clip.create_model(f"{ARCH}-quickgelu")
    quick.load_state_dict(tiny.state_dict())
    same, other = (OpenClipModel.from_model(each, name="x").digest for each in (copy.deepcopy(tiny), quick))
    assert same == OpenClipModel.from_model(tiny, name="another name").digest
    assert same != other


def test_a_model_without_a_tokenizer(tiny: Any) -> None:
    model = OpenClipModel.from_model(tiny, name="tiny")
    for ask in (lambda: model.encode_text(["a"]), lambda: model.count_tokens("a")):
        with pytest.raises(ModelError, match="without a tokenizer"):
            ask()
    assert model.encode_tokens(torch.zeros(2, 12, dtype=torch.int64)).shape == (2, 24)


def test_the_factor_of_similarities_is_that_of_the_network() -> None:
    network = torch.nn.Module()
    assert _logit_scale(network) == 100
    for logarithm, scale in ((math.log(80), 80), (0.0, 100), (math.inf, 100), (math.nan, 100), (60.0, 100)):
        network.logit_scale = torch.nn.Parameter(torch.tensor(logarithm))
        assert _logit_scale(network) == pytest.approx(scale)
