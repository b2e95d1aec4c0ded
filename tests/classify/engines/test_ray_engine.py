"""The engine on a real local Ray with two workers: the same results, and what becomes of faults."""

from __future__ import annotations

import gzip
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray_workers import forget_plugins, load_faults, save_images, worker_processes

from abs_classify import AdaptiveViews, encode, evaluate, label, load_model
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.engines import ray_engine
from abs_classify.engines.ray_engine import RayEngine
from abs_classify.engines.shard_worker import ShardWorker
from abs_core.errors import EngineError, UsageError

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    # what Ray leaves open when it ends
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning:ray.*", "ignore:.*ray.*:FutureWarning"
    ),
]

METHODS = ["clip", "abs", "tda"]
BUDGET = AdaptiveViews(budget_views=6)


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    engine = RayEngine(workers=2, shard_images=8)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("images"), 48)


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    forget_plugins()
    yield
    forget_plugins()


def run(images: Path, model: str, cache: Path, **options: Any) -> Any:
    return evaluate(
        f"imagefolder:{images}",
        model,
        METHODS,
        attention="self",
        views=3,
        cache=cache,
        results=cache / "out",
        **options,
    )


def rankings(evaluated: Any) -> list[bytes]:
    """What each image got from each method, and the metrics of these."""
    files = sorted(evaluated.folder.rglob("*.predictions.gz"))
    assert files
    return [gzip.decompress(path.read_bytes()) for path in files]


def test_results_are_those_of_the_local_engine_and_a_killed_worker_changes_none(
    images: Path, small_clips: tuple[str, str], engine: RayEngine, tmp_path: Path
) -> None:
    local = run(images, small_clips[0], tmp_path / "local")
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not killed and not done.is_set():
            if (tmp_path / "ray" / "features").is_dir():
                killed.extend(worker_processes()[:1])
                for process in killed:
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        shared = run(images, small_clips[0], tmp_path / "ray", engine=engine)
    finally:
        done.set()
        thread.join()
    assert rankings(shared) == rankings(local)
    assert shared.work.images_computed == 48
    store, other = DiskStore(tmp_path / "ray"), DiskStore(tmp_path / "local")
    assert {entry.digest: entry.items for entry in store.summaries()} == {
        entry.digest: entry.items for entry in other.summaries()
    }
    # nothing is left to do, so no worker is asked
    again = run(images, small_clips[0], tmp_path / "ray", engine=RayEngine(address="127.0.0.1:1", workers=2))
    assert again.work.nothing


def test_an_image_that_kills_workers_is_alone_in_the_end_and_left_out(
    images: Path, small_clips: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: what its workers would do, where a shard with the image comes to nothing."""
    dealt: list[int] = []

    def rows(wave: Any, workers: int, shards: Any, **_: Any) -> Iterator[Any]:
        worker = ShardWorker(wave._setup)
        for number, shard in list(shards.items()):
            data = wave._packed(shard)
            if any(wave._samples[place].path.name == "007.png" for place in shard.places):
                dealt.append(len(shard.places))
            else:
                yield {"shard": number, "manifest": pickle.dumps(worker.encode(data))}

    monkeypatch.setattr(ray_engine._Wave, "_rows", rows)
    monkeypatch.setattr(RayEngine, "start", lambda _: SimpleNamespace(exceptions=SimpleNamespace(RayError=OSError)))
    monkeypatch.setattr(RayEngine, "worker_count", lambda *_: 2)
    options: dict[str, Any] = {"model": small_clips[0], "attention": "self"}
    local = list(label(images, ["cat", "dog"], cache=tmp_path / "local", **options))
    rows_of_ray = list(label(images, ["cat", "dog"], cache=tmp_path / "ray", engine=RayEngine(workers=2), **options))
    failed = [row for row in rows_of_ray if row.status == "failed"]
    assert [Path(row.path).name for row in failed] == ["007.png"]
    assert "workers died of it" in failed[0].reason
    assert [row for row in rows_of_ray if row not in failed] == [r for r in local if Path(r.path).name != "007.png"]
    # 48 images in two shards of 32 at most, then parts of four, then alone, three times
    assert dealt == [32, 4, 1, 1, 1]


def test_a_run_of_ray_data_that_fails_within_is_followed_by_another(
    images: Path, small_clips: tuple[str, str], engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data forgets a reference when a worker dies in an unlucky moment: what came back until then counts."""
    import ray.data

    rows_of, failures = ray.data.Dataset.iter_rows, ["once"]

    def iter_rows(dataset: Any, **options: Any) -> Iterator[Any]:
        for row in rows_of(dataset, **options):
            yield row
            if failures:
                raise KeyError(failures.pop())

    monkeypatch.setattr(ray.data.Dataset, "iter_rows", iter_rows)
    shared = encode(images, model=small_clips[0], cache=tmp_path / "ray", engine=engine)
    assert not failures
    assert list(shared.ids) == list(encode(images, model=small_clips[0], cache=tmp_path / "local").ids)


def test_rounds_that_ray_ends_without_a_shard_are_few_and_the_reason_is_said(
    images: Path, small_clips: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def rows(*_arguments: Any, **_options: Any) -> Iterator[Any]:
        rounds.append(0)
        raise OSError("no room for actors")
        yield

    monkeypatch.setattr(ray_engine._Wave, "_rows", rows)
    monkeypatch.setattr(RayEngine, "start", lambda _: SimpleNamespace(exceptions=SimpleNamespace(RayError=OSError)))
    monkeypatch.setattr(RayEngine, "worker_count", lambda *_: 2)
    with pytest.raises(EngineError, match="3 rounds without a shard that was done: no room for actors"):
        encode(images, model=small_clips[0], cache=tmp_path / "cache", engine=RayEngine(workers=2))
    assert len(rounds) == 3


def test_what_no_worker_can_do_is_said_with_the_machine_and_the_remedy(
    images: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    load_faults(tmp_path, all="weights")
    engine = RayEngine(workers=1)
    try:
        with pytest.raises(EngineError, match=r"the worker \d+ on \S+ cannot go on: .*nowhere"):
            encode(images, model=small_clips[0], cache=tmp_path / "cache", engine=engine)
    finally:
        engine.close()


def test_what_workers_could_not_reach_is_refused_before_they_start(images: Path, small_clips: tuple[str, str]) -> None:
    engine = RayEngine("127.0.0.1:1", 2)
    with pytest.raises(UsageError, match="a cache that all machines share"):
        encode(images, model=small_clips[0], engine=engine)
    with pytest.raises(UsageError, match="is loaded in this process"):
        evaluate(f"imagefolder:{images}", load_model(small_clips[0]), ["clip"], engine=engine)
    with pytest.raises(UsageError, match="a budget of views cannot be spent"):
        evaluate(f"imagefolder:{images}", small_clips[0], ["abs"], views=BUDGET, attention="self", engine=engine)
    with pytest.raises(UsageError, match="which GPU a worker gets is decided by Ray"):
        evaluate(f"imagefolder:{images}", small_clips[0], ["clip"], device="cpu", engine=RayEngine(gpus_per_worker=1))


@pytest.mark.parametrize(("images", "workers", "size"), [(24, 2, 32), (300, 2, 64), (500, 8, 32), (10_000, 8, 128)])
def test_few_images_are_shared_among_all_workers(images: int, workers: int, size: int) -> None:
    assert RayEngine().shard_size(images, workers) == size
    assert RayEngine(shard_images=8).shard_size(images, workers) == 8
