"""A pack is a safetensors file, and nothing that one says of itself is believed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.packs import PackHeader, RowForm, read_entries, read_header, write_pack
from abs_classify.encoding.spaces import Segment, Space, text_id

SPACE = Space("view-features", 4, {})
IDS = [text_id(str(number)) for number in range(4)]
ROWS = np.arange(4 * 3 * 5, dtype=np.float32).reshape(4, 3, 5)


def write(root: Path) -> Path:
    segments = [Segment(item, 0, rows) for item, rows in zip(IDS, ROWS, strict=True)]
    name, header, _ = write_pack(root / "features" / SPACE.digest, SPACE.digest, segments)
    path = root / "features" / SPACE.digest / name
    assert path.stat().st_size == header.size
    return path


def test_a_pack_is_a_safetensors_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    tensors = load_file(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "checksums": (4, 16),
        "ids": (4, 32),
        "starts": (4,),
        "counts": (4,),
        "values": (12, 5),
    }
    np.testing.assert_array_equal(tensors["values"].reshape(ROWS.shape), ROWS)
    assert ["sha256:" + row.tobytes().hex() for row in tensors["ids"]] == IDS
    with path.open("rb") as stream:
        header = read_header(stream)
        entries = read_entries(stream, header)
    assert (header.space, header.rows, entries["row"].tolist()) == (SPACE.digest, 12, [0, 3, 6, 9])


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment(IDS[0], 0, ROWS[0, :0]), "at least one row"),
        (Segment("sha256:ab", 0, ROWS[0]), "64 hex digits, got 'sha256:ab'"),
        (Segment(IDS[0], 0, np.array(["text"])), "numbers or booleans"),
        (Segment(IDS[0], 0, np.broadcast_to(ROWS[0], (1 << 23, 3, 5))), "at most 268,435,456 bytes"),
    ],
)
def test_what_no_pack_can_hold_is_refused(tmp_path: Path, segment: Segment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiskStore(tmp_path).append(SPACE, [segment])
    assert list(tmp_path.rglob("*.safetensors")) == []


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        value: Any = header
        for part in path[:-1]:
            value = value[part]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("values", "dtype", to="F64"),
        _set("values", "dtype", to="PICKLE"),
        _set("values", "shape", to=[12, 7]),
        _set("values", "shape", to=[1 << 62, 5]),
        _set("values", "shape", to=[12, 1 << 62]),
        _set("values", "shape", to=[-12, -5]),
        _set("values", "shape", to=[12.0, 5]),
        _set("values", "shape", to=[12, *[1] * 2000, 5]),
        _set("values", "shape", to=[]),
        _set("values", "shape", to=None),
        _set("values", "data_offsets", to=[0, 240]),
        _set("values", "data_offsets", to=[256, 1 << 70]),
        _set("counts", "shape", to=[1 << 40]),
        _set("counts", "shape", to=[0]),
        _set("ids", "data_offsets", to=[0, 128]),
        _set("ids", "shape", to=[128]),
        _set("__metadata__", to=None),
        _set("__metadata__", to=[]),
        _set("__metadata__", "space", to="0" * 64),
        _set("more", to={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    ],
)
def test_a_header_that_lies_is_damage(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    store = DiskStore(tmp_path)
    assert store.load(SPACE, IDS) == [None] * 4
    assert [(checked.path, checked.sound, checked.damaged) for checked in store.verify()] == [(path, 0, 1)]
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 1, 1 << 16 | 1, 1 << 40, (1 << 64) - 1])
def test_a_giant_header_is_not_read(tmp_path: Path, length: int) -> None:
    path = write(tmp_path)
    with path.open("r+b") as stream:
        stream.write(struct.pack("<Q", length))
        stream.truncate(1 << 36)  # of which the disk holds nothing
    assert DiskStore(tmp_path).load(SPACE, IDS) == [None] * 4


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("counts", [3, 3, 3, 4]),
        ("counts", [12, 0, 0, 0]),
        ("counts", [(1 << 64) - 1, 1, 6, 6]),
        ("starts", [1 << 63, 0, 0, 0]),
        ("starts", [(1 << 64) - 1, 0, 0, 0]),
    ],
)
def test_a_table_that_lies_is_damage(tmp_path: Path, column: str, values: list[int]) -> None:
    path = write(tmp_path)
    with path.open("r+b") as stream:
        table = read_header(stream).table
        stream.seek(table + {"starts": 4 * 48, "counts": 4 * 56}[column])
        stream.write(np.array(values, np.uint64).tobytes())
    assert DiskStore(tmp_path).load(SPACE, IDS) == [None] * 4


def test_ids_that_are_repeated_give_their_own_rows_only(tmp_path: Path) -> None:
    path = write(tmp_path)
    with path.open("r+b") as stream:
        stream.seek(read_header(stream).table + 4 * 16)
        stream.write(bytes.fromhex(IDS[0].removeprefix("sha256:")) * 4)
    rows, *others = DiskStore(tmp_path).load(SPACE, IDS)
    assert rows is not None
    np.testing.assert_array_equal(rows, ROWS[0])
    assert others == [None] * 3


def test_a_giant_segment_takes_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path)
    rows = 1 << 30
    header = PackHeader(SPACE.digest, 1, rows, RowForm("<f4", (16,)), 0)
    first = header.encode()
    table = np.frombuffer(bytes.fromhex(IDS[0].removeprefix("sha256:")), np.uint8)
    with path.open("wb") as stream:
        stream.write(first + bytes(16) + table.tobytes() + np.array([0, rows], np.uint64).tobytes())
        stream.truncate(len(first) + 64 + rows * 64)  # 64 GiB of which the disk holds nothing
    assert DiskStore(tmp_path).load(SPACE, IDS) == [None] * 4


def test_rows_of_another_form_are_left_out(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    for start, dtype in ((0, np.float32), (3, np.float64), (0, np.float64)):
        store.append(SPACE, [Segment(IDS[0], start, ROWS[1 if start else 0].astype(dtype))])
    (rows,) = store.load(SPACE, IDS[:1])
    assert rows is not None
    np.testing.assert_array_equal(rows, np.concatenate(ROWS[:2]).astype(np.float64))
    assert rows.dtype == np.float64
