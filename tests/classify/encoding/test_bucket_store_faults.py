"""A bucket that refuses, breaks off and is slow; writers that are killed; claims of machines that vanished."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_server import Bucket, serving_s3
from faulty_proxy import Faults, breaking
from feature_buckets import IDS, PLACE, SPACE, assert_rows, environment_of, put_packs, segments, store_of
from support import ROOT

from abs_classify.encoding import bucket_claims
from abs_core import buckets
from abs_core.errors import CacheError, StorageError

pytestmark = pytest.mark.faults


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A server that can be told to fail."""
    monkeypatch.setattr(buckets, "_PAUSES", (0.01, 0.01, 0.01))
    with serving_s3(Bucket()) as server, breaking(server.address) as proxy:
        for name, value in environment_of(proxy.address).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.mark.parametrize("fault", ["SlowDown", "InternalError", "cut", "drop", "slow"])
def test_a_fault_that_passes_changes_nothing(fault: str, tmp_path: Path, faults: Faults) -> None:
    store, reader = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    faults.first(fault, 1, "PUT", ".safetensors")
    put_packs(store, 1)
    faults.first(fault, 1, "GET", ".safetensors")
    assert_rows(reader, 6, range(4))
    assert sum(request.startswith("PUT") and ".safetensors" in request for request in faults.requests) <= 2
    # a request whose answer is lost was carried out: the second one finds that
    assert [summary.rows for summary in reader.summaries()] == [24]


def test_a_short_answer_is_not_believed(tmp_path: Path, faults: Faults) -> None:
    put_packs(store_of(tmp_path / "a"), 1)
    reader = store_of(tmp_path / "b")
    assert reader.counts(SPACE, IDS[:4]) == [6] * 4
    faults.first("short", 1, "GET", ".safetensors")
    faults.requests.clear()
    assert_rows(reader, 6, range(4))
    assert [request.split()[0] for request in faults.requests] == ["GET", "GET"]  # and nothing was written anew


@pytest.mark.parametrize(
    ("fault", "problem", "remedy"),
    [("AccessDenied", "access was refused", "rights"), ("ExpiredToken", "the credentials have expired", "sso login")],
)
def test_who_may_only_read_is_served_and_what_cannot_be_kept_is_said(
    fault: str, problem: str, remedy: str, tmp_path: Path, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    put_packs(store_of(tmp_path / "a"), 1)
    faults.choose = lambda method, path: fault if method in ("PUT", "POST") else ""
    reader = store_of(tmp_path / "b")
    assert_rows(reader, 6, range(4))
    with reader.claim("x") as is_granted:
        assert is_granted
    with pytest.raises(CacheError, match=rf"cannot write s3://team/cache: {problem} \({fault}.*{remedy}") as refused:
        reader.require_writable()
    assert "secret words" not in str(refused.value)
    # a token that expires in a long run: what was computed waits on this machine
    reader.append(SPACE, segments(0, 6, range(4, 8)))
    with caplog.at_level(logging.WARNING):
        assert not reader.flush()
    assert f"features wait in {tmp_path / 'b' / 'index' / 'outgoing'}: cannot write" in caplog.text
    assert_rows(reader, 6, range(8))
    faults.choose = lambda method, path: ""
    assert store_of(tmp_path / "b").flush()
    assert_rows(store_of(tmp_path / "c"), 6, range(8))


def test_a_bucket_that_may_not_be_read_is_an_error(tmp_path: Path, faults: Faults) -> None:
    faults.choose = lambda method, path: "AccessDenied"
    with pytest.raises(StorageError, match=r"cannot list s3://team/cache: access was refused \(AccessDenied"):
        store_of(tmp_path).load(SPACE, IDS[:1])


_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from feature_buckets import SPACE, segments, store_of
store = store_of(Path(sys.argv[1]))
with store.claim("shard"):
    store.append(SPACE, segments(0, 6))
    store.flush()
"""


def test_a_writer_that_is_killed_while_it_writes_leaves_nothing_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def before(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(".safetensors") and not reached.is_set():
            reached.set()
            go_on.wait(30)
            raise ConnectionAbortedError("the client is gone")

    with serving_s3(Bucket(before=before)) as bucket:
        for name, value in environment_of(bucket.address).items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-c", _WRITE, str(tmp_path / "a"), str(ROOT / "tests")]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as writer:
            assert reached.wait(60)
            writer.kill()
        go_on.set()
        assert store_of(tmp_path / "b").counts(SPACE, IDS[:1]) == [0]
        again = store_of(tmp_path / "a")
        with again.claim("shard") as is_mine:  # of the process that this home had
            assert is_mine
        assert again.flush()
        assert_rows(store_of(tmp_path / "b"), 6)
        names = [entry.path.rpartition("/")[2] for entry in again._bucket.objects("")]
        assert sorted(name.rpartition(".")[2] for name in names) == ["json", "safetensors"]


def test_machines_divide_work_and_a_claim_lasts_until_the_rows_are_there(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    with ours.claim("shard") as is_mine:
        assert is_mine
        with theirs.claim("shard") as is_mine:
            assert not is_mine
        ours.append(SPACE, segments(0, 6))
    assert not theirs.wait_for("shard", 0.1)  # done, but the rows are still on the other machine
    assert ours.flush()
    assert theirs.wait_for("shard", 10)
    assert_rows(theirs, 6)


def test_a_claim_ends_with_the_upload_that_succeeds(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    with ours.claim("shard") as is_mine:
        assert is_mine
        ours.append(SPACE, segments(0, 6))

    def fail(_path: str, _data: bytes) -> bool:
        raise StorageError("the service is busy")

    with monkeypatch.context() as patch:
        patch.setattr(ours._bucket, "create", fail)
        assert not ours.flush()
    assert not theirs.wait_for("shard", 0.1)
    assert ours.flush()
    assert theirs.wait_for("shard", 0.1)


@pytest.mark.parametrize("stamp", ["99999999999", "inf", "-inf", "nan", "soon"])
def test_a_claim_that_no_clock_can_have_stamped_is_not_believed(stamp: str, tmp_path: Path, faults: Faults) -> None:
    store = store_of(tmp_path / "a")
    store._bucket.create(bucket_claims._path_of("shard"), f"somebody {stamp}".encode())
    assert store.wait_for("shard", 0.1)
    with store.claim("shard") as is_mine:
        assert is_mine


def test_a_claim_of_a_machine_that_vanished_expires(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_claims, "_WORTH", 0.0)
    ours, theirs = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    with ours.claim("shard"):
        pass
    with ours.claim("another shard"):
        pass
    monkeypatch.setattr(bucket_claims, "_LEASE", 1.0)
    time.sleep(2.1)  # stamps are whole seconds
    with theirs.claim("shard") as is_mine:
        assert is_mine
    assert theirs.flush()
    assert theirs._bucket.objects("claims/") == []  # what nobody believes is removed in passing


def test_work_that_takes_no_longer_than_claiming_it_is_not_claimed(tmp_path: Path, faults: Faults) -> None:
    store = store_of(tmp_path / "a")
    for number in range(3):
        with store.claim(f"shard {number}") as is_mine:
            assert is_mine
    assert sum(".claim" in request for request in faults.requests) == 1
    assert store.place == PLACE
