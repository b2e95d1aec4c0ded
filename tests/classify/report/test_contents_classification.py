"""Pages and pictures of images without labels: what they show is what the classifier predicted, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
from report_pages import Page

from abs_classify.classifier import Classifier, Prediction
from abs_classify.report.contents import write_classification_report, write_explanation_pictures
from abs_core.errors import UsageError


@pytest.fixture
def classifier(small_clips: tuple[str, str], tmp_path: Path) -> Classifier:
    return Classifier(small_clips[0], ["cat", "car", "cup"], views=4, attention="self", cache=tmp_path / "cache")


@pytest.fixture
def predictions(classifier: Classifier, image_folder: Callable[..., Path]) -> list[Prediction]:
    paths = sorted(image_folder("data", cat=1, car=2).rglob("*.png"))
    return list(classifier.classify(paths, top=3, explain=True))


def test_the_page_shows_the_rankings_and_the_explanation(
    classifier: Classifier, predictions: list[Prediction], tmp_path: Path
) -> None:
    path = write_classification_report(classifier, predictions, tmp_path / "out", command=["abs", "classify"])
    assert path == tmp_path / "out" / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "3 images, 3 classes" in page.text
    assert "command abs classify" in page.text
    table = page.table
    assert (table["pictured"], table["truth"]) == ([0, 1, 2], [])
    assert table["names"] == ["car/00.png", "car/01.png", "cat/00.png"]
    [abs_columns] = table["methods"]
    for position, prediction in enumerate(predictions):
        why = prediction.explanation
        assert why is not None
        assert why.runner_up is not None
        assert (why.winner, why.runner_up) == prediction.ranking[:2]
        assert table["classes"][abs_columns["top"][position]] == prediction.name
        assert abs_columns["confidence"][position] == pytest.approx(prediction.confidence, rel=1e-3)
        details = page.details(position)
        assert details["rankings"][0]["confidence"] == f"{prediction.confidence:.4f}"
        assert (details["why"]["winner"], details["why"]["other"]) == (why.winner.name, why.runner_up.name)
        assert details["why"]["groups"][0][1][0]["text"] in {share.text for share in why.sentences}


def test_the_least_sure_images_get_the_pictures_of_a_small_page(
    classifier: Classifier, predictions: list[Prediction], tmp_path: Path
) -> None:
    path = write_classification_report(classifier, predictions, tmp_path / "page.html", pictures=1)
    page = Page(path.read_text(encoding="utf-8"))
    confidence = [prediction.confidence for prediction in predictions]
    assert page.table["pictured"] == [confidence.index(min(confidence))]
    assert "1 of 3 images have a picture and an explanation here: the least sure ones." in page.text


@pytest.mark.slow
def test_a_picture_for_each_image(classifier: Classifier, predictions: list[Prediction], tmp_path: Path) -> None:
    assert write_explanation_pictures(classifier, predictions, tmp_path / "png") == 3
    written = sorted((tmp_path / "png").iterdir())
    assert [path.name for path in written] == ["0001-00.png", "0002-01.png", "0003-00.png"]
    for path in written:
        with PIL.Image.open(path) as picture:
            assert (picture.format, picture.width) == ("PNG", 1240)


def test_a_prediction_without_its_image_is_refused(
    classifier: Classifier, predictions: list[Prediction], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="came from an iterator"):
        write_classification_report(classifier, [replace(predictions[0], shard=None)], tmp_path / "page.html")
