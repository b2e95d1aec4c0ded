"""The table for a paper."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from evaluations import Bench
from result_records import make_records

from abs_classify.evaluation.comparison import compare
from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.paper_table import result_table
from abs_classify.evaluation.records import Run
from abs_classify.evaluation.significance import holm
from abs_core.errors import ResultError


def _records(*names: str, run: str = "a run"):
    labels = np.arange(200) % 20
    shares = {"clip": 0.4, "cupl": 0.42, "abs": 0.7, "a_b & [x|y]": 0.5}
    numbers = np.random.default_rng(3)
    ranks = {name: np.where(numbers.random(200) < share, 1, 7) for name, share in shares.items()}
    return make_records([evaluate_ranks(name, ranks[name], labels, 20) for name in names], run=Run(run, ""))


def test_differences_are_those_of_the_results_and_corrected() -> None:
    records = _records("clip", "cupl", "abs")
    table = result_table(records)
    assert [row.base for row in table.rows] == [None, "clip", "clip"]
    expected = [record.details.difference for record in records[1:]]
    for row, difference in zip(table.rows[1:], expected, strict=True):
        assert row.paired is not None
        assert difference is not None
        assert (row.paired.difference, row.paired.low, row.paired.p_value) == (
            difference.difference, difference.low, difference.p_value,
        )  # fmt: skip
    corrected = holm([difference.p_value for difference in expected if difference is not None])
    assert [row.corrected_p for row in table.rows[1:]] == corrected
    assert "corrected by Holm for the 2 tests" in table.text()
    assert " ~ no difference" in " ".join(table.text().split())


def test_a_run_without_the_base_is_compared_with_that_of_another_run() -> None:
    table = result_table([*_records("clip", run="one"), *_records("abs", run="two")])
    assert [row.base for row in table.rows] == [None, "clip"]
    (record,) = _records("abs", run="two")
    details = record.details
    with_attention = details.model_copy(update={"weights": details.weights.model_copy(update={"attention": "self"})})
    guided = record.model_copy(update={"details": with_attention})
    assert [row.base for row in result_table([*_records("clip", run="one"), guided]).rows] == [None, "clip"]
    alone = result_table(_records("abs", "cupl"))
    assert [row.base for row in alone.rows] == [None, "abs"]
    assert [row.base for row in result_table(_records("clip", "abs"), base="abs").rows] == ["abs", None]


def test_runs_of_one_method_are_told_apart() -> None:
    table = result_table([*_records("clip", "abs", run="one"), *_records("clip", "abs", run="two")])
    assert table.label_names == ["run"]
    assert [row.labels for row in table.rows] == [("one",), ("one",), ("two",), ("two",)]


def test_latex_is_escaped_and_whole() -> None:
    text = result_table(_records("clip", "a_b & [x|y]")).latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    (columns,) = [line for line in text.splitlines() if line.startswith(r"\begin{tabular}")]
    width = len(columns.removeprefix(r"\begin{tabular}{").removesuffix("}"))
    assert {line.replace(r"\&", "").count("&") + 1 for line in rows} == {width}
    assert r"a\_b \& [x\textbar{}y] &" in text
    assert [line for line in text.splitlines() if line in (r"\toprule", r"\midrule", r"\bottomrule")] == [
        r"\toprule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for part in ("n = 200 images", "20 classes", "Wilson", "Newcombe", "McNemar", "Holm"):
        assert part in caption
    assert caption.count("{") == caption.count("}")


def test_markdown_has_one_width() -> None:
    lines = [line for line in result_table(_records("clip", "a_b & [x|y]")).markdown().splitlines() if "|" in line]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 4


def test_csv_and_json_have_all_digits() -> None:
    table = result_table(_records("clip", "abs"))
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    values = json.loads(json.dumps(table.to_dict()))["rows"]
    assert float(rows[1]["difference"]) == values[1]["difference"] == table.rows[1].to_dict()["difference"]
    assert rows[0]["difference"] == ""
    assert values[0]["difference"] is None


def test_nothing_makes_no_table() -> None:
    with pytest.raises(ResultError, match="no results for a table"):
        result_table([])


@pytest.mark.slow
def test_seeds_are_crossed_where_predictions_were_kept(bench: Bench, seven: Path, tmp_path: Path) -> None:
    results = bench.run(seven, "clip,wca,abs-pixels", views=3, seeds=3, results=tmp_path)
    table = result_table(results)
    rows = {row.record.method: row for row in table.rows}
    assert [rows[name].paired.draws for name in ("wca", "abs-pixels")] == [3, 3]  # type: ignore[union-attr]
    assert (rows["clip"].crops, rows["wca"].crops) == (0, 3)
    assert rows["wca"].paired is not None
    mean = results.records[1].details.seeds.mean - results.records[0].details.seeds.mean
    assert rows["wca"].paired.difference == pytest.approx(mean)
    assert "crossed random factors" in table.text()
    assert "±" in table.text()
    (itself,) = compare(results.records[1], results.records[1])
    assert not itself.is_complete
    assert all(comparison.is_complete for comparison in compare(results, results))
    bare = result_table(results.records)
    assert not all(row.is_complete for row in bare.rows)
    assert "first seed only" in bare.text()
    assert "first seed only" not in table.text()


@pytest.mark.parametrize(
    ("stage_seconds", "cell", "seconds"),
    [
        ({"identify": 1.0, "read": 2.0, "encode": 7.0, "match": 1.0}, "0.05", 0.05),
        ({"identify": 1.0, "load": 0.0, "match": 1.0}, "-", None),
        ({"read": 1.0, "encode": 0.0, "match": 1.0}, "-", None),
    ],
)
def test_the_time_of_a_run_that_encoded_nothing_is_no_cost(
    stage_seconds: dict[str, float], cell: str, seconds: float | None
) -> None:
    (record,) = _records("clip")
    details = record.details
    run = details.run.model_copy(update={"stage_seconds": stage_seconds})
    table = result_table([record.model_copy(update={"details": details.model_copy(update={"run": run})})])
    assert [line.split()[-1] for line in table.text().splitlines() if line.startswith("clip ")] == [cell]
    assert f"& {cell} " in table.latex()
    assert f"| {cell} |" in table.markdown().replace("  ", "")
    assert table.to_dict()["rows"][0]["seconds_per_image"] == seconds
    for text in (table.text(), table.markdown(), table.latex()):
        assert ("came from the cache, or from workers of Ray" in " ".join(text.split())) is (cell == "-")
