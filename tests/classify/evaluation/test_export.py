"""What other tools get: a CSV of the results, the predictions of each image, the texts that were encoded."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from evaluations import Bench

from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.evaluation.export import PredictionWriter, write_csv
from abs_classify.report.contents import EvaluationFiles
from abs_core.errors import UsageError


def predictions(bench: Bench, data: Path, path: Path, **options: Any) -> EvaluationResults:
    with EvaluationFiles(predictions=path) as files:
        return bench.run(data, observer=files, **options)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_metrics_are_those_of_the_predictions(bench: Bench, seven: Path, tmp_path: Path) -> None:
    results = predictions(bench, seven, tmp_path / "all.jsonl")
    lines = read_lines(tmp_path / "all.jsonl")
    assert len(lines) == 2 * 7
    for record in results:
        rows = [line for line in lines if line["method"] == record.method]
        ranks = np.array([line["rank"] for line in rows])
        assert record.metrics.acc1 == pytest.approx((ranks == 1).mean())
        assert record.metrics.acc5 == pytest.approx((ranks <= 5).mean())
        recalls = [
            np.mean([line["correct"] for line in rows if line["label"] == label])
            for label in sorted({line["label"] for line in rows})
        ]
        assert record.metrics.mean_per_class_recall == pytest.approx(np.mean(recalls))
        for line in rows:
            assert line["correct"] == (line["top"][0] == line["label"])
            assert line["scores"] == sorted(line["scores"], reverse=True)
            assert len(line["top"]) == len(line["scores"]) == 5
            assert Path(line["path"]).parent.name == line["label"]
            assert line["image"].startswith("sha256:")


@pytest.mark.slow
def test_predictions_as_parquet_are_those_of_jsonl(bench: Bench, seven: Path, tmp_path: Path) -> None:
    for name in ("all.jsonl", "all.parquet"):
        predictions(bench, seven, tmp_path / name, seeds=2)
    rows = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert rows == read_lines(tmp_path / "all.jsonl")
    assert {(row["method"], row["seed"]) for row in rows} == {("clip", 0), ("abs", 0), ("abs", 1)}


def test_predictions_go_nowhere_but_to_two_kinds_of_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.jsonl"):
        PredictionWriter(tmp_path / "all.xlsx")


def test_predictions_of_a_run_that_stops_leave_no_file(bench: Bench, seven: Path, tmp_path: Path) -> None:
    (seven / "cat" / "00.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"00\.png"):
        predictions(bench, seven, tmp_path / "all.jsonl")
    assert not list(tmp_path.glob("*all.jsonl*"))


@pytest.mark.slow
def test_a_csv_has_one_row_for_each_result(bench: Bench, seven: Path, tmp_path: Path) -> None:
    results = bench.run(seven)
    write_csv(tmp_path / "all.csv", results)
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == ["clip", "abs"]
    for row, record in zip(rows, results, strict=True):
        assert float(row["acc1"]) == record.metrics.acc1
        assert row["model_fullname"] == f"{row['model']} {row['pretrained']}"
    assert [row["minus"] for row in rows] == ["", "clip"]


def test_a_csv_runs_no_formula(bench: Bench, seven: Path, tmp_path: Path) -> None:
    (record,) = bench.run(seven, "clip")
    hostile = record.model_copy(update={"dataset": '=HYPERLINK("http://x")', "bundle": "@SUM(1)"})
    write_csv(tmp_path / "x.csv", [hostile])
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["dataset"] == '\'=HYPERLINK("http://x")'
    assert row["bundle"] == "'@SUM(1)"


def test_every_text_that_was_encoded_can_be_listed(bench: Bench, seven: Path, tmp_path: Path) -> None:
    with EvaluationFiles(texts=tmp_path / "texts.jsonl") as files:
        results = bench.run(seven, "clip,cupl", observer=files)
    lines = read_lines(tmp_path / "texts.jsonl")
    for record in results:
        texts = record.details.texts
        rows = [line for line in lines if line["texts_digest"] == texts.digest]
        assert sum(not line["label"] for line in rows) == texts.count
        assert {line["class"] for line in rows} == {"ant", "bee", "cat", "dog", "eel", "fox", "gnu"}
    assert "a photo of a cat." in {line["text"] for line in lines}
