"""The stage cache returns what was stored under the same key, and only that."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from abs_classify.encoding.cache import (
    CacheKey,
    MemoryCache,
    StageCache,
    differences,
    open_cache,
    read_last_run,
    write_last_run,
)
from abs_core.errors import CacheError


def key(**inputs: object) -> CacheKey:
    return CacheKey("view-features", 1, inputs)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"features": generator.normal(size=(3, 4)).astype(np.float32), "ids": np.arange(3)}


def test_what_was_stored_comes_back_exactly(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    assert cache.load(key(seed=1)) is None
    cache.store(key(seed=1), arrays())
    found = cache.load(key(seed=1))
    assert found is not None
    for name, array in arrays().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert cache.load(key(seed=2)) is None
    assert (cache.hits, cache.misses) == ({"view-features": 1}, {"view-features": 2})


def test_every_part_of_a_key_counts() -> None:
    keys = [
        key(seed=1),
        key(seed=2),
        key(seed="1"),
        key(seed=1, more=None),
        CacheKey("scores", 1, {"seed": 1}),
        CacheKey("view-features", 2, {"seed": 1}),
    ]
    assert len({k.digest for k in keys}) == len(keys)
    assert key(a=1, b=2).digest == key(b=2, a=1).digest


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "garbage"])
def test_a_damaged_entry_is_removed_and_rebuilt(tmp_path: Path, damage: str) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(seed=1), arrays())
    (entry,) = cache.entries()
    data = bytearray(entry.path.read_bytes())
    if damage == "flip":
        data[-3] ^= 1
    changed = {"flip": bytes(data), "cut": bytes(data[:-9]), "empty": b"", "garbage": b"\xff" * 64}[damage]
    entry.path.write_bytes(changed)
    assert cache.load(key(seed=1)) is None
    assert not entry.path.exists()
    cache.store(key(seed=1), arrays())
    assert cache.load(key(seed=1)) is not None


@pytest.mark.parametrize("change", [lambda array: array.view(np.int32), lambda array: array.reshape(4, 3)])
def test_the_same_bytes_of_another_type_or_shape_are_not_believed(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(seed=1), arrays())
    (entry,) = cache.entries()
    with safe_open(entry.path, "numpy") as stored:
        metadata = stored.metadata()
    save_file({**arrays(), "features": change(arrays()["features"])}, entry.path, metadata)
    assert cache.load(key(seed=1)) is None


def test_reading_marks_an_entry_as_used(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(seed=1), arrays())
    (entry,) = cache.entries()
    os.utime(entry.path, (1_000, 1_000))
    assert cache.load(key(seed=1)) is not None
    # access times alone do not tell: file systems may be mounted without them
    assert entry.path.stat().st_mtime > 1_000
    assert cache.holds(key(seed=1))


def test_an_entry_under_another_key_is_not_believed(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(seed=1), arrays())
    (entry,) = cache.entries()
    other = key(seed=2)
    target = tmp_path / "v1" / other.stage / other.digest[:2] / f"{other.digest}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    entry.path.replace(target)
    assert cache.load(other) is None


def test_explain_names_the_part_that_differs(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(seed=1, tower={"digest": "sha256:aa", "dtype": "float32"}), arrays())
    cache.store(key(seed=2, tower={"digest": "sha256:bb", "dtype": "float32"}), arrays())
    found = cache.explain(key(seed=1, tower={"digest": "sha256:bb", "dtype": "float32"}))
    assert found is not None
    assert [d.path for d in found[1]] in (["inputs.seed"], ["inputs.tower.digest"])
    assert cache.explain(CacheKey("other", 1, {})) is None


def test_explain_stays_with_one_kind(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.store(key(view={"kind": "window", "count": 3}, seed=1), arrays())
    cache.store(key(view={"kind": "box", "count": 4}, seed=2), arrays())
    found = cache.explain(key(view={"kind": "box", "count": 3}, seed=1))
    assert found is not None
    assert [d.path for d in found[1]] == ["inputs.seed", "inputs.view.count"]


def test_differences_go_into_lists_of_equal_length() -> None:
    assert [d.path for d in differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]})] == ["a[1].b"]
    assert [d.path for d in differences({"a": [1]}, {"a": [1, 2]})] == ["a"]


def test_a_run_of_any_length_is_remembered_in_bounded_space(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    for number in range(500):
        assert cache.load(key(number=number)) is None
    cache.store(key(number=0), arrays())
    assert cache.load(key(number=0)) is not None
    assert len(cache.missed) == 64
    write_last_run(cache)
    run = read_last_run(tmp_path)
    assert run is not None
    stage = key(number=0).stage
    assert (run.hits, run.misses) == ({stage: 1}, {stage: 500})
    assert [one.digest for one in run.missed] == [one.digest for one in cache.missed]
    (tmp_path / "last-run.json").write_text("{}")
    assert read_last_run(tmp_path) is None


def test_prune_removes_the_least_recently_used(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    for seed in range(4):
        cache.store(key(seed=seed), arrays())
    for entry in cache.entries():
        os.utime(entry.path, (1_000, 1_000))
    assert cache.load(key(seed=2)) is not None  # now the most recently used
    size = next(iter(cache.entries())).bytes
    assert len(cache.prune(max_bytes=2 * size)) == 2
    assert len(cache.prune(older_than_days=1)) == 1
    assert cache.load(key(seed=2)) is not None


def test_prune_removes_what_was_derived_from_weights(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    unpacked = tmp_path / "derived" / "model"
    unpacked.mkdir(parents=True)
    (unpacked / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "derived" / "anchors.safetensors").write_bytes(bytes(10))
    os.utime(unpacked / "model.safetensors", (1_000, 1_000))
    assert {(entry.path.name, entry.bytes) for entry in cache.derived()} == {
        ("model", 1000),
        ("anchors.safetensors", 10),
    }
    assert [entry.path.name for entry in cache.prune(older_than_days=1)] == ["model"]
    assert [path.name for path in (tmp_path / "derived").iterdir()] == ["anchors.safetensors"]


def test_verify_reads_every_entry(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    for seed in range(3):
        cache.store(key(seed=seed), arrays())
    broken = next(iter(cache.entries())).path
    broken.write_bytes(broken.read_bytes()[:-1])
    assert sorted(good for _, good in cache.verify()) == [False, True, True]
    assert [good for _, good in cache.verify()] == [True, True]


def _store_many(root: Path, seed: int) -> None:
    cache = StageCache(root)
    for number in range(40):
        cache.store(key(number=number), arrays(number))
        cache.load(key(number=(number * 7 + seed) % 40))


def test_two_processes_share_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_store_many, args=(tmp_path, seed)) for seed in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = StageCache(tmp_path)
    for number in range(40):
        found = cache.load(key(number=number))
        assert found is not None
        np.testing.assert_array_equal(found["features"], arrays(number)["features"])
    assert not list(tmp_path.rglob("*.part"))


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=r"file.*--cache"):
        StageCache(tmp_path / "file").require_writable()


def test_memory_keeps_the_latest_entries_of_each_stage() -> None:
    cache = MemoryCache(2)
    for seed in range(3):
        cache.store(key(seed=seed), arrays(seed))
    cache.store(CacheKey("scores", 1, {}), arrays(9))
    assert [cache.holds(key(seed=seed)) for seed in range(3)] == [False, True, True]
    assert cache.load(key(seed=0)) is None
    latest = cache.load(key(seed=2))
    assert latest is not None
    np.testing.assert_array_equal(latest["features"], arrays(2)["features"])
    assert cache.holds(CacheKey("scores", 1, {}))


def test_a_cache_is_opened_by_its_folder(tmp_path: Path) -> None:
    opened = open_cache(str(tmp_path))
    assert opened is not None
    assert opened.root == tmp_path
    assert open_cache(opened) is opened
    assert open_cache(None) is None
