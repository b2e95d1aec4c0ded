"""The images that are evaluated: the first, a stratified sample, copies, classes without images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluations import Bench
from support import colour

from abs_classify.evaluation.job import open_split
from abs_classify.evaluation.stratification import quotas, stratified_positions
from abs_core.errors import UsageError


@pytest.mark.slow
def test_a_part_of_the_images_says_how_it_was_chosen(bench: Bench, image_folder: Callable[..., Path]) -> None:
    data = image_folder("data", ant=2, bee=4, cat=12)
    (record,) = bench.run(data, "clip", limit=9, stratified=True)
    assert record.details.data.sample == "a stratified sample of 9 of 18 images, 1 to 6 of each class, seed 0"
    assert record.details.data.classes_with_images == 3
    (first,) = bench.run(data, "clip", limit=2)
    assert "no random sample" in first.details.data.sample
    with pytest.raises(UsageError, match="must have an image of each of the 3 classes"):
        open_split(f"imagefolder:{data}", 2, stratified=True, seed=0)
    with pytest.raises(UsageError, match="--limit"):
        bench.run(data, "clip", stratified=True)
    assert open_split(f"imagefolder:{data}", 18, stratified=False, seed=0).sampling == ""


def test_stratified_positions() -> None:
    labels = [label for label, count in (("a", 2), ("b", 4), ("c", 12)) for _ in range(count)]
    chosen = stratified_positions(labels, 9, 0)
    assert chosen == sorted(set(chosen)) == stratified_positions(labels, 9, 0)
    assert [sum(labels[position] == label for position in chosen) for label in "abc"] == [1, 2, 6]
    assert any(stratified_positions(labels, 9, seed) != chosen for seed in range(1, 4))
    assert stratified_positions(labels, 18, 0) == list(range(18))
    with pytest.raises(UsageError, match=r"3 classes, got a limit of 2"):
        stratified_positions(labels, 2, 0)


@pytest.mark.parametrize("limit", range(4, 60))
def test_quotas_sum_up_and_stay_within_what_there_is(limit: int) -> None:
    sizes = {"a": 1, "b": 1, "c": 3, "d": 60}
    counts = quotas(sizes, limit)
    assert sum(counts.values()) == limit
    assert all(1 <= counts[label] <= sizes[label] for label in sizes)


@pytest.mark.slow
def test_copies_of_one_image_count_and_are_named(bench: Bench, image_folder: Callable[..., Path]) -> None:
    data = image_folder("data", cat=2, car=2)
    shutil.copy(data / "cat" / "00.png", data / "cat" / "again.png")
    shutil.copy(data / "cat" / "00.png", data / "car" / "other.png")
    record = bench.run(data)[0]
    assert record.details.data.images == 6
    notes = record.details.notes
    assert any("2 images are copies of another" in note for note in notes)
    assert any("different labels" in note and "'car'" in note and "'cat'" in note for note in notes)


@pytest.mark.slow
def test_the_mean_recall_leaves_out_a_class_without_images(bench: Bench, tmp_path: Path) -> None:
    colour(1).save(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text("path,label\na.png,cat\n")
    (record,) = bench.run(f"csv:{tmp_path / 'images.csv'}", "clip", labels=["cat", "dog", "ox"])
    assert record.details.data.classes_with_images == 1
    assert record.details.classes.count == 3
    assert record.metrics.mean_per_class_recall == record.metrics.acc1
