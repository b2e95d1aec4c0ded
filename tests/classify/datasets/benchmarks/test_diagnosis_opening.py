"""Published data sets as they are opened: name, split, candidate classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniatures import dtd, labels_of, miniature, write_files, write_texts

from abs_classify.datasets import open_dataset
from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.errors import DatasetError, UnknownNameError, UsageError


def test_dtd_is_the_test_of_partition_1_unless_another_is_asked_for(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    small = miniature("dtd", test1=2, test2=2)
    data = open_benchmark(small, str(root))
    assert labels_of(data, root) == {
        "images/banded/banded_0001.jpg": "banded",
        "images/zigzagged/zigzagged_0001.jpg": "zigzagged",
    }
    assert (data.benchmark, data.split, data.name) == ("dtd", "test1", f"dtd:{root}")
    assert len(data.classes) == 47
    other = open_benchmark(small, f"{root}?split=test2")
    assert [sample.path.name for sample in other.samples] == ["banded_0004.jpg", "zigzagged_0004.jpg"]


@pytest.mark.parametrize(("name", "wnid"), [("imagenet-r", "n01443537"), ("imagenet-a", "n01498041")])
def test_the_subsets_of_imagenet_say_among_which_classes_the_best_is_chosen(
    tmp_path: Path, name: str, wnid: str
) -> None:
    write_files(tmp_path, f"{name}/{wnid}/art_0.jpg", f"{name}/README.txt")
    small = miniature(name, test=1)
    subset = open_benchmark(small, str(tmp_path))
    assert len(subset.classes) == 200
    assert subset.selected == ()
    assert any("the 200 classes" in note for note in subset.notes)
    every = open_benchmark(small, f"{tmp_path}?classes=all")
    assert (len(every.classes), every.selected) == (1000, ())
    assert any("all 1000 classes of imagenet compete" in note for note in every.notes)
    select = open_benchmark(small, f"{tmp_path}?classes=select")
    assert len(select.classes) == 1000
    assert set(select.selected) == set(subset.names)
    assert any("as published" in note for note in select.notes)
    with pytest.raises(UnknownNameError, match="subset, all, select"):
        open_benchmark(small, f"{tmp_path}?classes=some")


def test_the_sets_without_an_official_split_want_that_of_the_coop_suite(tmp_path: Path) -> None:
    write_files(tmp_path, "2750/River/River_1.jpg", "2750/SeaLake/SeaLake_1.jpg")
    with pytest.raises(
        DatasetError, match=r"lacks files of eurosat \(coop-test\): .* \(split_zhou_EuroSAT.json\)"
    ) as caught:
        open_dataset(f"eurosat:{tmp_path}")
    assert "DATASETS.md of the CoOp repository" in caught.value.remedy
    assert f"eurosat:{tmp_path}?split=all" in caught.value.remedy
    data = open_benchmark(miniature("eurosat", all=2), f"{tmp_path}?split=all")
    assert [sample.label for sample in data.samples] == ["River", "SeaLake"]


def test_the_class_names_of_the_coop_suite_are_an_option_of_its_splits(tmp_path: Path) -> None:
    write_files(tmp_path, "2750/River/River_1.jpg", "2750/SeaLake/SeaLake_1.jpg")
    entries = {"test": [["River/River_1.jpg", 0, "River"], ["SeaLake/SeaLake_1.jpg", 1, "Sea_or_Lake"]]}
    write_texts(tmp_path, {"split_zhou_EuroSAT.json": json.dumps(entries)})
    small = miniature("eurosat", coop_test=2, all=2)
    published = open_benchmark(small, str(tmp_path))
    assert any("?names=coop" in note for note in published.notes)
    data = open_benchmark(small, f"{tmp_path}?names=coop")
    assert data.names["SeaLake"] == "Sea or Lake"
    assert data.names["River"] == "River"
    assert data.names["Forest"] == published.names["Forest"]
    assert [sample.label for sample in data.samples] == [sample.label for sample in published.samples]
    assert any("as its split file has them; 8 classes that it lacks keep theirs" in note for note in data.notes)
    with pytest.raises(UsageError, match=r"those of its splits, got \?split=all"):
        open_benchmark(small, f"{tmp_path}?names=coop&split=all")
    with pytest.raises(UnknownNameError, match="clip, coop"):
        open_benchmark(small, f"{tmp_path}?names=mine")


def test_photos_as_they_are_stored_are_an_option(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    small = miniature("dtd", test1=2)
    data = open_benchmark(small, f"{root}?orientation=stored")
    assert all(sample.name.endswith(", as stored") for sample in data.samples)
    assert any("not turned by their EXIF orientation" in note for note in data.notes)
    assert open_benchmark(small, f"{root}?orientation=upright").samples == open_benchmark(small, str(root)).samples
    with pytest.raises(UnknownNameError, match="upright, stored"):
        open_benchmark(small, f"{root}?orientation=left")
