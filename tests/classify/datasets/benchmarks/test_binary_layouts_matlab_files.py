"""MATLAB annotations: sound ones as scipy reads them, hostile ones refused before scipy believes their sizes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_classify.datasets.benchmarks.binary_layouts import load_variable
from abs_core.errors import DatasetError

scipy_io = pytest.importorskip("scipy.io")


def content(compressed: bool = False) -> bytes:
    rows = np.zeros((1, 3), dtype=[("fname", "O"), ("class", "O"), ("words", "O")])
    for position in range(3):
        rows[0, position] = (f"0000{position}.jpg", position + 1, ["a", "größe"])
    stream = io.BytesIO()
    variables = {"annotations": rows, "labels": np.arange(300, dtype=float), "wide": np.arange(7, dtype=np.uint16)}
    scipy_io.savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


def problem(path: Path, data: bytes, key: str = "labels") -> str:
    path.write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        load_variable(path, key)
    assert "\n" not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize("compressed", [False, True])
def test_variables_are_as_scipy_reads_them(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content(compressed))
    assert list(load_variable(path, "labels")) == list(range(300))
    assert load_variable(path, "wide").dtype == np.uint16
    rows = load_variable(path, "annotations")
    assert [(str(row["fname"]), int(row["class"])) for row in rows] == [(f"0000{at}.jpg", at + 1) for at in range(3)]
    assert "has no variable 'none'" in problem(path, content(compressed), "none")


VALUES: dict[str, Any] = {
    "numbers": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "doubles": np.array([[1.5, -2.25], [3e300, 4.0]]),
    "single": np.float32(0.1),
    "one": 7,
    "empty": np.empty((0, 3)),
    "text": "a word \u00e9 \u732b",
    "texts": np.array(["ab", "cdef"], dtype=object),
    "rows": np.array(["abc", "def"]),
    "logical": np.array([True, False]),
    "nested": {"name": "x", "inner": {"values": np.arange(3), "cells": np.array(["p", 5.0], dtype=object)}},
}


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are alike, whatever kind of numbers they hold."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.size == theirs.size == 0:
        return True
    if ours.shape != theirs.shape or ours.dtype.names != theirs.dtype.names:
        return False
    if ours.dtype.names:
        return all(same(ours[name], theirs[name]) for name in ours.dtype.names)
    if ours.dtype == object or theirs.dtype == object:
        return all(same(left, right) for left, right in zip(ours.reshape(-1), theirs.reshape(-1), strict=True)) or (
            ours.shape == () and ours.item() == theirs.item()
        )
    return bool((ours == theirs).all())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("key", list(VALUES))
def test_values_of_every_kind_are_as_scipy_reads_them(tmp_path: Path, key: str, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, VALUES, do_compression=compressed)
    theirs = np.atleast_1d(scipy_io.loadmat(path, squeeze_me=True)[key])
    assert same(load_variable(path, key), theirs)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(kind: int, dimensions: tuple[int, ...], *held: bytes) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    shape = element(5, struct.pack(f"<{len(dimensions)}i", *dimensions))
    return element(14, flags + shape + element(1, b"labels") + b"".join(held))


def file_of(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def nested(depth: int) -> bytes:
    inner = array(6, (1, 1), element(2, b"\1"))
    for _ in range(depth):
        inner = array(1, (1, 1), inner)
    return inner


HOSTILE = {
    "a cell array of a billion": array(1, (1 << 30, 1)),
    "dimensions whose product is huge": array(1, (1 << 20, 1 << 20)),
    "a struct array of a billion without fields": array(
        2, (1 << 30, 1), element(5, struct.pack("<i", 8)), element(1, b"")
    ),
    "a struct array with more cells than it has": array(
        2, (1 << 28, 1), element(5, struct.pack("<i", 8)), element(1, b"a".ljust(8, b"\0"))
    ),
    "numbers that are not there": array(6, (1 << 30, 1), element(2, b"\1")),
    "negative dimensions": array(6, (-5, 1), element(2, b"\1")),
    "cells in cells, without end": nested(2000),
    "zeros that unpack to gigabytes": element(15, zlib.compress(bytes(1 << 28)))[:-8] + bytes(8),
    "a sparse array": array(5, (3, 3), element(5, bytes(4))),
    "a function": array(16, (1, 1), nested(0)),
    "another kind of element": element(9, bytes(64)),
    "an element that is cut off": array(6, (1, 1), element(2, b"\1"))[:-9],
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_what_asks_for_memory_that_it_does_not_fill_is_refused(tmp_path: Path, name: str) -> None:
    tracemalloc.start()
    message = problem(tmp_path / "a.mat", file_of(HOSTILE[name]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "is not a MATLAB file of version 5, or is damaged" in message
    assert peak < 600 << 20


def test_files_of_other_versions_and_huge_ones_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    scipy_io.savemat(stream, {"labels": [1]}, format="4")
    assert "is not a MATLAB file" in problem(tmp_path / "a.mat", stream.getvalue())
    assert "is not a MATLAB file" in problem(tmp_path / "a.mat", b"\x89HDF\r\n\x1a\n" + bytes(600))
    with (tmp_path / "a.mat").open("wb") as out:
        out.truncate(1 << 30)
    with pytest.raises(DatasetError, match="is larger than 64 MB"):
        load_variable(tmp_path / "a.mat", "labels")


@pytest.mark.fuzz
@settings(max_examples=250, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(st.tuples(st.integers(100, 3000), st.integers(0, 255)), min_size=1, max_size=5),
    compressed=st.booleans(),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
    key=st.sampled_from(["labels", "annotations"]),
)
def test_a_damaged_file_is_one_error_or_an_array(
    tmp_path: Path, edits: list[tuple[int, int]], compressed: bool, cut: int | None, key: str
) -> None:
    data = bytearray(content(compressed))
    for position, value in edits:
        data[position % len(data)] = value
    path = tmp_path / "a.mat"
    path.write_bytes(data[:cut])
    value: Any = None
    try:
        value = load_variable(path, key)
    except DatasetError:
        return
    assert isinstance(value, np.ndarray)
    assert value.nbytes < 1 << 20
