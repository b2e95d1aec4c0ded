"""Features and bundles in a bucket of SeaweedFS, which many clients use at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from feature_buckets import IDS, SPACE, assert_rows, put_packs, segments, store_of
from sharing import add, send, take
from support import ROOT

from abs_classify.encoding import bucket_packs
from abs_core.buckets import open_bucket
from abs_core.locations import parse_location


def test_of_many_writers_at_once_one_creates_an_object() -> None:
    bucket = open_bucket(parse_location("s3://team/conditions"))
    assert bucket.honours_conditions("proof")
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(2):
            written = list(pool.map(lambda _, number=attempt: bucket.create(f"{number}", b"x"), range(8)))
            assert written.count(True) == 1


def test_rows_are_found_merged_and_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_PACKS", 4)
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_LEVEL", 2)
    place = "s3://team/merged"
    store, reader = (store_of(tmp_path / name, place) for name in "ab")
    put_packs(store, 15)
    assert_rows(reader, 6, range(60))
    put_packs(store, 1)
    for other in (store, reader, store_of(tmp_path / "c", place)):
        assert_rows(other, 6, range(60))
    assert [(summary.items, summary.packs) for summary in reader.summaries()] == [(60, 1)]
    assert [(pack.sound, pack.damaged) for pack in reader.verify()] == [(360, 0)]
    assert len(store.prune(max_bytes=0)) == 1
    assert list(store_of(tmp_path / "d", place).summaries()) == []


def test_a_listing_goes_on_after_a_name_and_over_pages(tmp_path: Path) -> None:
    bucket = open_bucket(parse_location("s3://team/listing"))
    names = [f"x/{number:04d}" for number in range(1100)]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda name: bucket.create(name, b""), names))
    assert [entry.path for entry in bucket.objects("x/")] == names
    assert [entry.path for entry in bucket.objects("x/", "1050")] == names[1051:]
    bucket.remove(names)
    assert bucket.objects("x/") == []


_WORK = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from abs_classify.encoding import bucket_claims
from feature_buckets import IDS, SPACE, segments, store_of
bucket_claims._WORTH = 0.0
store, computed = store_of(Path(sys.argv[1]), "s3://team/divided"), 0
for first in range(0, 100, 10):
    ids = IDS[first : first + 10]
    while store.counts(SPACE, ids) != [6] * 10:
        with store.claim(f"shard {first}") as is_mine:
            if is_mine and store.counts(SPACE, ids) != [6] * 10:
                time.sleep(0.05)
                store.append(SPACE, segments(0, 6, range(first, first + 10)))
                store.flush()
                computed += 10
        store.flush()
        store.wait_for(f"shard {first}", 60)
print(computed)
"""


def test_machines_divide_work(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", _WORK]
    machines = [
        subprocess.Popen([*command, str(tmp_path / name), str(ROOT / "tests")], stdout=subprocess.PIPE, cwd=ROOT)
        for name in "abc"
    ]
    computed = [int(machine.communicate(timeout=300)[0]) for machine in machines]
    assert_rows(store_of(tmp_path / "d", "s3://team/divided"), 6, range(100))
    # what a machine has not seen yet when it claims is computed twice
    assert 100 <= sum(computed) < 200
    assert store_of(tmp_path / "e", "s3://team/divided")._bucket.objects("claims/") == []


def test_bundles_are_pushed_and_pulled(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    assert send(tmp_path / "a", "s3://team/bundles")[0].is_new
    assert not send(tmp_path / "a", "s3://team/bundles")[0].is_new
    assert take(tmp_path / "b", "s3://team/bundles")[0].manifest == entry


def test_a_machine_that_reads_ahead_sees_the_same_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "a", "s3://team/ahead")
    store.append(SPACE, segments(0, 6, range(400)))
    assert store.flush()
    reader = store_of(tmp_path / "b", "s3://team/ahead")
    for first in range(0, 400, 16):
        assert_rows(reader, 6, range(first, first + 16))
    assert reader.counts(SPACE, IDS[:1]) == [6]
