"""merge_results makes of the results of all shares the records that one run would have written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import Bench, described

from abs_classify import AdaptiveViews, merge_results
from abs_classify.evaluation.predictions import RunPredictions
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import read_predictions, read_result, read_results, write_predictions
from abs_core.errors import ResultError, UsageError

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def run(bench: Bench, data: Path, methods: str = "clip", **options: Any) -> Path:
    folder = bench.run(data, methods, **options).folder
    assert folder is not None
    return folder


def run_shares(
    bench: Bench, data: Path, folder: Path, methods: str = "clip", count: int = 3, **options: Any
) -> list[Path]:
    return [
        run(bench, data, methods, shard=f"{index}/{count}", results=folder / str(index), **options)
        for index in range(1, count + 1)
    ]


def said_of_images(record: ResultRecord) -> dict[str, Any]:
    """A record without what is of the run: its name, seconds and files, and the runs that it was merged from."""
    value = record.model_dump(mode="json")
    for name in ("run", "shards", "predictions"):
        del value["details"][name]
    return value


def assert_same_results(merged: Sequence[ResultRecord], whole: Sequence[ResultRecord]) -> None:
    assert len(merged) == len(whole)
    for first, second in zip(merged, whole, strict=True):
        ours, theirs = said_of_images(first), said_of_images(second)
        assert ours.pop("details") == theirs.pop("details")
        assert ours == theirs


@pytest.fixture
def mixed(image_folder: Callable[..., Path]) -> Path:
    """Classes of several images, with copies in other shares, one of them of another class, and files that are none."""
    folder = image_folder("mixed", **dict.fromkeys(("ant", "bee", "cat", "dog", "eel", "fox"), 2))
    for name in ("ant/copy.png", "fox/copy.png"):
        shutil.copy(next((folder / "ant").iterdir()), folder / name)
    for name in ("ant/broken.png", "eel/broken.png"):
        (folder / name).write_bytes(b"no image")
    (folder / "bee" / "gone.png").symlink_to(folder / "nowhere.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "options"),
    [
        ("clip,abs-pixels", {"views": 2, "seeds": 2}),
        ("abs-pixels", {"views": AdaptiveViews(), "limit": 11, "stratified": True}),
    ],
)
def test_the_merged_result_is_that_of_one_run(
    bench: Bench, mixed: Path, tmp_path: Path, methods: str, options: dict[str, Any]
) -> None:
    options = {**options, "on_error": "skip"}
    whole = bench.run(mixed, methods, results=tmp_path / "whole", **options)
    shares = run_shares(bench, mixed, tmp_path / "shares", methods, **options)
    merged = merge_results(shares[::-1], tmp_path / "merged")
    assert_same_results(merged, whole.records)
    assert_same_results(read_results(tmp_path / "merged"), read_results(Path(str(whole.folder))))
    assert [str(shard.share) for shard in merged[0].details.shards] == ["1/3", "2/3", "3/3"]
    kept, ours = read_predictions(tmp_path / "merged", merged[0]), read_predictions(Path(str(whole.folder)), whole[0])
    assert (kept.share, kept.images, kept.paths, kept.class_ids) == (None, ours.images, ours.paths, ours.class_ids)
    for first, second in zip(kept.passes, ours.passes, strict=True):
        assert np.array_equal(first.top, second.top)
        assert np.array_equal(first.ranks, second.ranks)
        # images are scored with others beside them, and sums of floats depend on their number
        assert np.allclose(first.scores, second.scores, atol=1e-4)


@pytest.mark.slow
def test_a_sweep_is_merged_one_combination_after_the_other(bench: Bench, seven: Path, tmp_path: Path) -> None:
    spaces = [described("first", *NAMES), described("second", *NAMES)]
    whole = bench.run(seven, "clip,cupl", descriptions=spaces)
    for folder in run_shares(bench, seven, tmp_path / "shares", "clip,cupl", 2, descriptions=spaces):
        shutil.move(folder, tmp_path / "shares" / f"of-{folder.parent.name}" / folder.name)
    # folders that were given as results, of which the newest run counts
    merged = merge_results(sorted((tmp_path / "shares").glob("of-*")), results=tmp_path)
    assert_same_results(merged, whole.records)
    assert next(iter(merged.folders.values())).parent == tmp_path


@pytest.mark.slow
def test_what_does_not_belong_together_is_refused(bench: Bench, seven: Path, tmp_path: Path) -> None:
    shares = run_shares(bench, seven, tmp_path)
    others = tmp_path / "other"
    seeded = run(bench, seven, shard="2/3", results=others, seed=1)
    halves = run_shares(bench, seven, tmp_path / "halves", count=2)
    methods = run(bench, seven, "clip-e", shard="2/3", results=others)
    whole = run(bench, seven, results=others)
    space = run(bench, seven, shard="2/3", results=others, labels=[*NAMES, "hen"])
    (seven / "ant" / "new.png").write_bytes(next((seven / "bee").iterdir()).read_bytes())
    longer = run(bench, seven, shard="3/3", results=others)
    for places, words in (
        (shares[:1], r"2 shares are missing of 3: 2, 3\. Run abs eval --shard 2/3, and name its result too"),
        ([*shares, shares[1]], r"share 2/3 appears twice: '.*json' and '.*json'\. Name one of them"),
        ([shares[0], seeded, shares[2]], r"'.*json' differs from '.*json' in the seeds .*: \[1\], not \[0\]"),
        ([shares[0], halves[1]], r"is share 2/2, and '.*' is share 1/3: one source was cut in two ways"),
        ([shares[0], methods, shares[2]], r"is of the methods clip-e, and '.*' of clip"),
        ([*shares[:2], longer], r"another list of images than .* \(8 images, not 7\): .*Run abs eval --shard 3/3"),
        ([shares[0], space, shares[2]], r"differs from '.*' in the candidate classes"),
        ([shares[0], whole], r"is no result of a share"),
    ):  # fmt: skip
        with pytest.raises(ResultError, match=words):
            merge_results(places, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(UsageError, match="already holds files"):
        merge_results(shares, shares[0])


def test_files_of_other_versions_and_damaged_ones_are_refused(bench: Bench, seven: Path, tmp_path: Path) -> None:
    shares = run_shares(bench, seven, tmp_path, count=2)
    (file,) = shares[1].glob("*.json")
    text = file.read_text()
    file.write_text(text.replace('"torch": "', '"torch": "0.'))
    with pytest.raises(ResultError, match=r"in the versions of the toolkit or of packages: {'torch': '0\."):
        merge_results(shares, tmp_path / "merged")
    file.write_text(text)
    predictions = RunPredictions.read(next(shares[1].glob("*.gz")))
    for broken in (None, {}, {**(predictions.share or {}), "labels": {"0": 1}}):
        record = read_result(file)
        (kept,) = write_predictions(shares[1], [record], replace(predictions, share=broken))
        file.write_text(kept.model_dump_json())
        with pytest.raises(ResultError, match="does not hold what a share of a result needs"):
            merge_results(shares, tmp_path / "merged")
    for share in ({**(predictions.share or {}), "labels": {}}, predictions.share):
        record = read_result(file)
        (kept,) = write_predictions(shares[1], [record], replace(predictions, share=share))
        text = kept.model_dump_json()
        file.write_text(text if share is not predictions.share else text.replace('"images":7', '"images":9'))
        with pytest.raises(ResultError, match="does not hold a whole share: it is of 4 images"):
            merge_results(shares, tmp_path / "merged")
    (passed,) = predictions.passes
    for passes, words in (
        ([], "and predictions for"),
        ([replace(passed, seed=5)], "of other methods, seeds or labels"),
    ):
        record = read_result(file)
        (kept,) = write_predictions(shares[1], [record], replace(predictions, passes=passes))
        file.write_text(kept.model_dump_json().replace('"images":9', '"images":7'))
        with pytest.raises(ResultError, match=words):
            merge_results(shares, tmp_path / "merged")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": "tda,clip"}, r"tda cannot run on a share.*without --shard: their features are there"),
        ({"methods": "abs-pixels", "views": AdaptiveViews(budget_views=5)}, "a budget of views cannot be spent"),
        ({"shard": "8/8"}, "--shard 8/8 needs an image for each of the 8 shares, and the source has 7. Use at most 7"),
        ({"shard": "0/4"}, r"--shard must be I/N with 1 <= I <= N, got '0/4'"),
    ],
)
def test_what_cannot_be_cut_into_shares_is_refused_before_any_work(
    bench: Bench, seven: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        bench.run(seven, **{"methods": "clip", "shard": "1/3", **options})
    assert not bench.models
