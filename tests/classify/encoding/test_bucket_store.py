"""Features in a bucket: shared by machines, found with few requests, and never there in part."""

from __future__ import annotations

import errno
import logging
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_server import Bucket, serving_s3
from feature_buckets import IDS, PLACE, SECRETS, SPACE, assert_rows, environment_of, put_packs, segments, store_of

from abs_classify.encoding import bucket_packs, bucket_store
from abs_classify.encoding.feature_store import open_store
from abs_core.buckets import Bucket as CoreBucket
from abs_core.errors import CacheError, StorageError, UsageError


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with serving_s3(Bucket()) as server:
        for name, value in environment_of(server.address).items():
            monkeypatch.setenv(name, value)
        server.requests.clear()
        yield server


def kinds(bucket: Bucket) -> list[str]:
    """What was asked since the last look: a list, a head of a pack or rows of one, or what was written."""
    names = {"GET /team": "list", "POST /team": "remove"}
    asked = []
    for request in bucket.requests:
        method, path, *condition = request.split()
        kind = path.removeprefix("/team/cache/").split("/")
        name = "pack" if path.endswith(".safetensors") else "index" if path.endswith(".index") else kind[-1]
        asked.append(names.get(f"{method} {path}", " ".join([method, name, *condition])))
    bucket.requests.clear()
    return asked


def test_each_row_is_uploaded_once_and_read_with_few_requests(tmp_path: Path, bucket: Bucket) -> None:
    store = store_of(tmp_path / "a")
    store.require_writable()
    assert kinds(bucket) == ["PUT conditional-write *", "PUT conditional-write *"]
    for first in range(0, 40, 10):
        store.append(SPACE, segments(0, 6, range(first, first + 10)))
    assert_rows(store, 6)  # from this machine
    assert kinds(bucket) == ["list"]
    assert store.flush()
    assert kinds(bucket) == ["PUT space.json *", "PUT pack *"]
    assert_rows(store, 6)
    assert kinds(bucket) == ["GET pack"]
    other = store_of(tmp_path / "b")
    assert_rows(other, 6)
    assert kinds(bucket) == ["list", "GET pack", "GET pack"]  # its table and its rows
    assert other.flush()
    assert_rows(store_of(tmp_path / "b"), 6)
    assert kinds(bucket) == ["list", "GET pack"]
    assert not any(secret in path.read_text(errors="replace") for secret in SECRETS for path in files_below(tmp_path))


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_store_can_be_pickled_as_its_place(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path / "a")
    put_packs(store, 1)
    data = pickle.dumps(store)
    assert not any(secret.encode() in data for secret in SECRETS)
    again = pickle.loads(data)
    assert (again.place, again.root) == (PLACE, tmp_path / "a" / "cache")
    assert_rows(again, 6, range(4))
    assert open_store(store) is store
    # a machine without that folder takes those of its user
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").write_text("no folder")
    monkeypatch.setenv("ABS_HOME", str(tmp_path / "other"))
    monkeypatch.delenv("ABS_CACHE", raising=False)
    elsewhere = pickle.loads(data)
    assert elsewhere.root == tmp_path / "other" / "cache"
    assert_rows(elsewhere, 6, range(4))
    put_packs(store_of(tmp_path / "b"), 2)
    elsewhere.refresh()
    assert_rows(elsewhere, 6, range(8))


def test_rows_of_a_process_that_was_killed_are_uploaded_by_the_next(tmp_path: Path, bucket: Bucket) -> None:
    store_of(tmp_path / "a").append(SPACE, segments(0, 6))  # and nothing more
    again = store_of(tmp_path / "a")
    assert_rows(again, 6)
    assert again.flush()
    assert_rows(store_of(tmp_path / "b"), 6)
    assert files_below(tmp_path / "a" / "index" / "outgoing") == [
        tmp_path / "a" / "index" / "outgoing" / SPACE.digest / "space.json"
    ]


