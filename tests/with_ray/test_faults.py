"""Faults in full: many kills, drivers that are killed or share a store, a full disk, a small object store.

    make test-ray

Runs for some minutes; the short version is in ``tests/classify/engines``.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_workers import forget_plugins, load_faults, save_images, worker_processes
from support import ROOT

from abs_classify import EncodedSet, encode, label
from abs_classify.engines import ray_engine
from abs_classify.engines.ray_engine import RayEngine
from abs_classify.sharding import ShardSpec

pytest.importorskip("ray")
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

KILLS = int(os.environ.get("ABS_TEST_RAY_KILLS", "20"))


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    forget_plugins()
    yield
    forget_plugins()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("images"), 96)


def features(images: Path | Sequence[Path], model: str, cache: Path, **options: Any) -> EncodedSet:
    return encode(images, model=model, attention="self", of="views", views=3, cache=cache, **options)


def same(first: EncodedSet, second: EncodedSet) -> bool:
    return list(first.ids) == list(second.ids) and np.allclose(first.features, second.features, atol=1e-6)


def test_workers_that_are_killed_at_random_change_nothing(
    images: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    local = features(images, small_clips[0], tmp_path / "local")
    load_faults(tmp_path, slow=0.1)
    engine, generator = RayEngine(workers=2, shard_images=8), random.Random(0)
    killed, runs, done = 0, 0, threading.Event()

    def kill() -> None:
        nonlocal killed
        while not done.wait(generator.uniform(0.5, 6)) and killed < KILLS:
            if workers := worker_processes():
                os.kill(generator.choice(workers), signal.SIGKILL)
                killed += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        while killed < KILLS:
            shared = features(images, small_clips[0], tmp_path / f"ray{runs}", engine=engine)
            runs += 1
            assert same(shared, local)
            assert not shared.skipped
    finally:
        done.set()
        thread.join()
        engine.close()
    print(f"{killed} workers killed in {runs} runs of {len(local.ids)} images")


def test_a_worker_that_starts_later_gets_work(images: Path, small_clips: tuple[str, str], tmp_path: Path) -> None:
    """The first worker to be ready must not be given all there is, where that are few shards."""
    load_faults(tmp_path, slow=1)
    engine, done, most = RayEngine(workers=2), threading.Event(), 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.1):
            names = [Path(f"/proc/{process}/cmdline").read_bytes() for process in worker_processes()]
            most = max(most, sum(b").submit" in name for name in names))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        features(sorted(images.rglob("*.png"))[:64], small_clips[0], tmp_path / "cache", engine=engine)
    finally:
        done.set()
        thread.join()
        engine.close()
    assert most == 2


def test_an_image_that_kills_workers_costs_itself_and_a_worker_without_weights_nothing(
    images: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": small_clips[0], "attention": "self"}
    local = list(label(images, ["cat", "dog"], cache=tmp_path / "local", **options))
    load_faults(tmp_path, deadly=["007.png"], first="weights")
    engine = RayEngine(workers=2, shard_images=8)
    try:
        rows = list(label(images, ["cat", "dog"], cache=tmp_path / "ray", engine=engine, **options))
    finally:
        engine.close()
    failed = [row for row in rows if row.status == "failed"]
    assert [Path(row.path).name for row in failed] == ["007.png"]
    assert "workers died of it" in failed[0].reason
    assert [row for row in rows if row not in failed] == [row for row in local if Path(row.path).name != "007.png"]
    # once with its shard and again by Ray, then alone
    assert len((tmp_path / "deaths").read_text().splitlines()) <= 6


def command(images: Path, model: str, cache: Path, out: Path) -> list[str]:
    options = ["--of", "views", "--views", "3", "--attention", "self", "--model", model, "--out", str(out)]
    ray = ["--engine", "ray", "--workers", "2"]
    start = [sys.executable, "-m", "abs_cli", "--home", str(cache.parent / "home"), "--cache", str(cache)]
    return [*start, "features", str(images), *options, *ray]


def packs(cache: Path) -> int:
    return len(list(cache.glob("features/*/*.safetensors")))


def computed(log: str) -> int:
    return int(re.findall(r"computed: (\d+) of", log.replace("nothing", "0 of"))[-1])


def test_a_driver_that_is_killed_goes_on_where_it_was(
    images: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    run = command(images, small_clips[0], tmp_path / "cache", tmp_path / "out.npz")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(run, env=environment, stderr=subprocess.PIPE, text=True)
    while packs(tmp_path / "cache") < 3 and driver.poll() is None:
        time.sleep(0.02)
    driver.kill()
    driver.communicate()
    again = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    print(again.stderr)
    assert 0 <= computed(again.stderr) < 96
    local = features(images, small_clips[0], tmp_path / "local")
    with np.load(tmp_path / "out.npz") as archive:
        assert np.allclose(archive["features"], local.features, atol=1e-6)


def test_two_drivers_share_a_store(images: Path, small_clips: tuple[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    drivers = [
        subprocess.Popen(
            command(images, small_clips[0], tmp_path / "cache", tmp_path / f"{number}.npz"),
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    logs = [driver.communicate()[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], logs
    print("images computed by each driver:", [computed(log) for log in logs])
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        assert np.array_equal(first["features"], second["features"])


def test_a_worker_whose_disk_is_full_costs_nothing(
    images: Path, small_clips: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    local = features(images, small_clips[0], tmp_path / "local")
    load_faults(tmp_path, first="disk", slow=0.05)
    engine = RayEngine(workers=2, shard_images=8)
    try:
        shared = features(images, small_clips[0], tmp_path / "ray", engine=engine)
    finally:
        engine.close()
    print(caplog.text)
    assert same(shared, local)
    assert re.search(r"worker \d+ on \S+: .*(too large|cannot write)", caplog.text)


def test_nothing_is_spilled_from_a_small_object_store(
    small_clips: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_OBJECT_STORE", 80 << 20)
    images = save_images(tmp_path / "images", 1000)
    engine = RayEngine(workers=2)
    try:
        shared = features(images, small_clips[0], tmp_path / "ray", engine=engine)
        session = Path(sys.modules["ray"]._private.worker._global_node.get_session_dir_path())
        time.sleep(11)  # Ray writes its state every ten seconds
        state = (session / "logs" / "debug_state.txt").read_text()
    finally:
        engine.close()
    spilled = re.findall(r".*[Ss]pill.*", state)
    print("\n".join(spilled))
    assert len(shared.ids) == 1000
    assert re.search(r"cumulative spill requests: 0$|spilled bytes: 0$|num spilled: 0$", state, re.MULTILINE), spilled


def test_a_share_of_the_images_is_encoded_by_workers(
    images: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    engine = RayEngine(workers=2, shard_images=8)
    try:
        share = features(images, small_clips[0], tmp_path / "ray", engine=engine, shard=ShardSpec.of("2/4"))
    finally:
        engine.close()
    assert len(share.ids) == 24
