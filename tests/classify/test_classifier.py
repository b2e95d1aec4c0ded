"""The public door: predictions in order, ahead of slow ones but not of slow sources, and none lost to a bad image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import GOLDEN, save_small_clip

from abs_classify.classifier import Classifier
from abs_classify.encoding.encoder import encode_images
from abs_classify.images import load_image
from abs_classify.methods.table import get_method
from abs_classify.methods.views import FullImage
from abs_classify.models.registry import load_model
from abs_core.errors import ImageError, UsageError

CLASSES = {
    "tabby": ("A tabby cat has stripes.", "A cat lies on a sofa."),
    "toaster": ("A toaster holds two slices.",),
    "lemon": ("A lemon is yellow.",),
}
PHOTOS = sorted((GOLDEN / "photos").glob("*.png"))


def large_photo(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    return path


@pytest.fixture(params=[1, 2, 16])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Classifier]:
    """By the name of a method, with five views of each kind."""
    model = load_model(f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}")

    def build(name: str) -> Classifier:
        method = get_method(name)
        few = tuple(view if isinstance(view, FullImage) else replace(view, count=5) for view in method.views)
        names = {"tabby": "tabby cat"}
        return Classifier(model, CLASSES, method=replace(method, views=few), names=names, attention="self")

    return build


def test_predictions_are_those_of_the_parts(classifier: Callable[[str], Classifier], threads: int) -> None:
    abs_ = classifier("abs")
    files = [*PHOTOS, *PHOTOS[::-1]]
    predictions = list(abs_.classify(files, top=3))
    images = [load_image(path) for path in files]
    assert [prediction.image_id for prediction in predictions] == [image.id for image in images]
    encoded = encode_images(abs_.model, abs_.stages.models.attention_backend, images, abs_.method.views)
    scores = abs_.method.scorer.scores(abs_.method.views_by_kind(encoded.features), abs_.text_features)  # type: ignore[union-attr]
    for prediction, row in zip(predictions, scores.tolist(), strict=True):
        expected = sorted(zip(row, CLASSES, strict=True), reverse=True)
        assert [one.class_id for one in prediction.ranking] == [name for _, name in expected]
        assert [one.score for one in prediction.ranking] == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert {one.name for one in predictions[0].ranking} == {"tabby cat", "toaster", "lemon"}


def test_a_list_of_any_kind_and_an_iterator_give_the_same(classifier: Callable[[str], Classifier]) -> None:
    clip = classifier("clip")
    kinds: list[Any] = [list(PHOTOS), [str(path) for path in PHOTOS], [path.read_bytes() for path in PHOTOS]]
    kinds += [iter(PHOTOS), [load_image(path).pixels for path in PHOTOS]]
    found = [[prediction.ranking for prediction in clip.classify(images)] for images in kinds]
    for others in found[1:]:
        for ours, theirs in zip(found[0], others, strict=True):
            assert [one.class_id for one in ours] == [one.class_id for one in theirs]
            assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-6)


def test_a_pil_image_is_read_as_its_file_is(classifier: Callable[[str], Classifier], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(PHOTOS[0]).convert("RGB")
    wide = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    see_through = photo.copy()
    see_through.putalpha(photo.convert("L"))
    photo.save(tmp_path / "turned.jpg", exif=exif)
    wide.save(tmp_path / "wide.png")
    see_through.save(tmp_path / "see_through.png")
    clip = classifier("clip")
    files = sorted(tmp_path.iterdir())
    for ours, theirs in zip(clip.classify(files), clip.classify([Image.open(one) for one in files]), strict=True):
        assert [one.class_id for one in ours.ranking] == [one.class_id for one in theirs.ranking]
        assert [one.score for one in ours.ranking] == pytest.approx([one.score for one in theirs.ranking], abs=1e-6)
    (tmp_path / "cut.png").write_bytes((tmp_path / "wide.png").read_bytes()[:2000])
    with (
        Image.open(tmp_path / "cut.png") as cut,
        pytest.raises(ImageError, match=r"cut\.png' is cut off or damaged"),
    ):
        next(clip.classify([cut]))


def test_one_pil_image_may_stand_in_a_list_twice(
    classifier: Callable[[str], Classifier], tmp_path: Path, threads: int
) -> None:
    path = large_photo(tmp_path / "photo.jpg")
    plain = classifier("clip")
    (alone,) = plain.classify([Image.open(path)])
    for _ in range(3):
        opened = Image.open(path)
        for prediction in plain.classify([opened] * 8):
            assert prediction.image_id == alone.image_id


def test_an_iterator_is_not_run_far_ahead(classifier: Callable[[str], Classifier], threads: int) -> None:
    taken = 0

    def camera() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield PHOTOS[taken % len(PHOTOS)]

    predictions = classifier("clip").classify(camera())
    for number in range(1, 8):
        next(predictions)
        # what every thread holds, and one group more
        assert taken <= number + 4 * (threads + 1)
    predictions.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", [0, 1, 5, 9])
@pytest.mark.parametrize("source", [list, iter])
def test_the_images_before_a_bad_one_have_their_predictions(
    classifier: Callable[[str], Classifier], tmp_path: Path, place: int, source: Callable[[list[Path]], Any]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(PHOTOS[0].read_bytes()[:100])
    files = [*PHOTOS, *PHOTOS]
    files[place] = bad
    predictions = classifier("clip").classify(source(files))
    assert len([next(predictions) for _ in range(place)]) == place
    with pytest.raises(ImageError, match=r"bad\.png"):
        next(predictions)


def test_one_image_is_no_list(classifier: Callable[[str], Classifier]) -> None:
    for image in (PHOTOS[0], str(PHOTOS[0]), PHOTOS[0].read_bytes(), Image.new("RGB", (8, 8))):
        with pytest.raises(UsageError, match=r"classify\(\[image\]\)"):
            next(classifier("clip").classify(image))  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [0, -1])
def test_a_ranking_has_a_class(classifier: Callable[[str], Classifier], top: int) -> None:
    with pytest.raises(UsageError, match=f"top must be 1 or more, got {top}"):
        next(classifier("clip").classify(PHOTOS, top=top))


def test_ids_are_names_and_wrong_ones_are_refused(classifier: Callable[[str], Classifier]) -> None:
    model = classifier("clip").model
    assert Classifier(model, ["red_fox", "owl"], method="clip", names={"owl": "barn_owl"}).names == {
        "red_fox": "red fox",
        "owl": "barn_owl",
    }
    with pytest.raises(UsageError, match="the class 'cat' appears twice"):
        Classifier(model, ["cat", "dog", "cat"])
    with pytest.raises(UsageError, match="unknown class id in names 'c'; valid: cat, dog"):
        Classifier(model, ["cat", "dog"], names={"c": "cat"})
    with pytest.raises(UsageError, match="the class names must be a list of strings, got the string 'noon'"):
        Classifier(model, "noon")


def test_a_stream_method_needs_to_know_how_many_there_are(classifier: Callable[[str], Classifier]) -> None:
    assert len(list(classifier("onzeta").classify(PHOTOS))) == len(PHOTOS)
    with pytest.raises(UsageError, match="Pass a list of images"):
        next(classifier("onzeta").classify(iter(PHOTOS)))


def test_texts_are_encoded_before_the_first_image_is_taken(classifier: Callable[[str], Classifier]) -> None:
    clip = classifier("clip")

    def camera() -> Iterator[Path]:
        assert clip.class_texts.digest in clip.stages._texts
        yield PHOTOS[0]

    assert len(list(clip.classify(camera()))) == 1
