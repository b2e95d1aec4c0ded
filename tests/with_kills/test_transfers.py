"""Kills in the middle of an upload and of a download, at requests and blocks that are counted by the server."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from bucket_server import Bucket, serving_s3
from kill_bench import KillBench
from kill_scenarios import TWO_DAYS
from kill_text_scenarios import Generation, ModelPull, PushToBucket

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def after(number: int, kill: Callable[[], None]) -> Callable[..., None]:
    """Calls ``kill`` when it was called so often."""
    calls = count(1)

    def call(*_: object) -> None:
        if next(calls) == number:
            kill()

    return call


def test_a_download_is_resumed_where_it_was_killed(bench: KillBench, tmp_path: Path) -> None:
    hub, parts = bench.shared["hub"], (1, 7, 20, 33)
    scenario, before = ModelPull(tmp_path / "pull", bench.shared), len(hub.ranges)
    scenario.prepare()
    for number, part in enumerate(parts):
        hub.between = after(part, bench.server.kill)
        try:
            assert scenario.run(bench.server, later=number * TWO_DAYS).was_killed
        finally:
            hub.between = lambda: None
        # the bytes and the version of the large file, and a small one
        assert len(scenario.leftovers()) <= 3
    assert scenario.run(bench.server, later=len(parts) * TWO_DAYS).code == 0
    # what the server counts as sent was partly in the buffers of the connection, so what was asked for is compared
    begins = [int(wanted.removeprefix("bytes=").removesuffix("-")) for wanted in hub.ranges[before:]]
    assert begins == sorted(begins)
    assert begins[-1] > 0
    assert scenario.leftovers() == []


def test_an_upload_is_killed_at_every_request(bench: KillBench, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with serving_s3(Bucket()) as bucket:
        shared = {**bench.shared, "bucket": bucket}
        whole = PushToBucket(tmp_path / "whole", shared)
        whole.prepare()
        assert whole.run(bench.server).code == 0
        requests = len(bucket.requests)
        for number in range(1, requests + 1, 2):
            scenario = PushToBucket(tmp_path / f"push{number}", shared)
            scenario.prepare()
            bucket.before = after(number, bench.server.kill)
            assert scenario.run(bench.server).was_killed
            bucket.before = lambda method, path: None
            scenario.check()
            assert scenario.run(bench.server).code == 0
            scenario.check()
            assert scenario.objects() == whole.objects()


def test_a_generation_is_killed_while_a_reply_is_on_its_way(bench: KillBench, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    chat = bench.shared["chat"]
    behave = chat.behave
    scenario = Generation(tmp_path / "generation", bench.shared)
    scenario.prepare()
    numbers = (1, 3, 9, 20)
    for number in numbers:
        tick = after(number, bench.server.kill)

        def reply(name: str, body: object, tick: Callable[..., None] = tick) -> object:
            text = behave(name, body)
            tick()
            return text

        chat.behave = reply
        try:
            assert scenario.run(bench.server).was_killed
        finally:
            chat.behave = behave
        scenario.check()
    assert scenario.run(bench.server).code == 0
    scenario.check_work(len(numbers), scenario)
