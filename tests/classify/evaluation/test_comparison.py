"""Runs compared image by image: which results are paired, and which cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluations import Bench, described

from abs_classify import compare
from abs_classify.evaluation.comparison import comparison_text
from abs_classify.evaluation.results_folder import read_result
from abs_classify.evaluation.tables import tables_text
from abs_classify.report.contents import EvaluationFiles
from abs_core.errors import ResultError

SEVEN = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


@pytest.mark.slow
def test_two_runs_are_compared_image_by_image(
    bench: Bench, seven: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    runs, right = [], []
    for model in small_clips:
        with EvaluationFiles(predictions=tmp_path / "rows.jsonl") as files:
            runs.append(bench.run(seven, models=model, observer=files))
        lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        right.append({(line["method"], line["image"]): line["correct"] for line in lines})
    comparisons = compare(*runs)
    assert [comparison.first.method for comparison in comparisons] == ["clip", "abs"]
    for comparison, mirrored in zip(comparisons, compare(*reversed(runs)), strict=True):
        pair, method = comparison.paired, comparison.first.method
        outcomes = [(right[0][key], right[1][key]) for key in right[0] if key[0] == method]
        assert pair.first_only == outcomes.count((True, False))
        assert pair.second_only == outcomes.count((False, True))
        assert pair.images == pair.both + pair.first_only + pair.second_only + pair.neither == 7
        accuracies = comparison.first.metrics.acc1, comparison.second.metrics.acc1
        assert pair.difference == pytest.approx(accuracies[0] - accuracies[1], abs=1e-12)
        assert (pair.low, pair.high) == pytest.approx((-mirrored.paired.high, -mirrored.paired.low), abs=1e-12)
        assert pair.p_value == mirrored.paired.p_value <= 1
        assert not pair.conclusive


@pytest.mark.slow
def test_files_and_folders_are_compared_as_results_are(bench: Bench, seven: Path) -> None:
    files = bench.files(seven)
    folder = files[0].parent
    records = [read_result(path) for path in files]
    expected = [comparison.to_dict() for comparison in compare(records, records)]
    assert len(expected) == 2
    assert sorted((c.to_dict() for c in compare(folder, str(folder))), key=str) == sorted(expected, key=str)
    (single,) = compare(files[0], files[1])
    assert single.first.method != single.second.method


@pytest.mark.slow
def test_other_images_cannot_be_paired(bench: Bench, seven: Path) -> None:
    with pytest.raises(ResultError, match="no method on the same images"):
        compare(bench.run(seven), bench.run(seven, limit=5))
    with pytest.raises(ResultError, match="of different images"):
        compare(bench.run(seven, "clip"), bench.run(seven, "clip", limit=5))


@pytest.mark.slow
def test_other_labels_of_the_same_images_are_no_other_method(bench: Bench, seven: Path) -> None:
    listing = seven.parent / "images.csv"
    images = [seven / "cat" / "00.png", seven / "dog" / "00.png"]
    runs = []
    for labels in (("cat", "dog"), ("dog", "cat")):
        rows = [f"{path},{label}" for path, label in zip(images, labels, strict=True)]
        listing.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
        runs.append(bench.run(f"csv:{listing}", "clip", labels=["cat", "dog"]))
    with pytest.raises(ResultError, match="of the same images with other labels"):
        compare(*runs)
    both = [*runs[0], *runs[1]]
    tables = tables_text(both).split("\n\n2 data sets, top-1 %")[0]
    assert tables.count(f"csv:{listing}: 2 images, 2 classes\n") == 2
    digests = [record.details.data.labels_digest for record in both]
    assert [line.rpartition("labels ")[2] for line in tables.splitlines() if "; labels " in line] == digests
    assert "; labels " not in tables_text(runs[0])
    # a file that was written before labels had a digest says nothing of its labels
    (record,) = runs[0]
    data = record.details.data.model_copy(update={"labels_digest": None})
    older = record.model_copy(update={"details": record.details.model_copy(update={"data": data})})
    assert compare(older, runs[1])
    assert tables_text([older, *runs[1]]).count(f"csv:{listing}") == 1


@pytest.mark.slow
def test_sweeps_are_compared_label_space_by_label_space(bench: Bench, seven: Path) -> None:
    one, two = described("one", *SEVEN), described("two", *SEVEN)
    sweep = bench.run(seven, "clip,cupl", descriptions=[one, two])
    comparisons = compare(sweep, sweep)
    names = [comparison.first.bundle.partition("@")[0] for comparison in comparisons]
    assert names == ["one", "two", "one", "two"]
    assert all(comparison.first.bundle == comparison.second.bundle for comparison in comparisons)
    assert all(comparison.paired.difference == 0 for comparison in comparisons), "a run does not differ from itself"
    head = comparison_text(comparisons).splitlines()[0]
    assert one.source in head
    assert two.source in head
    rows = comparison_text(compare(bench.run(seven, "clip,cupl", descriptions=one), sweep)).splitlines()
    cells = [line.split() for line in rows if line.startswith("imagefolder:")]
    assert len(cells) == 4
    assert sum(row[1].startswith("one@") and row[2] == "/" and row[3].startswith("two@") for row in cells) == 2


@pytest.mark.slow
def test_damaged_bits_are_named(bench: Bench, seven: Path) -> None:
    (record,) = bench.run(seven, "clip")
    damaged = record.model_copy(update={"details": record.details.model_copy(update={"right": "AAAA"})})
    with pytest.raises(ResultError, match="damaged bits"):
        compare(damaged, record)
