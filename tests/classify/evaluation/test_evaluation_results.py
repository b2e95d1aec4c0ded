"""What results of evaluations, bundles and labelling say of themselves in Python and in a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from support import colour

from abs_classify import (
    EvaluationResults,
    attribute_gain,
    class_table,
    compare,
    compare_bundles,
    encode,
    evaluate,
    label,
    load_model,
    measure_usage,
    result_table,
    score_bundle,
    write_figures,
)
from abs_classify.classifier import Classifier, as_label_space
from abs_classify.datasets import open_dataset
from abs_core.errors import ResultError, UsageError

HOSTILE = "<script>alert(1)</script>"
TEXTS = {"cat": [f"{HOSTILE} has fur.", "a paw"], "dog": ["a tail"]}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for at in range(3):
            colour(10 * number + at, (24, 20)).save(folder / name / f"{at}.png")
    return folder


@pytest.fixture(scope="module")
def results(photos: Path, small_clips: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> EvaluationResults:
    folder = tmp_path_factory.mktemp("results")
    return evaluate(f"imagefolder:{photos}", small_clips[0], ["clip", "cupl"], descriptions=_space(), results=folder)


def _space() -> Any:
    return as_label_space(TEXTS, {"cat": HOSTILE})


def check(value: Any, says: str, columns: tuple[str, ...], rows: int) -> None:
    """Its repr is short and says something, HTML is escaped, JSON values are JSON, and the frame has its rows."""
    assert says in repr(value)
    assert len(repr(value)) < 400
    assert "\n" not in repr(value)
    shown = value._repr_html_()
    assert "<script>" not in shown
    assert "<table>" in shown
    json.dumps(value.to_dict())
    frame = value.to_pandas()
    assert set(columns) <= set(frame.columns)
    assert len(frame) == rows


def test_evaluations_and_their_tables(results: EvaluationResults, tmp_path: Path) -> None:
    check(results, "<EvaluationResults: 2 results, best ", ("method", "acc1"), 2)
    table = result_table(results)
    check(table, "<ResultTable: 2 rows, top-1 accuracy on ", ("method", "top1", "corrected_p"), 2)
    assert str(table) == table.text()
    classes = class_table(results, "cupl")
    check(classes, "<ClassTable of 'cupl': 2 classes, 6 images>", ("class_id", "accuracy"), 2)
    assert "&lt;script&gt;" in classes._repr_html_()
    assert {path.suffix for path in write_figures(results, tmp_path)} == {".png", ".pdf"}
    (comparison,) = compare(results[1], results[0])
    assert repr(comparison).startswith("<ResultComparison: 'cupl' minus 'clip' on ")
    assert len(repr(comparison)) < 400
    assert repr(results[0]) == str(results[0])
    assert len(repr(results[0])) < 300


def test_a_part_of_results_knows_its_predictions(results: EvaluationResults) -> None:
    part = results[1:]
    assert isinstance(part, EvaluationResults)
    assert class_table(part, "clip") == class_table(results, "clip")
    assert [record.method for record in part] == ["cupl"]


def test_classes_of_several_combinations_or_without_predictions_are_refused(
    results: EvaluationResults, photos: Path, small_clips: tuple[str, str]
) -> None:
    with pytest.raises(UsageError, match=r"these are 0 combinations.*results\[START:END\]"):
        class_table(results[:0], "clip")
    unkept = evaluate(f"imagefolder:{photos}", small_clips[0], "clip", labels=["cat", "dog"])
    with pytest.raises(ResultError, match="no predictions of each image"):
        class_table(unkept, "clip")


def test_scores_attributions_and_comparisons_of_bundles(
    photos: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    spec, shared = f"imagefolder:{photos}", {"model": small_clips[0], "views": 2, "cache": tmp_path}
    scores = score_bundle(_space(), dataset=spec, attention="norm", **cast("Any", shared))
    check(scores, "<BundleScores: 3 sentences of ", ("class", "text", "gain", "usage"), 3)
    assert scores.to_dict() == scores.model_dump(mode="json")
    unlabelled = score_bundle(_space(), images=photos, attention="norm", **cast("Any", shared))
    check(unlabelled, "on 6 images>", ("class", "text", "usage"), 3)
    attribution = attribute_gain(_space(), spec, attention="norm", **cast("Any", shared))
    check(attribution, "<AttributionResults of 'abs': ", ("views", "texts", "matching", "top1"), 11)
    changed = as_label_space({**TEXTS, "dog": ["a tail", "a nose"]}, {"cat": HOSTILE})
    comparison = compare_bundles(_space(), changed, spec, attention="norm", **cast("Any", shared))
    check(comparison, "<BundleComparison: ", ("class", "added", "points"), 2)
    same = compare_bundles(_space(), _space(), spec, attention="norm", **cast("Any", shared))
    assert repr(same) == "<BundleComparison: nothing to test: OLD and NEW have the same sentences>"


def test_label_runs(photos: Path, small_clips: tuple[str, str], tmp_path: Path) -> None:
    run = label(photos, _space(), model=small_clips[0], method="cupl", out=tmp_path / "out")
    assert repr(run) == f"<LabelRun: 0 rows made so far of 0 images, in {str(tmp_path / 'out')!r}>"
    assert "<table>" in run._repr_html_()  # before there is a database
    frame = run.to_pandas()
    assert len(frame) == 6
    check(run, "<LabelRun: 6 rows made so far of 6 images", ("path", "label", "confidence"), 6)
    assert run.to_dict()["images"] == 6
    check(label(photos, _space(), model=small_clips[0], method="cupl"), "<LabelRun: 0 rows", ("path",), 6)


def test_features_usage_and_data_sets(photos: Path, small_clips: tuple[str, str]) -> None:
    model = load_model(small_clips[0], device="cpu")
    encoded = encode(photos, TEXTS, model)
    assert repr(encoded).startswith("<EncodedSet: 6 images, 2 class rows, features 6 x ")
    classifier = Classifier(model, TEXTS, method="abs-pixels", attention="norm", views=2)
    assert repr(measure_usage(classifier, [colour(0)])) == "<DescriptionUsage: 3 texts, 1 image, 0 images skipped>"
    dataset = open_dataset(f"imagefolder:{photos}")
    assert repr(dataset) == f"<Dataset {dataset.name!r}: 6 images, 2 classes>"
