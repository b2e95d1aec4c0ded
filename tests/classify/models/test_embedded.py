"""The embedded model against independent ways to compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn.functional import cosine_similarity, interpolate, normalize

from abs_classify.datasets import open_dataset
from abs_classify.models.attention import load_attention
from abs_classify.models.base import Model
from abs_classify.models.embedded import (
    EmbeddedAttention,
    EmbeddedModel,
    Semantics,
    build_anchors,
    cached_semantics,
    load_embedded_model,
    norm_map,
    window_weights,
)
from abs_classify.models.embedded_files import ImagenetTexts, find_embedded_files, imagenet_texts
from abs_classify.models.embedded_networks import EmbeddedTextEncoder
from abs_core.errors import StorageError, UnknownNameError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokens(model: EmbeddedModel, pixels: torch.Tensor) -> torch.Tensor:
    return model.tokens(pixels)


def texture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


# the model as a whole


def test_it_is_a_model(model: EmbeddedModel) -> None:
    assert isinstance(model, Model)
    assert (model.name, model.embed_dim, model.grid, model.device) == ("embedded", 384, 7, CPU)


def test_it_tells_most_demo_photos_among_17_classes(model: EmbeddedModel, tokens: torch.Tensor) -> None:
    dataset = open_dataset("demo")
    ids = list(dataset.names)
    texts = normalize(model.encode_text([f"a photo of a {name}." for name in dataset.names.values()]), dim=-1)
    best = (normalize(model.pool(tokens), dim=-1) @ texts.T).argmax(dim=1)
    right = {item.label for item, at in zip(dataset.samples, best.tolist(), strict=True) if ids[at] == item.label}
    assert {"cat", "cup_of_coffee", "rocket", "flower"} <= right
    assert len(right) >= 6


def test_no_step_asks_the_network(pixels: torch.Tensor, derived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda _, address: asked.append(address))
    model = load_embedded_model(cache_folder=derived)
    model.encode_image(pixels[:1])
    model.encode_text(["a cat"])
    attention = model.own_attention()
    attention.maps(attention.preprocess(texture(50, 40))[None])
    assert asked == []


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


def test_bfloat16_stays_close(model: EmbeddedModel, derived: Path, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    half = load_embedded_model(dtype="bfloat16", cache_folder=derived)
    feature = half.encode_image(pixels[:1])
    assert feature.dtype == torch.float32
    assert cosine_similarity(feature, model.pool(tokens[:1])).item() > 0.98


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


# feature windows


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


@pytest.mark.slow
def test_shipped_anchors_are_those_of_the_class_texts(model: EmbeddedModel) -> None:
    files, texts = find_embedded_files(), imagenet_texts()
    anchors, mean = build_anchors(texts, EmbeddedTextEncoder(files, CPU).encode)
    semantics = Semantics.of(anchors, mean)
    for name in ("anchors", "mean", "ridge"):
        assert (getattr(semantics, name) - getattr(model._semantics, name)).abs().max() < 1e-6, name


def test_anchors_of_other_class_texts_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, published = find_embedded_files(), imagenet_texts()
    texts = ImagenetTexts(published.names, ("another gloss", *published.glosses[1:]))
    numbers = normalize(torch.randn(1000, 384), dim=-1), torch.randn(384)
    calls: list[ImagenetTexts] = []

    def build(texts: ImagenetTexts, _: object) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(texts)
        return numbers

    monkeypatch.setattr("abs_classify.models.embedded.build_anchors", build)
    features = [EmbeddedModel(files, texts, CPU, torch.float32, tmp_path).encode_text(["a cat"]) for _ in range(2)]
    assert torch.equal(*features)
    assert calls == [texts]
    assert len(list(tmp_path.glob("embedded-anchors-*.safetensors"))) == 1
    assert EmbeddedModel(files, published, CPU, torch.float32, tmp_path).encode_text(["a cat"]).ne(features[0]).all()
    assert len(calls) == 1
