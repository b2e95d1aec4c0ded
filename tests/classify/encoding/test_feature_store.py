"""Rows are found by space and id, in whatever segments, order and process they were added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abs_classify.encoding.feature_store import DiskStore, open_store
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.spaces import FeatureStore, Segment, Space, text_id
from abs_core.errors import CacheError

SPACE = Space("view-features", 4, {"seed": 1})
IDS = [text_id(str(number)) for number in range(40)]
ROWS = np.random.default_rng(0).normal(size=(40, 6, 5)).astype(np.float32)

MakeStore = Callable[[], FeatureStore]


@pytest.fixture(params=["disk", "reopened disk", "memory"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Gives the same rows at each call; "reopened disk" as another process would."""
    if request.param == "reopened disk":
        return lambda: DiskStore(tmp_path)
    store: FeatureStore = DiskStore(tmp_path) if request.param == "disk" else MemoryStore(None)
    return lambda: store


def segments(start: int, end: int, items: range = range(40)) -> list[Segment]:
    return [Segment(IDS[item], start, ROWS[item, start:end]) for item in items]


def assert_rows(store: FeatureStore, count: int, items: range = range(40)) -> None:
    loaded = store.load(SPACE, [IDS[item] for item in items])
    assert store.counts(SPACE, [IDS[item] for item in items]) == [count] * len(items)
    for item, rows in zip(items, loaded, strict=True):
        assert rows is not None
        np.testing.assert_array_equal(rows, ROWS[item, :count])
        assert rows.dtype == np.float32


def test_what_was_added_comes_back_exactly(make_store: MakeStore) -> None:
    assert make_store().load(SPACE, IDS) == [None] * 40
    make_store().append(SPACE, segments(0, 3))
    assert_rows(make_store(), 3)
    assert_rows(make_store(), 3, range(39, -1, -3))
    assert make_store().load(Space("view-features", 4, {"seed": 2}), IDS[:1]) == [None]
    assert make_store().load(SPACE, [text_id("x"), *IDS[:1]])[0] is None
    assert make_store().load(SPACE, []) == []


def test_segments_in_any_order_up_to_the_first_gap(make_store: MakeStore) -> None:
    make_store().append(SPACE, segments(4, 6))
    assert make_store().counts(SPACE, IDS) == [0] * 40
    assert make_store().load(SPACE, IDS) == [None] * 40
    make_store().append(SPACE, segments(0, 2))
    assert_rows(make_store(), 2)
    make_store().append(SPACE, segments(1, 5))  # overlaps both
    assert_rows(make_store(), 6)
    make_store().append(SPACE, segments(0, 3))  # holds nothing new
    assert_rows(make_store(), 6)


def test_no_more_rows_than_were_asked_for(make_store: MakeStore) -> None:
    make_store().append(SPACE, segments(0, 2))
    make_store().append(SPACE, segments(2, 6))
    for count in (1, 2, 3, 6, 9):
        (rows,) = make_store().load(SPACE, IDS[3:4], count)
        assert rows is not None
        np.testing.assert_array_equal(rows, ROWS[3, :count])


def test_rows_of_any_type_and_shape(make_store: MakeStore) -> None:
    for number, values in enumerate(
        [
            np.frombuffer(b'{"width":3}', np.uint8),
            np.ones((1, 2, 2), np.float16),
            np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
            np.array([True, False]),
        ]
    ):
        space = Space("images", number, {})
        make_store().append(space, [Segment(IDS[0], 0, values)])
        (rows,) = make_store().load(space, IDS[:1])
        assert rows is not None
        np.testing.assert_array_equal(rows, values)
        assert rows.dtype == values.dtype


def test_memory_keeps_the_newest_items_of_each_space() -> None:
    store = MemoryStore(2)
    for item in range(3):
        store.append(SPACE, segments(0, 2, range(item, item + 1)))
    store.append(Space("images", 1, {}), segments(0, 1, range(1)))
    assert store.counts(SPACE, IDS[:3]) == [0, 2, 2]
    store.append(SPACE, segments(2, 4, range(1, 2)))
    store.append(SPACE, segments(0, 2, range(3, 4)))
    assert store.counts(SPACE, IDS[:4]) == [0, 4, 0, 2]
    assert store.counts(Space("images", 1, {}), IDS[:1]) == [1]


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=r"file.*--cache"):
        DiskStore(tmp_path / "file").require_writable()


def test_a_store_is_opened_by_its_folder(tmp_path: Path) -> None:
    opened = open_store(str(tmp_path))
    assert opened is not None
    assert opened.root == tmp_path
    assert open_store(opened) is opened
    assert open_store(None) is None
