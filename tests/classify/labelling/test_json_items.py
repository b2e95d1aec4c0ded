"""A large JSON object read item by item: what `json` reads, in pieces of any size."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest

from abs_classify.labelling import json_items
from abs_classify.labelling.json_items import array_items

VALUE = {
    "info": {"year": 2017, "nested": [1, [2, {"a": "]}"}]]},
    "images": [{"id": 1, "file_name": 'größe "x".jpg'}, {"id": 2, "file_name": "\U0001f600"}],
    "empty": [],
    "number": 12345678901234567890,
    "annotations": [1, -2.5e10, "text", None, True, [[]], {}],
}


def expected(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, item) for key, items in value.items() if isinstance(items, list) for item in items]


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 18])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_items_are_those_of_json(monkeypatch: pytest.MonkeyPatch, step: int, indent: int | None) -> None:
    monkeypatch.setattr(json_items, "_STEP", step)
    text = json.dumps(VALUE, indent=indent, ensure_ascii=False)
    assert list(array_items(io.BytesIO(b"\xef\xbb\xbf" + text.encode()))) == expected(VALUE)
    assert list(array_items(io.BytesIO(b"{}"))) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{",
        b'{"a"',
        b'{"a": [1',
        b'{"a": [1,]}',
        b'{"a": [1}',
        b"{1: []}",
        b'{"a": [\xff]}',
        b'{"a": [] "b": []}',
        b'{"a": [' + b"[" * 100_000,
        b'{"a": ["' + b"x" * 5_000_000 + b'"]}',
        b'{"a": [NaN',
    ],
)
def test_what_is_no_such_object_is_one_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(array_items(io.BytesIO(data)))


def test_memory_is_that_of_an_item() -> None:
    item = b'{"segmentation": "%s"}' % (b"x" * 2000)
    data = b'{"images": [' + b",".join([item] * 2000) + b"]}"
    tracemalloc.start()
    assert sum(1 for _ in array_items(io.BytesIO(data))) == 2000
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
