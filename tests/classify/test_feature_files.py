"""Files of features, read back by the libraries that read such files."""

from __future__ import annotations

import json
import resource
import signal
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from abs_classify import feature_files
from abs_classify.feature_files import ClassFeatures, EncodedBatch, SavedFeatures, check_target, write_features
from abs_core.errors import ImageError, MissingExtraError, StorageError, UsageError

ENDINGS = ["parquet", "npz", "safetensors"]
VIEWS = [{"kind": "box", "count": 2}, {"kind": "window", "count": 1}]
CLASSES = ClassFeatures(
    np.arange(6, dtype=np.float32).reshape(2, 3), ["cat", "dog"], ["Katze", "Hund"], ["A cat.", "Ein großer Hund."]
)


@dataclass(frozen=True)
class Run:
    """Where features of a test are from."""

    info: Mapping[str, Any]
    classes: ClassFeatures | None = None


@dataclass(frozen=True)
class ReadBack:
    """What a library found in a file."""

    features: np.ndarray
    ids: list[str]
    names: list[str]
    labels: list[str]
    info: dict[str, Any]


def batches(*shape: int, count: int = 3) -> Iterator[EncodedBatch]:
    for number in range(count):
        size = number + 1
        features = np.random.default_rng(number).normal(size=(size, *shape)).astype(np.float32)
        ids = [f"sha256:{number}{row}" for row in range(size)]
        names = [f"photos/ünïcode {number}{row}.png" for row in range(size)]
        yield EncodedBatch(features, ids, names, ["", "cat", "dög"][:size])


def expected(*shape: int) -> ReadBack:
    parts = list(batches(*shape))
    columns = [[value for part in parts for value in getattr(part, name)] for name in ("ids", "names", "labels")]
    return ReadBack(np.concatenate([part.features for part in parts]), *columns, {"views": VIEWS})


def read_back(path: Path) -> ReadBack:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            columns = [file[name].tolist() for name in ("ids", "names", "labels")]
            return ReadBack(file["features"], *columns, json.loads(str(file["info"])))
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        with safe_open(path, "np") as file:
            info = json.loads(file.metadata()["abs-features"])
        columns = [json.loads(tensors[name].tobytes()) for name in ("ids", "names", "labels")]
        return ReadBack(tensors["features"], *columns, info)
    table = pq.read_table(path)
    features = table["features"].combine_chunks()
    matrix = features.flatten().to_numpy().reshape(len(table), features.type.list_size)
    columns = [[value or "" for value in table[name].to_pylist()] for name in ("id", "path", "label")]
    return ReadBack(matrix, *columns, json.loads(table.schema.metadata[b"abs-features"]))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_read_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deeper" / f"photos.{ending}"
    saved = write_features(path, batches(4), Run({"views": VIEWS}))
    assert saved == SavedFeatures((path,), 6, (4,), 0)
    found, wanted = read_back(path), expected(4)
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.features, wanted.features)
    assert (found.ids, found.names, found.labels) == (wanted.ids, wanted.names, wanted.labels)
    assert found.info == wanted.info
    before = path.read_bytes()
    write_features(path, batches(4), Run({"views": VIEWS}))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_views_and_classes_are_arrays_of_their_own(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photos.{ending}"
    saved = write_features(path, batches(3, 3), Run({"views": VIEWS}, CLASSES))
    assert saved == SavedFeatures((path,), 6, (3, 3), 2)
    np.testing.assert_array_equal(read_back(path).features, expected(3, 3).features)
    if ending == "npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
        strings = {name: arrays[name].tolist() for name in ("class_ids", "class_names", "class_texts")}
    else:
        arrays = load_file(path)
        strings = {name: json.loads(arrays[name].tobytes()) for name in ("class_ids", "class_names", "class_texts")}
    np.testing.assert_array_equal(arrays["class_features"], CLASSES.features)
    assert list(strings.values()) == [CLASSES.ids, CLASSES.names, CLASSES.texts]


def test_in_parquet_each_view_has_a_row_and_the_classes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    saved = write_features(path, batches(3, 3), Run({"views": VIEWS}, CLASSES))
    assert saved == SavedFeatures((path, tmp_path / "photos.classes.parquet"), 6, (3, 3), 2)
    found, wanted = read_back(path), expected(3, 3)
    np.testing.assert_array_equal(found.features.reshape(6, 3, 3), wanted.features)
    assert found.ids == [image_id for image_id in wanted.ids for _ in range(3)]
    table = pq.read_table(path)
    assert table["kind"].to_pylist() == ["box", "box", "window"] * 6
    assert table["view"].to_pylist() == [0, 1, 0] * 6
    classes = pq.read_table(saved.files[1]).to_pylist()
    assert [row["class"] for row in classes] == CLASSES.ids
    assert [row["text"] for row in classes] == CLASSES.texts
    assert [row["features"] for row in classes] == CLASSES.features.tolist()


def test_without_a_label_parquet_has_a_null(tmp_path: Path) -> None:
    write_features(tmp_path / "a.parquet", batches(4), Run({}))
    assert pq.read_table(tmp_path / "a.parquet")["label"].to_pylist() == [None, None, "cat", None, "cat", "dög"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_are_not_unicode_and_empty_ones_are_kept_readable(tmp_path: Path, ending: str) -> None:
    batch = EncodedBatch(np.ones((2, 2), np.float32), ["a", "b"], ["caf\udce9.png", 'line\nbreak".png'], ["", ""])
    write_features(tmp_path / f"a.{ending}", [batch], Run({"source": "caf\udce9"}))
    found = read_back(tmp_path / f"a.{ending}")
    assert found.names == ["caf\\udce9.png", 'line\nbreak".png']
    assert found.info["source"] in ("caf\\udce9", "caf\udce9")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, ending: str) -> None:
    def failing() -> Iterator[EncodedBatch]:
        yield from batches(4)
        raise ImageError("this one is broken")

    path = tmp_path / f"photos.{ending}"
    path.write_bytes(b"old")
    with pytest.raises(ImageError, match="this one is broken"):
        write_features(path, failing(), Run({"views": VIEWS}, CLASSES))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_files, "_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(feature_files, "_BLOCK_BYTES", 1 << 20)
    batch = EncodedBatch(np.zeros((100, 5000), np.float32), ["id"] * 100, ["name"] * 100, ["cat"] * 100)  # 2 MB
    peaks = []
    for count in (4, 24):
        tracemalloc.start()
        write_features(tmp_path / f"many.{ending}", (batch for _ in range(count)), Run({}))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4_000_000


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_gets_full_is_named_and_nothing_stays(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_files, "_GROUP_BYTES", 1 << 16)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores it, but compilers that other tests load put a handler of their own in its place, which crashes
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = np.random.default_rng(0).random((100, 1000), np.float32)
    batch = EncodedBatch(noise, ["id"] * 100, ["name"] * 100, ["cat"] * 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=rf"cannot write '.*photos\.{ending}': file too large"):
            write_features(tmp_path / f"photos.{ending}", (batch for _ in range(10)), Run({}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if handler is None else handler)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"ends in \.parquet, \.npz or \.safetensors, got 'photos\.csv'"):
        check_target(Path("photos.csv"))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path / "folder.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write in"):
        check_target(tmp_path / "file" / "photos.npz")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"to write parquet files.*abs-toolkit\[datasets\]"):
        check_target(tmp_path / "photos.parquet")
