"""RunPredictions are kept with every run, and say of each image what the run said."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import Bench
from safetensors.numpy import save

from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions
from abs_classify.evaluation.results_folder import read_predictions, read_result, read_results
from abs_core.errors import ResultError, StorageError


def predictions(images: int = 4, classes: int = 3) -> RunPredictions:
    numbers = np.random.default_rng(0)
    passes = [
        MethodPredictions("abs", 0, numbers.integers(0, classes, (images, 2)),
                          numbers.normal(size=(images, 2)).astype(np.float32), numbers.integers(1, classes, images)),
        MethodPredictions("abs", 1, numbers.integers(0, classes, (images, 1)),
                          np.zeros((images, 0), np.float32), numbers.integers(0, classes, images)),
    ]  # fmt: skip
    ids = [f"sha256:{number:064x}" for number in range(images)]
    names = [f"class {number}" for number in range(classes)]
    paths = [f"a/é {number}.jpg" for number in range(images)]
    return RunPredictions(ids, paths, numbers.integers(0, classes, images), names, names, passes)


def assert_same(first: RunPredictions, second: RunPredictions) -> None:
    for name in ("images", "paths", "class_ids", "class_names"):
        assert list(getattr(first, name)) == list(getattr(second, name))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert len(first.passes) == len(second.passes)
    for one_pass, other in zip(first.passes, second.passes, strict=True):
        assert (one_pass.method, one_pass.seed) == (other.method, other.seed)
        for name in ("top", "scores", "ranks"):
            np.testing.assert_array_equal(getattr(one_pass, name), getattr(other, name))


@pytest.mark.parametrize(("images", "classes"), [(4, 3), (0, 3), (3, 70_000)])
def test_what_is_encoded_is_read(tmp_path: Path, images: int, classes: int) -> None:
    written = predictions(images, classes)
    (tmp_path / "a").write_bytes(written.encode())
    assert_same(RunPredictions.read(tmp_path / "a"), written)
    assert written.encode() == predictions(images, classes).encode()


@pytest.mark.slow
def test_a_run_keeps_what_its_methods_said(bench: Bench, seven: Path, tmp_path: Path) -> None:
    results = bench.run(seven, "clip,abs-pixels", views=3, seeds=2, results=tmp_path)
    folder = results.folder
    assert folder is not None
    kept = read_predictions(folder, results[0])
    assert len(list(folder.glob("*.predictions.gz"))) == 1
    passes = [(passed.method, passed.seed) for passed in kept.passes]
    assert passes == [("clip", 0), ("abs-pixels", 0), ("abs-pixels", 1)]
    assert list(kept.class_names) == ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    assert [Path(path).parts[-2] for path in kept.paths] == [kept.class_names[label] for label in kept.labels]
    for record in read_results(folder):
        first = kept.of(record.method)[0]
        np.testing.assert_array_equal(first.right, record.right)
        np.testing.assert_array_equal(first.right, first.predicted == kept.labels)
        accuracies = [passed.right.mean() for passed in kept.of(record.method)]
        assert accuracies == pytest.approx(record.details.seeds.acc1)


@pytest.fixture
def result(bench: Bench, seven: Path) -> Path:
    return bench.files(seven, "clip")[0]


@pytest.mark.slow
def test_predictions_of_other_results_are_refused(bench: Bench, seven: Path, result: Path) -> None:
    record = read_result(result)
    file = record.details.predictions
    assert file is not None
    path = result.parent / file.name
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(predictions().encode())
    with pytest.raises(ResultError, match="does not hold the predictions of its results"):
        read_predictions(result.parent, record)
    path.write_bytes(data)
    assert read_predictions(result.parent, record).paths
    path.unlink()
    with pytest.raises(StorageError, match=r"predictions\.gz"):
        read_predictions(result.parent, record)
    elsewhere = record.with_predictions(file.model_copy(update={"name": "../x.predictions.gz"}))
    with pytest.raises(ResultError, match="is no name of a file of predictions"):
        read_predictions(result.parent, elsewhere)


@pytest.mark.slow
def test_results_from_before_predictions_were_kept_are_read(result: Path, tmp_path: Path) -> None:
    value = json.loads(result.read_text())
    del value["details"]["predictions"]
    (tmp_path / "old.json").write_text(json.dumps(value))
    record = read_result(tmp_path / "old.json")
    with pytest.raises(ResultError, match=r"has no predictions of each image\. Run the evaluation again"):
        read_predictions(tmp_path, record)


def tampered(**arrays: Any) -> bytes:
    """A file of which some arrays are others."""
    data = gzip.decompress(predictions().encode())
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    return gzip.compress(save({**load(data), **arrays}, metadata), mtime=0)


def with_metadata(old: str, new: str) -> bytes:
    data = gzip.decompress(predictions().encode())
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode().replace(old, new).encode()
    return gzip.compress(struct.pack("<Q", len(header)) + header + data[8 + length :], mtime=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no predictions"),
        (b"no gzip", "holds no predictions"),
        (predictions().encode()[:-20], "holds no predictions"),
        (gzip.compress(b"\xff" * 100, mtime=0), "holds no predictions"),
        (gzip.compress(save({"a": np.zeros(3)}), mtime=0), "holds no predictions"),
        (tampered(labels=np.array([0, 1, 2, 3], np.uint16)), "holds no predictions"),
        (tampered(**{"0.top": np.full((4, 2), 3, np.uint16)}), "holds no predictions"),
        (tampered(**{"1.ranks": np.zeros(3, np.uint16)}), "holds no predictions"),
        (tampered(images=np.zeros((3, 32), np.uint8)), "holds no predictions"),
        (with_metadata("abs-predictions", "abs-other-file-"), "holds no predictions"),
        (with_metadata('format_version\\":\\"1\\"', 'format_version\\":\\"2\\"'), "version '2'.*Update abs-toolkit"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ResultError, match=message):
        RunPredictions.read(tmp_path / "a")


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.evaluation.predictions._LARGEST", 1 << 21)
    (tmp_path / "a").write_bytes(gzip.compress(bytes(1 << 23)))
    with pytest.raises(ResultError, match="holds no predictions"):
        RunPredictions.read(tmp_path / "a")
