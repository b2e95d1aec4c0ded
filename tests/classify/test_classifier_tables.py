"""Predictions as JSON values, data frames and what a notebook shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import colour, save_small_clip

from abs_classify import Classifier, load_model
from abs_classify.models.base import Model

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}", device="cpu")


@pytest.fixture
def classifier(model: Model) -> Classifier:
    descriptions = {"a": [f"{HOSTILE} has fur."], "b": ["It barks."]}
    return Classifier(model, descriptions, names={"a": HOSTILE}, method="cupl")


def test_a_prediction_knows_the_file_of_its_image(classifier: Classifier, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "one.png"
    colour(1).save(path)
    given = [path, path.read_bytes(), colour(1), Image.open(path)]
    predictions = list(classifier.classify(given))
    assert [prediction.path for prediction in predictions] == [path, None, None, path]


def test_what_comes_from_outside_is_escaped_in_a_notebook(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "<b>.png"
    colour(1).save(path)
    (prediction,) = classifier.classify([path], explain=True)
    shown = prediction._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown
    assert "share of the margin" in shown


def test_a_prediction_says_what_it_shows(classifier: Classifier) -> None:
    (prediction,) = classifier.classify([colour(1)])
    assert repr(prediction).startswith("<Prediction: 'PIL image' is ")
    assert len(repr(prediction)) < 200
    values = json.loads(json.dumps(prediction.to_dict()))
    assert values["ranking"][0]["class"] == prediction.class_id
    assert values["explanation"] is None


def test_predictions_become_a_data_frame_after_those_that_were_taken(classifier: Classifier) -> None:
    run = classifier.classify([colour(1), colour(2), b"no image"], on_error="skip")
    first = next(run)
    assert "1 given so far" in repr(run)
    frame = run.to_pandas()
    assert list(frame["image"]) != [first.image_id]
    assert len(frame) == 1
    assert frame["confidence"][0] > 0
    assert "1 images skipped" in repr(run)
    assert list(run.to_pandas().columns) == list(frame.columns)


def test_predictions_become_json_with_what_was_skipped(classifier: Classifier) -> None:
    values = classifier.classify([colour(1), b"no image"], on_error="skip").to_dict()
    assert len(values["predictions"]) == 1
    assert [image["name"] for image in values["skipped"]] == ["image bytes"]
    json.dumps(values)
