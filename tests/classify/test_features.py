"""Features of images and classes: those that the encoder and the classifier compute, with their ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support import GOLDEN, save_small_clip

from abs_classify import Classifier, encode, encode_batches
from abs_classify.datasets import Dataset, Sample, open_dataset
from abs_classify.encoding.encoder import encode_images
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.last_run import read_last_run
from abs_classify.images import load_image
from abs_classify.methods.similarity import unit
from abs_classify.methods.views import AttentionCrops, FeatureWindows, FullImage
from abs_classify.models.attention import load_attention
from abs_classify.models.registry import load_model
from abs_core.errors import DatasetError, ImageError, UnknownNameError, UsageError
from abs_core.text import format_bytes

CLASSES = {"tabby": ("A tabby cat has stripes.", "A cat lies on a sofa."), "toaster": ("A toaster holds two slices.",)}
PHOTOS = sorted((GOLDEN / "photos").glob("*.png"))


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}"


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    return load_model(name)


def near(left: Any, right: Any) -> bool:
    return np.shape(left) == np.shape(right) and bool(np.allclose(left, right, atol=1e-6))


def test_a_row_is_the_unit_feature_of_the_full_image(model: Any) -> None:
    encoded = encode(PHOTOS, model=model)
    loaded = [load_image(path) for path in PHOTOS]
    assert near(encoded.features, encode_images(model, None, loaded, [FullImage()]).features[FullImage()][:, 0])
    assert encoded.features.dtype == np.float32
    assert near(np.linalg.norm(encoded.features, axis=1), np.ones(len(PHOTOS)))
    assert list(encoded.ids) == [image.id for image in loaded]
    assert list(encoded.names) == [str(path) for path in PHOTOS]
    assert encoded.classes is None
    assert encoded.work.images == len(PHOTOS)


def test_views_of_a_method_and_their_mean(model: Any) -> None:
    sources = [AttentionCrops(3), FeatureWindows(3)]
    backend = load_attention("self", model)
    by_source = encode_images(model, backend, [load_image(path) for path in PHOTOS], sources).features
    views = torch.cat([by_source[source] for source in sources], dim=1)
    options: dict[str, Any] = {"model": model, "attention": "self", "views": 3}
    encoded = encode(PHOTOS, of="views", **options)
    assert near(encoded.features, views)
    assert [(view["kind"], view["count"]) for view in encoded.info["views"]] == [("box", 3), ("window", 3)]
    assert near(encode(PHOTOS, of="mean", **options).features, unit(views.mean(1)))
    crops = encode(PHOTOS, of="views", method="abs-pixels", **options)
    assert near(crops.features, views[:, :3])
    assert not near(encode(PHOTOS, of="views", seed=1, **options).features, views)


def test_classes_are_those_of_the_classifier(model: Any) -> None:
    texts = Classifier(model, CLASSES, method="cupl").text_features
    classes = encode(PHOTOS[:1], CLASSES, model).classes
    assert classes is not None
    assert near(classes.features, texts.means)
    assert (list(classes.ids), classes.texts) == (["tabby", "toaster"], None)
    each = encode(PHOTOS[:1], CLASSES, model, class_rows="each").classes
    assert each is not None
    assert near(each.features, texts.features)
    assert (list(each.ids), list(each.texts or ())) == (
        ["tabby", "tabby", "toaster"],
        [*CLASSES["tabby"], *CLASSES["toaster"]],
    )
    template = encode(PHOTOS[:1], CLASSES, model, method="clip", class_rows="each").classes
    assert template is not None
    assert list(template.texts or ()) == ["a photo of a tabby.", "a photo of a toaster."]
    ensemble = encode(PHOTOS[:1], CLASSES, model, method="clip-e", templates="dtd", class_rows="each").classes
    assert ensemble is not None
    assert any("texture" in text for text in ensemble.texts or ())
    predictions = Classifier(model, CLASSES, method="cupl").classify(PHOTOS)
    best = (encode(PHOTOS, CLASSES, model).features @ classes.features.T).argmax(axis=1)
    assert [classes.ids[position] for position in best] == [prediction.class_id for prediction in predictions]


def test_rows_are_in_the_order_of_the_source_and_copies_have_rows_of_their_own(model: Any, tmp_path: Path) -> None:
    for place, photo in (("b/2.png", 0), ("b/1.png", 1), ("a/copy.png", 0)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(PHOTOS[photo].read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    folder = encode(tmp_path, model=model)
    assert [Path(name).relative_to(tmp_path).as_posix() for name in folder.names] == [
        "a/copy.png", "b/1.png", "b/2.png",
    ]  # fmt: skip
    assert list(folder.labels) == ["", "", ""]
    assert [remark.kind for remark in folder.remarks] == ["left out: not an image"]
    assert folder.ids[0] == folder.ids[2]
    assert near(folder.features[0], folder.features[2])
    labelled = encode(f"imagefolder:{tmp_path}", model=model)
    assert list(labelled.labels) == ["a", "b", "b"]
    assert near(labelled.features, folder.features)
    dataset = open_dataset(f"imagefolder:{tmp_path}")
    assert list(encode(dataset, model=model).names) == list(labelled.names)


def test_images_of_any_kind_and_an_iterator_that_is_not_taken_ahead(model: Any) -> None:
    taken: list[int] = []

    def images() -> Iterator[Any]:
        for number in range(100):
            taken.append(number)
            yield PHOTOS[number % len(PHOTOS)].read_bytes()

    batches = encode_batches(images(), model=model)
    first = next(batches)
    assert len(taken) == len(first.ids) == 32
    batches.close()
    with Image.open(PHOTOS[0]) as image:
        mixed = encode([image, PHOTOS[0].read_bytes(), Sample(PHOTOS[0], "x")], model=model)
    assert len(set(mixed.ids)) == 1
    assert list(mixed.labels) == ["", "", "x"]
    assert near(mixed.features[0], first.features[0])


def test_what_another_run_encoded_is_not_encoded_again(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "abs_classify")
    list(Classifier(name, CLASSES, method="cupl", cache=tmp_path / "cache").classify(PHOTOS[:3]))
    first = encode(PHOTOS, CLASSES, name, cache=tmp_path / "cache")
    assert str(first.work) == f"{len(PHOTOS) - 3} of {len(PHOTOS)} images, {len(PHOTOS) - 3} of {len(PHOTOS)} views"
    assert "loading" in caplog.text
    caplog.clear()
    second = encode(PHOTOS, CLASSES, name, cache=DiskStore(tmp_path / "cache"))
    assert second.work.nothing
    assert "loading" not in caplog.text
    assert near(second.features, first.features)
    uses = read_last_run(tmp_path / "cache")
    assert uses is not None
    assert [use.rows for use in uses if use.space.stage == "view-features"] == [len(PHOTOS)]


def test_the_information_says_all_that_could_change_a_feature(name: str, tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache")
    encoded = encode(PHOTOS[:1], CLASSES, name, of="views", views=1, attention="self", seed=5, cache=store)
    json.dumps(encoded.info)
    stored = [summary.space for summary in store.summaries() if summary.space is not None]
    kept = [
        {"stage": space.stage, "version": space.version, "inputs": dict(space.inputs)}
        for space in stored
        if space.stage in ("view-features", "text-features")
    ]
    assert sorted(encoded.info["spaces"], key=str) == sorted(kept, key=str)
    assert encoded.info["spaces"][0]["inputs"]["seed"] == 5
    assert encoded.info["classes"]["rows"] == "mean"
    plain = encode(PHOTOS[:1], model=name, cache=store).info
    assert plain["classes"] is None
    assert [space["inputs"]["view"] for space in plain["spaces"]] == [{"kind": "whole"}]


@pytest.mark.parametrize("ending", ["npz", "parquet", "safetensors"])
def test_a_file_is_the_same_at_once_and_in_batches(model: Any, tmp_path: Path, ending: str) -> None:
    images = [*PHOTOS] * 8  # more than a batch
    whole, parts = tmp_path / f"whole.{ending}", tmp_path / f"parts.{ending}"
    saved = encode(images, CLASSES, model).save(whole)
    assert encode_batches(images, CLASSES, model).save(parts).images == saved.images == len(images)
    assert whole.read_bytes() == parts.read_bytes()


def test_a_disk_that_is_too_small_is_said_before_any_work(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 16 * 4 * len(PHOTOS)}))
    monkeypatch.setattr("abs_classify.encoding.store_limit._WORTH_A_WORD", 1)
    encode_batches(PHOTOS, model=model).save(tmp_path / "a.parquet")
    assert caplog.text == ""
    encode_batches(PHOTOS, model=model).save(tmp_path / "a.npz")
    assert f"needs up to {2 * 16 * 4 * len(PHOTOS)} B, and its disk has {16 * 4 * len(PHOTOS)} B free" in caplog.text
    caplog.clear()
    options: dict[str, Any] = {"of": "mean", "views": 2, "method": "abs-random", "cache": tmp_path / "cache"}
    encode([*PHOTOS, PHOTOS[0]], model=model, **options)
    assert f"this run adds up to {format_bytes(4 * 4 * 16 * len(PHOTOS))} to the cache" in caplog.text


def test_an_image_that_cannot_be_read_stops_or_is_named(model: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    batches = encode_batches([PHOTOS[0], bad, PHOTOS[1]], model=model)
    assert next(batches).names == [str(PHOTOS[0])]
    with pytest.raises(ImageError, match=r"bad\.png.*--on-error skip"):
        next(batches)
    skipping = encode([PHOTOS[0], bad, PHOTOS[1]], model=model, on_error="skip")
    assert list(skipping.names) == [str(PHOTOS[0]), str(PHOTOS[1])]
    assert [image.name for image in skipping.skipped] == [str(bad)]
    with pytest.raises(ImageError, match="none of the images could be read"):
        encode([bad], model=model, on_error="skip")
    cut = tmp_path / "cut.png"
    cut.write_bytes(PHOTOS[0].read_bytes()[:-2000])
    with pytest.raises(ImageError, match=r"cut\.png"):
        encode([cut], model=model)
    assert [remark.count for remark in encode([cut], model=model, truncated="accept").remarks] == [1]


def test_a_file_that_images_are_read_from_is_not_replaced(model: Any, tmp_path: Path) -> None:
    container = tmp_path / "photos.parquet"
    container.write_bytes(PHOTOS[0].read_bytes())
    dataset = Dataset("mine", (), [Sample(container, "")])
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (container, tmp_path / "link" / "photos.parquet"):
        with pytest.raises(UsageError, match="must not be a file that images are read from"):
            encode_batches(dataset, model=model).save(path)
    assert container.read_bytes() == PHOTOS[0].read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "crops"}, r"unknown kind of features 'crops'.*full-image, mean, views"),
        ({"class_rows": "all", "descriptions": ["cat"]}, r"unknown kind of class rows 'all'.*mean, each"),
        ({"class_rows": "each"}, "no classes to give each text of"),
        ({"views": 3}, "views has no effect on features of the full image"),
        ({"method": "abs"}, "method has no effect on features of the full image without classes"),
        ({"method": "abss", "of": "mean"}, "unknown method 'abss'"),
        ({"method": "clip", "of": "mean", "views": 3}, "views has no effect on the method 'clip'"),
        ({"of": "mean", "views": "adaptive", "descriptions": ["cat"]}, "must be a whole number"),
        ({"images": b"bytes"}, "must be a list of images, got one image"),
        ({"images": "nowhere"}, "unknown data set 'nowhere'"),
        ({"model": "ViT-B-99/openai"}, "ViT-B-99"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=message):
        encode_batches(**{"images": PHOTOS, **options})


def test_nothing_to_encode_is_an_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no images in"):
        encode(tmp_path, model=model)
    with pytest.raises(ImageError, match="there are no images"):
        encode([], model=model)


def test_where_nothing_is_kept_nothing_is_computed_twice(name: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(PHOTOS[0].read_bytes()[:200])
    store = DiskStore(tmp_path / "cache", limit=0)
    options: dict[str, Any] = {"of": "views", "method": "abs-pixels", "views": 2, "attention": "self"}
    encoded = encode([*PHOTOS, damaged], CLASSES, name, cache=store, on_error="skip", **options)
    assert near(encoded.features, encode(PHOTOS, model=name, **options).features)
    assert len(encoded.skipped) == 1
    work = encoded.work
    assert (work.images_computed, work.views_computed) == (len(PHOTOS), 2 * len(PHOTOS))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("ending", ["npz", "parquet", "safetensors"])
def test_parts_of_shares_are_the_file_of_all_images(name: str, tmp_path: Path, ending: str) -> None:
    def save(shard: str | None) -> Path:
        batches = encode_batches(PHOTOS, model=name, cache=tmp_path / "cache", shard=shard)
        return batches.save(tmp_path / f"f.{ending}").files[0]

    whole, parts = save(None), [save(f"{index}/3") for index in (1, 2, 3)]
    assert [part.name for part in parts] == [f"f-0000{index}-of-00003.{ending}" for index in (1, 2, 3)]
    tables = list(map(_rows, [whole, *parts]))
    assert [row for rows, _ in tables[1:] for row in rows] == tables[0][0]
    assert [info["share"]["index"] for _, info in tables[1:]] == [1, 2, 3]
    assert {info["share"]["images"] for _, info in tables[1:]} == {len(PHOTOS)}
    assert "share" not in tables[0][1]


def _rows(path: Path) -> tuple[list[Any], dict[str, Any]]:
    """Names and features of a file, and its information."""
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        names, features = table["path"].to_pylist(), table["features"].to_pylist()
        return list(zip(names, features, strict=True)), json.loads(table.schema.metadata[b"abs-features"])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            rows = list(zip(arrays["names"].tolist(), arrays["features"].tolist(), strict=True))
            return rows, json.loads(str(arrays["info"]))
    with safe_open(path, "np") as file:
        names = json.loads(file.get_tensor("names").tobytes())
        rows = list(zip(names, file.get_tensor("features").tolist(), strict=True))
        return rows, json.loads(file.metadata()["abs-features"])


def test_a_share_needs_as_many_images_as_shares_and_their_number(name: str) -> None:
    with pytest.raises(UsageError, match="a share needs images whose number is known"):
        encode_batches(iter(PHOTOS), model=name, shard="1/2")
    with pytest.raises(UsageError, match=f"the source has {len(PHOTOS)}"):
        encode_batches(PHOTOS, model=name, shard="1/99")
