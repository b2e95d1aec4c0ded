"""Predictions and evaluations as JSON values, data frames and what a notebook shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import colour, save_small_clip

from abs_classify import Classifier, evaluate, load_model
from abs_classify.models.base import Model
from abs_classify.result_tables import data_frame, html_table
from abs_core.errors import UsageError

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
    assert "\x1b" not in html_table("a \x1b[31m", ("b",), [("c",)])


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


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"'pandas' is needed for data frames.*pip install pandas"):
        data_frame([], ("a",))


def test_an_evaluation_shows_its_results(image_folder, small_clips: tuple[str, str]) -> None:  # type: ignore[no-untyped-def]
    folder = image_folder("val", cat=2, dog=2)
    results = evaluate(f"imagefolder:{folder}", small_clips[0], ["clip", "cupl"], labels=["cat", "dog"])
    assert repr(results).startswith("<EvaluationResults: 2 results, best ")
    frame = results.to_pandas()
    assert list(frame["method"]) == ["clip", "cupl"]
    assert list(frame["acc1"]) == [record.metrics.acc1 for record in results]
    assert results._repr_html_().count("<tr>") == 3
