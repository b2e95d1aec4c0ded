"""Classifying with a cache, from data sets, past unreadable images, and by a model's name: the same predictions."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import GOLDEN, save_small_clip

from abs_classify.classifier import Classifier, Prediction
from abs_classify.datasets import Sample
from abs_classify.models.deferred import DeferredModel
from abs_classify.models.registry import load_model
from abs_classify.report.contents import write_classification_report, write_explanation_pictures
from abs_core.descriptions import LabelSpace
from abs_core.errors import ImageError, UnknownNameError, UsageError
from abs_core.labels import from_names

CLASSES = {"tabby": ("A tabby cat has stripes.", "A cat lies on a sofa."), "toaster": ("A toaster holds two slices.",)}
PHOTOS = sorted((GOLDEN / "photos").glob("*.png"))


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}"


@pytest.fixture(scope="module")
def build(name: str) -> Callable[..., Classifier]:
    model = load_model(name)

    def classifier(**options: Any) -> Classifier:
        views = None if options.get("method") in ("clip", "onzeta") else 4
        return Classifier(model, CLASSES, **{"attention": "self", "views": views, **options})

    return classifier


def same(left: Sequence[Prediction], right: Sequence[Prediction]) -> bool:
    """Whether both are of the same images, with the same classes and, but for rounding, the same scores."""
    return len(left) == len(right) and all(
        (ours.image_name, ours.image_id) == (theirs.image_name, theirs.image_id)
        and [ranked.class_id for ranked in ours.ranking] == [ranked.class_id for ranked in theirs.ranking]
        and scores_of(ours) == pytest.approx(scores_of(theirs), abs=1e-5)
        for ours, theirs in zip(left, right, strict=True)
    )


def scores_of(prediction: Prediction) -> list[float]:
    return [ranked.score for ranked in prediction.ranking]


@pytest.mark.parametrize("method", ["abs", "clip", "onzeta"])
def test_a_cache_changes_no_prediction_and_is_not_asked_twice(
    build: Callable[..., Classifier], tmp_path: Path, method: str
) -> None:
    plain = list(build(method=method).classify(PHOTOS, explain=True))
    for is_new in (True, False):
        run = build(method=method, cache=tmp_path).classify(PHOTOS, explain=True)
        cached = list(run)
        assert same(plain, cached)
        assert [prediction.explanation.margin for prediction in cached if prediction.explanation] == pytest.approx(
            [prediction.explanation.margin for prediction in plain if prediction.explanation], abs=1e-5
        )
        assert run.work.images == len(PHOTOS)
        assert (run.work.images_computed, run.work.views_computed) == (
            (len(PHOTOS), run.work.views) if is_new else (0, 0)
        )
        assert run.work.texts_computed == (run.work.texts if is_new else 0)
        assert run.work.texts


def test_without_a_cache_nothing_is_written(
    build: Callable[..., Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(list(build().classify(PHOTOS))) == len(PHOTOS)
    assert list(tmp_path.iterdir()) == []


def test_entries_of_a_data_set_are_images_too(build: Callable[..., Classifier]) -> None:
    classifier = build(method="clip")
    samples = [Sample(path, "a label that is not read") for path in PHOTOS]
    assert same(list(classifier.classify(samples)), list(classifier.classify(PHOTOS)))


@pytest.mark.parametrize("source", [list, iter])
@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_images_are_skipped_on_request(
    build: Callable[..., Classifier], tmp_path: Path, source: Callable[[list[Any]], Any], cached: bool
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(PHOTOS[0].read_bytes()[:100])
    classifier = build(method="clip", cache=tmp_path / "cache" if cached else None)
    images = [PHOTOS[0], bad, PHOTOS[1], tmp_path / "gone.png", b"no image", *PHOTOS[2:]]
    run = classifier.classify(source(images), on_error="skip")
    assert same(list(run), list(classifier.classify(PHOTOS)))
    assert [image.name for image in run.skipped] == [str(bad), str(tmp_path / "gone.png"), "image bytes"]
    assert "cut off" in run.skipped[0].reason
    assert "no such file" in run.skipped[1].reason


@pytest.mark.parametrize("method", ["clip", "onzeta"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_images_before_one_that_is_not_there_have_their_predictions(
    build: Callable[..., Classifier], tmp_path: Path, method: str, place: int
) -> None:
    images = list(PHOTOS)
    images[place] = tmp_path / "gone.png"
    run = build(method=method, cache=tmp_path / "cache").classify(images)
    assert [next(run).image_name for _ in range(place)] == [str(path) for path in PHOTOS[:place]]
    with pytest.raises(ImageError, match=r"gone\.png.*no such file"):
        next(run)


def test_a_model_is_loaded_by_name_when_there_is_something_to_compute(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "clip", "cache": tmp_path}
    first = Classifier(name, CLASSES, **options)
    assert "model" not in vars(first.stages.models)
    predictions = list(first.classify(PHOTOS))
    assert "model" in vars(first.stages.models)
    second = Classifier(name, CLASSES, **options)
    assert same(predictions, list(second.classify(PHOTOS)))
    assert "model" not in vars(second.stages.models)  # everything came from the cache


def test_wrong_names_are_found_before_anything_is_loaded(name: str, build: Callable[..., Classifier]) -> None:
    with pytest.raises(UnknownNameError, match="magic"):
        Classifier("magic", ["cat", "dog"])
    with pytest.raises(UnknownNameError, match="attention backend 'magic'"):
        Classifier(name, ["cat", "dog"], method="clip", attention="magic")
    with pytest.raises(UsageError, match="has no effect"):
        build(method="clip", views=3)
    deferred: DeferredModel = build().stages.models
    with pytest.raises(UsageError, match="attention backend of its own"):
        Classifier(deferred, ["cat", "dog"], attention="none")


def test_a_label_space_is_taken_as_it_is(name: str) -> None:
    space = LabelSpace.of_labels(from_names(["red fox", "owl"]))
    classifier = Classifier(name, space, method="clip", names={"owl": "barn owl"})
    assert dict(classifier.names) == {"red_fox": "red fox", "owl": "barn owl"}
    assert classifier.label_space.source == space.source
    (prediction,) = classifier.classify(PHOTOS[:1], top=9)
    assert {ranked.name for ranked in prediction.ranking} == {"red fox", "barn owl"}


def test_a_page_and_pictures_of_predictions_that_nothing_was_stored_of(
    build: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier = build()
    predictions = list(classifier.classify(PHOTOS, top=1))
    page = write_classification_report(classifier, predictions[1:3], tmp_path / "page.html", command=["abs"])
    text = page.read_text(encoding="utf-8")
    assert [path.name in text for path in PHOTOS[:4]] == [False, True, True, False]
    assert write_explanation_pictures(classifier, predictions[:2], tmp_path / "pictures") == 2
    with Image.open(tmp_path / "pictures" / f"0001-{PHOTOS[0].stem}.png") as picture:
        assert min(picture.size) > 100


def test_predictions_of_an_iterator_keep_no_image(build: Callable[..., Classifier], tmp_path: Path) -> None:
    classifier = build(method="clip")
    frames: list[weakref.ref[Image.Image]] = []

    def camera() -> Iterator[Image.Image]:
        for path in PHOTOS:
            frame = Image.open(path).convert("RGB")
            frames.append(weakref.ref(frame))
            yield frame

    predictions = list(classifier.classify(camera()))
    gc.collect()
    assert [frame() for frame in frames] == [None] * len(PHOTOS)
    with pytest.raises(UsageError, match="came from an iterator"):
        write_classification_report(classifier, predictions, tmp_path / "page.html")
