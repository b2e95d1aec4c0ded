"""Columns of hostile and damaged parquet files: one error or the right values, in bounded memory."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_classify.datasets import open_dataset
from abs_classify.datasets.parquet_columns import GroupReader
from abs_core.errors import DatasetError, ImageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def images(values: list[bytes | None]) -> Any:
    return pa.array(
        [{"bytes": value, "path": None} for value in values], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )


def write(path: Path, image: Any, label: Any, metadata: dict[str, str] | None = None, **options: Any) -> str:
    table = pa.table({"image": image, "label": label}).replace_schema_metadata(metadata)
    pq.write_table(table, path, **options)
    return f"hf:{path}"


def problem(spec: str) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(spec)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_a_value_that_a_dictionary_repeats_is_in_memory_once(tmp_path: Path) -> None:
    picture, rows = os.urandom(1000) * 200, 5000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([picture], pa.binary()))
    image = pa.StructArray.from_arrays([column, pa.nulls(rows, pa.string())], ["bytes", "path"])
    label = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 10_000]))
    file = tmp_path / "test.parquet"
    spec = write(file, image, label, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)
    assert file.stat().st_size < 10_000  # for a gigabyte of images
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    samples = open_dataset(spec).samples
    assert len(samples) == rows
    assert {len(samples[row].read()) for row in (0, 31, 32, 4999, 7)} == {len(picture)}
    assert pool.bytes_allocated() - before < 64 << 20


def test_more_rows_than_bytes_are_no_images(tmp_path: Path) -> None:
    rows = 2_000_000
    image = pa.StructArray.from_arrays([pa.nulls(rows, pa.binary()), pa.nulls(rows, pa.string())], ["bytes", "path"])
    spec = write(tmp_path / "test.parquet", image, pa.nulls(rows, pa.string()))
    assert "claims 2000000 rows, but" in problem(spec)


def test_pages_of_zeros_are_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.datasets.parquet_columns._MIN_UNPACKED", 1 << 20)
    zeros = [bytes(1 << 20)] * 3
    spec = write(tmp_path / "test.parquet", images(zeros), ["a"] * 3, compression="zstd", use_dictionary=False)
    assert "may be a decompression bomb" in problem(spec)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (pa.array([b"cat", b"\xff\xfe"], pa.binary()), r"row 1 .* not valid UTF-8: b'\xff\xfe'"),
        (pa.array([b"cat", b"\xff\xfe"], pa.binary()).view(pa.string()), r"row 1 .* not valid UTF-8: b'\xff\xfe'"),
        (pa.array(["cat", "x" * 70_000]), "row 1 .* got one of 70000 bytes"),
        (pa.array(["cat", None]), "row 1 .* got None"),
        (pa.array([True, False]), "row 0 .* got True"),
        (pa.array([[1], [2]]), "must be numbers or strings, got list<element: int64>"),
        (pa.array([{"a": 1}, {"a": 2}]), "must be numbers or strings, got struct<a: int64>"),
        (pa.array([2**63, 1], pa.uint64()), "the classes that they stand for are not given"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, label: Any, expected: str) -> None:
    spec = write(tmp_path / "test.parquet", images([b"x"] * 2), label, compression="none")
    assert re.search(expected.replace("\\xff\\xfe", re.escape("\\xff\\xfe")), problem(spec))


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000, "[]", "null", "\x00", "{", '{"info": 3}',
        '{"info": {"features": [1]}}', '{"info": {"features": {"label": 1}}}',
        '{"info": {"features": {"label": {"names": [1, 2], "_type": "ClassLabel"}}}}',
        '{"info": {"features": {"label": {"names": {"a": 1}, "_type": "ClassLabel"}}}}',
    ],
)  # fmt: skip
def test_metadata_of_any_kind_is_ignored(tmp_path: Path, metadata: str) -> None:
    spec = write(tmp_path / "test.parquet", images([b"x"]), ["cat"], {"huggingface": metadata})
    assert [sample.label for sample in open_dataset(spec).samples] == ["cat"]
    spec = write(tmp_path / "test.parquet", images([b"x"]), [0], {"huggingface": metadata})
    assert "are numbers, and the classes that they stand for are not given" in problem(spec)


def test_columns_of_one_name_and_columns_without_images(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([images([b"x"]), pa.array(["a"]), pa.array(["b"])], ["image", "label", "label"])
    pq.write_table(table, tmp_path / "test.parquet")
    assert "has more than one column 'label'" in problem(f"hf:{tmp_path}")
    spec = write(tmp_path / "test.parquet", pa.array(["a.png"]), ["a"])
    with pytest.raises(ImageError, match="has no bytes"):
        open_dataset(spec).samples[0].read()
    for other in ([[1, 2]], [{"path": "a.png"}], [7]):
        spec = write(tmp_path / "test.parquet", pa.array(other), ["a"])
        assert "must be bytes, or structs" in problem(spec)


def test_rows_in_any_order_over_batches_and_kept_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.datasets.parquet_columns._MAX_KEPT", 50_000)
    values = [bytes([row % 256]) * (row * 7 % 900) for row in range(300)]
    write(tmp_path / "test.parquet", images([*values, None]), ["a"] * 301)
    reader = GroupReader(tmp_path / "test.parquet", 0, "image")
    order = list(range(300))
    random.Random(5).shuffle(order)
    assert all(reader.cell(row) == values[row] for row in (*range(300), *order))
    assert reader.cell(300) is None
    assert reader.cell(10_000) is None


@pytest.mark.fuzz
@settings(max_examples=150, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(st.tuples(st.integers(0, 2999), st.integers(1, 255)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
)
def test_a_damaged_file_is_one_error_or_its_values(
    tmp_path: Path, edits: list[tuple[int, int]], cut: int | None, compression: str
) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    spec = write(
        tmp_path / "test.parquet", images([b"a" * 40, b"b", None]), [0, 1, 0], metadata, compression=compression,
        row_group_size=2, write_page_checksum=True,
    )  # fmt: skip
    content = bytearray((tmp_path / "test.parquet").read_bytes())
    for position, change in edits:
        content[position % len(content)] ^= change
    (tmp_path / "test.parquet").write_bytes(content[:cut])
    with suppress(DatasetError):
        for sample in open_dataset(spec).samples:
            with suppress(ImageError):
                sample.read()
    assert pa.default_memory_pool().bytes_allocated() < 512 << 20


@pytest.mark.parametrize(
    ("kind", "as_dictionary"),
    [
        *itertools.product(["string", "large_string", "binary", "large_binary"], [False, True]),
        ("string_view", False),  # pyarrow writes no dictionaries of views
    ],
)
def test_texts_and_bytes_of_any_type_are_read(tmp_path: Path, kind: str, as_dictionary: bool) -> None:
    label = pa.array(["cat", "größe", "cat"]).cast(getattr(pa, kind)())
    photo = pa.array([b"x", b"\xff\xfe", b"x"])
    if as_dictionary:
        label, photo = label.dictionary_encode(), photo.dictionary_encode()
    samples = open_dataset(write(tmp_path / "test.parquet", photo, label)).samples
    assert [sample.label for sample in samples] == ["cat", "größe", "cat"]
    assert [sample.read() for sample in samples] == [b"x", b"\xff\xfe", b"x"]


def test_columns_with_hostile_names_are_listed_on_one_line(tmp_path: Path) -> None:
    table = pa.table({"image": images([b"x"]), "la\nbel\x1b[31m": ["a"], **{f"{at}" * 500: [1] for at in range(99)}})
    pq.write_table(table, tmp_path / "test.parquet")
    message = problem(f"hf:{tmp_path}")
    assert "does not say which column is the label; its columns: image, la\\nbel\\x1b[31m" in message
    assert len(message) < 4000


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64, "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
    ],
)
def test_what_came_in_the_place_of_a_parquet_file_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(data)
    assert f"is {what}, not a parquet file" in problem(f"hf:{tmp_path}")
