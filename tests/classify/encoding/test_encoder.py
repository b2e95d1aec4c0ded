"""Encoding views: many crops in several threads against one crop after the other."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support import GOLDEN, ImagesInMemory
from torch import Tensor

from abs_classify.encoding.accelerator import Accelerator
from abs_classify.encoding.encoder import (
    EncodedImage,
    EncodingRequest,
    _Encoder,
    _on_accelerator,
    _on_cpu,
    encode_images,
    stream_images,
)
from abs_classify.images import LoadedImage
from abs_classify.methods.similarity import unit
from abs_classify.methods.views import (
    AttentionCrops,
    FeatureWindows,
    FullImage,
    Geometry,
    RandomCrops,
    RandomResizedCrops,
    ViewSource,
    place_views,
)
from abs_classify.models.attention import load_attention
from abs_classify.models.base import Model, input_size
from abs_classify.models.open_clip import OpenClipModel
from abs_core.errors import ModelError

DINO = GOLDEN / "models" / "dino"
VIEWS: tuple[ViewSource, ...] = (
    FullImage(), RandomCrops(5), RandomResizedCrops(4), AttentionCrops(7), FeatureWindows(9)
)  # fmt: skip


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(golden_photos: list[Image.Image]) -> list[LoadedImage]:
    """Ten, so that they come in two groups."""
    turned = [photo.transpose(Image.Transpose.ROTATE_90) for photo in golden_photos]
    return [LoadedImage(f"sha256:{at:064}", photo) for at, photo in enumerate(golden_photos + turned)]


def one_by_one(model: OpenClipModel, image: LoadedImage, attention: Tensor) -> dict[ViewSource, Tensor]:
    """The features of one image, a crop at a time."""
    pixels = model.preprocess(image.pixels)[None]
    placed = place_views(Geometry.of(model), attention.numpy(), image.id, image.pixels.size, VIEWS)
    features = {}
    for view, rows in placed.items():
        if isinstance(view, FullImage):
            raw = model.network.encode_image(pixels, normalize=False)
        elif isinstance(view, FeatureWindows):
            raw = model.pool_windows_by_block(model.tokens(pixels), torch.from_numpy(rows)[None])[0]
        else:
            crops = [image.pixels.crop(tuple(row[:4])) for row in rows.tolist()]
            if isinstance(view, RandomResizedCrops):
                crops = [crop.resize((224, 224), Image.Resampling.BILINEAR) for crop in crops]
                pairs = zip(crops, rows[:, 4].tolist(), strict=True)
                crops = [ImageOps.mirror(crop) if is_mirrored else crop for crop, is_mirrored in pairs]
                assert {0, 1} >= set(rows[:, 4].tolist())
            raw = torch.cat([model.encode_image(model.preprocess_crop(crop)[None]) for crop in crops])
        features[view] = unit(raw)
    return features


@pytest.mark.parametrize("name", ["dino", "self"])
@pytest.mark.slow
def test_threads_and_batches_give_what_single_crops_give(
    golden_model: Callable[[int], Any], images: list[LoadedImage], name: str
) -> None:
    model = golden_model(14)
    source = load_attention("self" if name == "self" else f"dino:{DINO}", model)
    encoded = encode_images(model, source, iter(images), VIEWS)
    assert encoded.attention is not None
    with torch.inference_mode():
        for at, image in enumerate(images):
            alone = source.attend(ImagesInMemory([image.pixels], model))[0]
            assert (encoded.attention[at] - alone).abs().max() < 2e-6
            for view, expected in one_by_one(model, image, encoded.attention[at]).items():
                assert (encoded.features[view][at] - expected).abs().max() < 2e-6, view
                # the crops of an image differ by far more than the two ways do
                assert view.count == 1 or (expected - expected.mean(0)).abs().max() > 1e-3, view


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 64), (1, 1), (2, 3), (8, 64), (16, 64)])
@pytest.mark.slow
def test_neither_threads_nor_batches_nor_groups_matter(
    golden_model: Callable[[int], Any], images: list[LoadedImage], threads: int, batch_size: int
) -> None:
    model = golden_model(7)
    source = load_attention("self", model)
    expected = encode_images(model, source, images, VIEWS)
    torch.set_num_threads(threads)
    encoded = encode_images(model, source, images, VIEWS, batch_size=batch_size)
    alone = encode_images(model, source, images[9:], VIEWS, batch_size=batch_size)
    for view in VIEWS:
        assert (encoded.features[view] - expected.features[view]).abs().max() < 2e-6
        assert (alone.features[view][0] - expected.features[view][9]).abs().max() < 2e-6


@pytest.mark.parametrize("batch_size", [64, 4])
@pytest.mark.parametrize("name", ["dino", "self"])
@pytest.mark.slow
def test_what_an_accelerator_is_told_gives_the_same(
    golden_model: Callable[[int], Any], images: list[LoadedImage], name: str, batch_size: int
) -> None:
    # the calls that a device gets, made on the processor; whether the device does them right shows only on one
    model = golden_model(14)
    source = load_attention("self" if name == "self" else f"dino:{DINO}", model)
    images = images[:6]
    expected = encode_images(model, source, images, VIEWS)
    assert expected.attention is not None
    for known in ([None] * 6, expected.attention):
        encoder = _Encoder(model, Geometry.of(model, input_size(model)), source, VIEWS, 0, batch_size)
        requests = [EncodingRequest(image, attention=mapped) for image, mapped in zip(images, known, strict=True)]
        groups = list(_on_accelerator(encoder, requests, Accelerator.of(model, batch_size)))
        assert [len(group) for group in groups] == ([6] if batch_size == 64 else [4, 2])
        encoded = [image for group in groups for image in group]
        maps = torch.stack([image.attention for image in encoded if image.attention is not None])
        torch.testing.assert_close(maps, expected.attention, rtol=0, atol=2e-6)
        for view in VIEWS:
            features = torch.stack([image.features[view] for image in encoded])
            torch.testing.assert_close(features, expected.features[view], rtol=0, atol=2e-6)


def _on_device(encoder: _Encoder, requests: Iterable[EncodingRequest]) -> Iterator[list[EncodedImage]]:
    return _on_accelerator(encoder, requests, Accelerator.of(encoder.model, encoder.batch_size))


@pytest.mark.parametrize("run", [_on_cpu, _on_device])
def test_only_the_views_after_the_known_ones_are_encoded(
    golden_model: Callable[[int], Any], images: list[LoadedImage], run: Any
) -> None:
    model = golden_model(14)
    source = load_attention("self", model)
    expected = encode_images(model, source, images[:6], VIEWS)
    assert expected.attention is not None
    knowledge = [{}, {VIEWS[0]: 1}, {VIEWS[1]: 5, VIEWS[2]: 4}, dict.fromkeys(VIEWS, 1), {VIEWS[3]: 20}, {VIEWS[2]: 2}]
    requests = [
        EncodingRequest(image, known, expected.attention[number] if number % 2 else None)
        for number, (image, known) in enumerate(zip(images[:6], knowledge, strict=True))
    ]
    encoder = _Encoder(model, Geometry.of(model, input_size(model)), source, VIEWS, 0, 64)
    encoded = [image for group in run(encoder, requests) for image in group]
    for number, (image, known) in enumerate(zip(encoded, knowledge, strict=True)):
        for view in VIEWS:
            rows = expected.features[view][number][known.get(view, 0) :]
            torch.testing.assert_close(image.features[view], rows, rtol=0, atol=2e-6)


def test_attention_is_computed_for_views_that_need_it_and_no_others(
    golden_model: Callable[[int], Any], images: list[LoadedImage]
) -> None:
    model, view = golden_model(14), AttentionCrops(3)

    class NoBackend:
        def attend(self, *_: Any) -> Tensor:
            raise AssertionError("no guided view is missing")

    requests = [EncodingRequest(images[0], {view: 3})]
    (encoded,) = stream_images(model, cast("Any", NoBackend()), requests, [FullImage(), view])
    assert encoded.attention is None
    assert [len(encoded.features[source]) for source in (FullImage(), view)] == [1, 0]
    with pytest.raises(ModelError, match="attention backend"):
        list(stream_images(model, None, [EncodingRequest(images[0], {view: 2})], [view]))


def test_a_model_without_tokens_encodes_in_threads_too(
    family_model: Callable[[str], Any], images: list[LoadedImage]
) -> None:
    model = OpenClipModel.from_model(family_model("ResNet"), name="ResNet")
    views = (FullImage(), RandomCrops(3))
    encoded = encode_images(model, None, images, views)
    pixels = torch.stack([model.preprocess(image.pixels) for image in images])
    torch.testing.assert_close(encoded.features[views[0]][:, 0], unit(model.encode_image(pixels)), rtol=0, atol=2e-6)
    assert encoded.features[views[1]].shape == (10, 3, model.embed_dim)
    assert encoded.attention is None


@pytest.mark.parametrize(("threads", "count"), [(2, 9), (3, 3), (8, 5)])
def test_threads_encode_side_by_side(threads: int, count: int) -> None:
    torch.set_num_threads(threads)
    together = threading.Barrier(min(threads, count), timeout=60)

    class Meeting(_SmallModel):
        def encode_image(self, pixels: Tensor) -> Tensor:
            if self.passes < together.parties:
                self.passes += 1
                together.wait()
            return super().encode_image(pixels)

    images = [LoadedImage(str(at), Image.new("RGB", (16, 16), (at, 20, 30))) for at in range(count)]
    encoded = encode_images(cast("Model", Meeting()), None, images, [FullImage()])
    assert encoded.features[FullImage()].shape == (count, 1, 3)


def test_large_images_go_in_smaller_groups() -> None:
    torch.set_num_threads(1)
    model = _SmallModel()
    sides = [100, 100, 3000, 3000, 100, 100, 100, 100, 100]
    images = [LoadedImage(str(at), Image.new("RGB", (side, side), "red")) for at, side in enumerate(sides)]
    encoder = _Encoder(cast("Model", model), Geometry(0, 1.0), None, [FullImage()], 0, 64)
    assert [len(group) for group in _on_cpu(encoder, map(EncodingRequest, images))] == [4, 4, 1]
    assert [len(group) for group in _on_cpu(encoder, map(EncodingRequest, images[2:4] * 2))] == [2, 2]


@pytest.mark.slow
def test_large_images_are_taken_a_group_for_each_thread() -> None:
    taken = 0

    def images() -> Iterator[LoadedImage]:
        nonlocal taken
        for taken in range(1, 31):
            yield LoadedImage(str(taken), Image.new("RGB", (3000, 3000), "red"))

    sizes = []
    encoder = _Encoder(cast("Model", _SmallModel()), Geometry(0, 1.0), None, [FullImage()], 0, 64)
    for group in _on_cpu(encoder, map(EncodingRequest, images())):
        sizes.append(len(group))
        # two in a group; three threads, a group more, and the one that is given
        assert taken <= sum(sizes) + 2 * 4
    assert sizes == [2] * 15


def test_images_are_let_go_when_their_features_were_given() -> None:
    made: list[weakref.ref[Image.Image]] = []

    def images() -> Iterator[LoadedImage]:
        for at in range(60):
            image = Image.new("RGB", (16, 16), (at, 20, 30))
            made.append(weakref.ref(image))
            yield LoadedImage(str(at), image)

    requests = map(EncodingRequest, images())
    stream = stream_images(cast("Model", _SmallModel()), None, requests, [FullImage(), RandomCrops(5)])
    for _ in range(20):
        next(stream)
    assert [ref() for ref in made[:12]] == [None] * 12
    stream.close()  # type: ignore[attr-defined]


def test_the_crops_of_few_images_are_cut_for_all_threads() -> None:
    torch.set_num_threads(8)
    sizes: list[int] = []

    class Counting(_SmallModel):
        def encode_image(self, pixels: Tensor) -> Tensor:
            sizes.append(len(pixels))
            return super().encode_image(pixels)

    images = [LoadedImage(str(at), Image.new("RGB", (16, 16), (at, 20, 30))) for at in range(3)]
    encode_images(cast("Model", Counting()), None, images, [RandomCrops(40)])
    # of each image two for each of the eight threads
    assert sorted(sizes) == sorted([2, 3, 2, 3, 2, 3, 2, 3] * 2 * 3)


def test_a_stream_that_is_left_leaves_no_threads() -> None:
    before = set(threading.enumerate())
    requests = (EncodingRequest(LoadedImage("x", Image.new("RGB", (16, 16), "red"))) for _ in itertools.count())
    stream = stream_images(cast("Model", _SmallModel()), None, requests, [FullImage(), RandomCrops(5)])
    assert next(stream).features[RandomCrops(5)].shape == (5, 3)
    stream.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == 3


class _SmallModel:
    """A model whose features are the mean colour, with nothing to load."""

    name, embed_dim, grid, crop_fraction = "small", 3, 0, 1.0
    device = torch.device("cpu")
    passes = 0

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1)

    preprocess_crop = preprocess

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


def test_crops_have_their_own_preprocessing_and_the_full_image_has_not() -> None:
    class TwoWays(_SmallModel):
        def preprocess_crop(self, image: Image.Image) -> Tensor:
            return self.preprocess(image).flip(0)

    images = [LoadedImage("sha256:1", Image.new("RGB", (16, 16), (200, 40, 10)))]
    model = cast("Model", TwoWays())
    views: list[ViewSource] = [FullImage(), RandomCrops(4), AttentionCrops(4, guided=False)]
    encoded = encode_images(model, None, images, views)
    colour = unit(torch.tensor([200.0, 40.0, 10.0]))
    torch.testing.assert_close(encoded.features[views[0]], colour.expand(1, 1, 3))
    for view in views[1:]:
        torch.testing.assert_close(encoded.features[view], colour.flip(0).expand(1, 4, 3))


def test_given_attention_maps_are_used_and_the_backend_is_not_asked() -> None:
    class NoBackend:
        name, grid, digest = "none", 2, ""

        def attend(self, images: object) -> Tensor:
            raise AssertionError("the maps are there")

    picture = Image.new("RGB", (40, 40), "red")
    picture.paste("blue", (20, 0, 40, 40))
    images = [LoadedImage(f"sha256:{number}", picture) for number in range(5)]
    maps = torch.zeros(5, 2, 2)
    for number in range(5):
        maps[number, 0, number % 2] = 1
    view = AttentionCrops(3, top_k=1, ratio=(0.1, 0.2))
    encoded = encode_images(cast("Model", _SmallModel()), NoBackend(), images, [view], attention=maps)
    assert encoded.attention is not None
    assert torch.equal(encoded.attention, maps)
    # the left half is red, the right one blue
    assert (encoded.features[view][..., 2] > 0.9).all(1).tolist() == [False, True, False, True, False]
    assert (encoded.features[view][..., 0] > 0.9).all(1).tolist() == [True, False, True, False, True]


def test_an_interruption_while_threads_end_is_not_swallowed(
    images: list[LoadedImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = (EncodingRequest(image) for image in images)
    encoded = stream_images(cast("Model", _SmallModel()), None, requests, [FullImage()])
    next(encoded)
    shutdown = ThreadPoolExecutor.shutdown

    def interrupted(*arguments: Any, **options: Any) -> None:
        shutdown(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoded.close()