def test_what_cannot_be_read_for_a_while_is_uploaded_later(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "a")
    store.append(SPACE, segments(0, 6))

    def fail(_stream: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(bucket_store, "read_header", fail)
        assert not store.flush()
    assert store.flush()
    assert_rows(store_of(tmp_path / "b"), 6)


def test_many_rows_are_uploaded_without_being_told(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_store, "_ENOUGH", 1 << 12)
    store = store_of(tmp_path / "a")
    store.append(SPACE, segments(0, 6))
    store.append(SPACE, segments(0, 6, range(40, 80)))
    for _ in range(200):
        if "PUT pack *" in kinds(bucket):
            break
        threading.Event().wait(0.05)
    else:
        pytest.fail("nothing was uploaded")


def test_two_machines_add_to_one_space(tmp_path: Path, bucket: Bucket) -> None:
    stores = [store_of(tmp_path / name) for name in "ab"]

    def fill(store: bucket_store.BucketStore, first: int) -> None:
        for start in range(first, first + 40, 10):
            store.append(SPACE, segments(0, 6, range(start, start + 10)))
            store.flush()

    threads = [threading.Thread(target=fill, args=(store, 40 * number)) for number, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in (*stores, store_of(tmp_path / "c")):
        with store.claim("x"):  # a run would wait for work of others, and then look again
            pass
        store.wait_for("x", 0)
        assert_rows(store, 6, range(80))


def test_index_objects_stand_for_the_tables_of_many_packs(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_PACKS", 4)
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_LEVEL", 2)
    store = store_of(tmp_path / "a")
    put_packs(store, 13)
    written = kinds(bucket)
    assert written.count("PUT index *") == 4  # of packs 1-4, 5-8, 1-8, 9-12
    assert written.count("remove") == 1
    other = store_of(tmp_path / "b")
    assert other.counts(SPACE, IDS[:52]) == [6] * 52
    assert kinds(bucket) == ["list", "GET index", "GET index", "GET pack"]
    assert_rows(other, 6, range(52))


def test_a_damaged_index_object_is_left_out(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_PACKS", 4)
    store = store_of(tmp_path / "a")
    put_packs(store, 4)
    [name] = [entry.path for entry in store._bucket.objects("features/") if entry.path.endswith(".index")]
    data = bytearray(store._bucket.read(name))
    data[-1] ^= 1
    store._bucket.client.pipe_file(f"team/cache/{name}", bytes(data))
    assert_rows(store_of(tmp_path / "b"), 6, range(16))
    assert sum(pack.damaged for pack in store_of(tmp_path / "c").verify()) == 0
    assert not [entry for entry in store._bucket.objects("features/") if entry.path.endswith(".index")]


def test_an_index_object_that_is_too_large_is_not_read(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bucket_packs, "_LARGEST_INDEX", 1000)
    monkeypatch.setattr(bucket_packs, "_FEWEST_OF_PACKS", 4)
    store = store_of(tmp_path / "a")
    put_packs(store, 4)
    [name] = [entry.path for entry in store._bucket.objects("features/") if entry.path.endswith(".index")]
    store._bucket.client.pipe_file(f"team/cache/{name}", bytes(50_000))
    reader = store_of(tmp_path / "b")
    with caplog.at_level(logging.WARNING):
        assert_rows(reader, 6, range(16))
        reader.refresh()
        assert_rows(reader, 6, range(16))
    assert caplog.messages == [
        "s3://team/cache: 1 index object was not read, larger than any index of these packs. "
        "`abs cache verify` removes such objects"
    ]
    assert "GET index" not in kinds(bucket)
    assert sum(pack.damaged for pack in store_of(tmp_path / "c").verify()) == 0
    assert not [entry for entry in store._bucket.objects("features/") if entry.path.endswith(".index")]


def test_an_object_of_any_size_is_checked_in_parts(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_store, "_DOWNLOADED_AT_ONCE", 100)
    monkeypatch.setattr(bucket_store, "_REQUESTS_AT_ONCE", 3)
    put_packs(store_of(tmp_path / "a"), 2)
    longest = 0

    def read(self: CoreBucket, path: str, start: int = 0, end: int | None = None) -> bytes:
        nonlocal longest
        data = original(self, path, start, end)
        longest = max(longest, len(data))
        return data

    reader = store_of(tmp_path / "b")
    original = CoreBucket.read
    assert reader.counts(SPACE, IDS[:1]) == [6]
    monkeypatch.setattr(CoreBucket, "read", read)
    assert [(pack.sound, pack.damaged) for pack in reader.verify()] == [(24, 0)] * 2
    assert longest == 100


def test_small_packs_are_merged_while_others_read(tmp_path: Path, bucket: Bucket) -> None:
    store, reader = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    put_packs(store, 15)
    assert_rows(reader, 6, range(60))
    put_packs(store, 1)  # the sixteenth, with rows that are there, lets all be merged
    assert [(summary.packs, summary.rows) for summary in store_of(tmp_path / "c").summaries()] == [(1, 360)]
    reader._reader._windows.clear()  # what it has in memory
    assert_rows(reader, 6, range(60))
    assert_rows(store, 6, range(60))


def test_a_removed_pack_is_computed_again(tmp_path: Path, bucket: Bucket) -> None:
    store, reader = store_of(tmp_path / "a"), store_of(tmp_path / "b")
    put_packs(store, 2)
    reader.counts(SPACE, IDS[:8])
    [first, _] = [entry.path for entry in store._bucket.objects("features/") if entry.path.endswith(".safetensors")]
    store._bucket.remove([first])
    assert [rows is None for rows in reader.load(SPACE, IDS[:8])] == [True] * 4 + [False] * 4
    assert reader.counts(SPACE, IDS[:8]) == [0] * 4 + [6] * 4


def test_a_flipped_bit_costs_one_item_which_is_dropped(tmp_path: Path, bucket: Bucket) -> None:
    store = store_of(tmp_path / "a")
    put_packs(store, 1)
    [name] = [entry.path for entry in store._bucket.objects("features/") if entry.path.endswith(".safetensors")]
    data = bytearray(store._bucket.read(name))
    data[-1] ^= 1
    store._bucket.client.pipe_file(f"team/cache/{name}", bytes(data))
    reader = store_of(tmp_path / "b")
    assert [rows is None for rows in reader.load(SPACE, IDS[:4])] == [False] * 3 + [True]
    # the sound rows are in a new pack, and the damaged one is gone
    assert [(pack.sound, pack.damaged) for pack in store_of(tmp_path / "c").verify()] == [(18, 0)]
    reader.append(SPACE, segments(0, 6, range(3, 4)))
    assert_rows(reader, 6, range(4))


def test_a_server_without_conditions_is_used_with_a_warning(
    tmp_path: Path, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.honours_conditions = False
    store = store_of(tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        store.require_writable()
    assert "s3://team/cache ignores If-None-Match" in caplog.text
    with store.claim("x") as is_mine, store_of(tmp_path / "b").claim("y") as is_theirs:
        assert is_mine
        assert is_theirs
    put_packs(store, 1)
    assert_rows(store_of(tmp_path / "c"), 6, range(4))


def test_what_exceeds_the_limit_is_not_kept(tmp_path: Path, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    put_packs(store_of(tmp_path / "a"), 1)
    nothing = store_of(tmp_path / "b", limit=0)
    little = store_of(tmp_path / "c", limit=1500)
    for store in (nothing, little):
        store.require_writable()
        store.append(SPACE, segments(0, 6, range(4, 8)))
        assert store.flush()
        assert_rows(store, 6, range(8))  # from memory, for the next step of a run
    assert store_of(tmp_path / "d").counts(SPACE, IDS[:8]) == [6] * 4 + [0] * 4
    assert "has no room for new rows within 1.5 kB" in caplog.text


def test_spaces_are_listed_and_pruned(tmp_path: Path, bucket: Bucket) -> None:
    store = store_of(tmp_path / "a")
    put_packs(store, 2)
    [summary] = store.summaries()
    assert (summary.space, summary.items, summary.rows, summary.packs) == (SPACE, 8, 48, 2)
    assert summary.space is not None
    assert summary.space.about == "a model"
    assert store.prune(older_than_days=1) == []
    [removed] = store.prune(max_bytes=summary.size - 1)
    assert removed.size == summary.size // 2
    assert store_of(tmp_path / "b").counts(SPACE, IDS[:8]) == [0] * 4 + [6] * 4
    store.prune(max_bytes=0)
    assert list(store_of(tmp_path / "c").summaries()) == []
    assert [entry.path for entry in store._bucket.objects("")] == []


def test_what_is_no_place_for_features_is_said(tmp_path: Path, bucket: Bucket) -> None:
    with pytest.raises(UsageError, match="an address of hf"):
        store_of(tmp_path, "hf://datasets/org/pets")
    with pytest.raises(UsageError, match="as a URL with a user and a password"):
        store_of(tmp_path, "s3://key:secret@team/cache")
    nobody = store_of(tmp_path, "s3://nobody/cache")
    with pytest.raises(StorageError, match=r"cannot list s3://nobody/cache: there is no such bucket \(NoSuchBucket"):
        nobody.counts(SPACE, IDS[:1])
    with pytest.raises(CacheError, match=r"cannot write s3://nobody/cache: there is no such bucket.*--cache"):
        nobody.require_writable()
