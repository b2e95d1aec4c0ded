"""Which shards belong to a split, and what is missing of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abs_classify.datasets.webdataset import find_shards
from abs_core.errors import DatasetError


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(root: Path, split: str | None = None) -> list[str]:
    return [shard.name for shard in find_shards(root, split).shards]


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    folder_of(tmp_path, "val/0.tar", "train/0.tar", "other/readme.txt")
    with pytest.raises(DatasetError, match="no shards of the split 'test'; its splits: train, val") as caught:
        find_shards(tmp_path, None)
    assert caught.value.remedy == "Choose one: ?split=train"
    assert names(tmp_path, "val") == ["0.tar"]
    assert names(tmp_path / "val", "val") == ["0.tar"]


def test_shards_of_several_splits_in_one_folder_never_mix(tmp_path: Path) -> None:
    folder_of(tmp_path, "set-train-0001.tar", "set-train-0000.tar", "set-test-0000.tar", "set-validation-0.tar")
    assert names(tmp_path) == ["set-test-0000.tar"]
    assert names(tmp_path, "train") == ["set-train-0000.tar", "set-train-0001.tar"]
    with pytest.raises(DatasetError, match="by the names of its shards: test, train, validation"):
        find_shards(tmp_path, "dev")
    (tmp_path / "set-test-0000.tar").unlink()
    with pytest.raises(DatasetError, match="no shards of the split 'test'"):
        find_shards(tmp_path, None)


def test_shards_without_a_split_in_their_names_are_of_none(tmp_path: Path) -> None:
    folder_of(tmp_path, "10.tar", "9.tar")
    assert names(tmp_path) == ["9.tar", "10.tar"]
    with pytest.raises(DatasetError, match="no shards of the split 'train'") as caught:
        find_shards(tmp_path, "train")
    assert caught.value.remedy == "Leave out ?split"


def test_compressed_shards_are_named_as_such(tmp_path: Path) -> None:
    folder_of(tmp_path, "test/0.tar.gz")
    with pytest.raises(DatasetError, match=r"are compressed, the first is '0\.tar\.gz'"):
        find_shards(tmp_path, None)


def test_numbers_that_are_left_out_are_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/0.tar", "a/1.tar", "b/x-0001.tar", "b/x-0003.tar", "b/x-0005.tar")
    assert find_shards(tmp_path / "a", None).remarks == ()
    (remark,) = find_shards(tmp_path / "b", None).remarks
    assert str(remark) == "2 numbers that no shard has, while higher ones exist (x-0002.tar, x-0004.tar)"


def test_counts_that_writers_of_shards_leave_beside_them(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/00000.tar", "b/00000.tar")
    (tmp_path / "a" / "sizes.json").write_text(json.dumps({"00000.tar": 7, "more": "x"}))
    assert find_shards(tmp_path / "a", None).samples == {"00000.tar": 7}
    (tmp_path / "b" / "00000_stats.json").write_text(json.dumps({"count": 9, "successes": 8}))
    found = find_shards(tmp_path / "b", None)
    assert (found.samples, found.counted_in) == ({"00000.tar": 8}, "its _stats.json")
    (tmp_path / "a" / "sizes.json").write_text("[" * 100_000)
    assert find_shards(tmp_path / "a", None).samples == {}
