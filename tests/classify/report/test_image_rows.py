"""The rows of the page, and which images get pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from report_pages import HOSTILE, make_columns

from abs_classify.report.image_rows import ImageRows, MethodColumns, short_names, table_json
from abs_core.errors import UsageError


def _columns(name: str, top: list[int], ranks: list[int], confidence: list[float] | None = None) -> MethodColumns:
    nothing = np.empty(0)
    labels = np.array(top, dtype=np.int64)
    return MethodColumns(name, labels, labels[:0], nothing, np.array(confidence or []), np.array(ranks, dtype=np.int64))


def _labelled() -> ImageRows:
    truth = [0, 0, 0, 1, 1, 1]
    abs_columns = _columns("abs", [1, 1, 0, 0, 1, 1], [2, 2, 1, 2, 1, 1])
    clip_columns = _columns("clip", [1, 1, 0, 0, 1, 0], [2, 2, 1, 2, 1, 2])
    return ImageRows(["a", "b", "c", "d", "e", "f"], ["x", "y"], [clip_columns, abs_columns], "abs", truth)


@pytest.mark.parametrize(
    ("count", "expected"),
    # wrong ones of each class in turn, then where methods disagree, then the others
    [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 1, 3]), (4, [0, 1, 3, 5]), (5, [0, 1, 2, 3, 5]), (9, [0, 1, 2, 3, 4, 5])],
)
def test_wrong_images_get_pictures_first(count: int, expected: list[int]) -> None:
    assert _labelled().pictured(count) == expected


def test_without_labels_images_that_are_doubtful_get_pictures_first() -> None:
    first = _columns("abs", [0, 0, 0, 1], [], [0.9, 0.2, 0.5, 0.8])
    second = _columns("clip", [0, 0, 0, 0], [], [0.1, 0.1, 0.1, 0.1])
    table = ImageRows(["a", "b", "c", "d"], ["x", "y"], [first, second], "abs")
    assert [table.pictured(count) for count in (1, 2, 3)] == [[3], [1, 3], [1, 2, 3]]


def test_names_lose_the_folders_that_all_share() -> None:
    assert short_names(["/data/val/cat/1.jpg", "/data/val/dog/1.jpg"]) == ["cat/1.jpg", "dog/1.jpg"]
    assert short_names(["/data/val/cat/1.jpg"]) == ["1.jpg"]
    assert short_names(["1.jpg", "val/1.jpg"]) == ["1.jpg", "val/1.jpg"]
    assert short_names([]) == []


def test_the_rows_are_json_that_cannot_leave_its_element() -> None:
    truth = np.arange(2500) % 7
    columns = make_columns(HOSTILE, truth, 7, 0)
    columns.margin[3] = np.nan
    table = ImageRows([HOSTILE] * 2500, [HOSTILE] * 7, [columns], HOSTILE, truth.tolist())
    text = "".join(table_json(table, [1, 3]))
    assert "<" not in text
    assert not set(text) & set("\u202e\x1b\x00")
    data = json.loads(text)
    assert (data["main"], data["pictured"], data["truth"]) == (0, [1, 3], truth.tolist())
    [method] = data["methods"]
    assert method["top"] == columns.top.tolist()
    assert method["ranks"] == columns.ranks.tolist()
    assert method["margin"][3] is None
    assert method["confidence"] == pytest.approx(columns.confidence, rel=1e-3)
    assert "\\u202eevil" in data["names"][2499]


def test_a_row_costs_few_bytes() -> None:
    truth = np.arange(5000) % 1000
    columns = [make_columns(name, truth, 1000, seed) for seed, name in enumerate(("clip", "abs"))]
    table = ImageRows(
        [f"{n:08d}.jpg" for n in range(5000)], [f"{n}" for n in range(1000)], columns, "abs", truth.tolist()
    )
    assert sum(map(len, table_json(table, []))) < 5000 * 80


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="a row for each of 1 images"):
        ImageRows(["a"], ["x"], [_columns("abs", [0, 0], [])], "abs")
    with pytest.raises(UsageError, match="main method must be one of"):
        ImageRows(["a"], ["x"], [_columns("abs", [0], [])], "clip")
