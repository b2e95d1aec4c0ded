"""Damaged and hostile checkpoints: read, or refused in one line of ours, with bounded memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from abs_classify.models.checkpoint import read_checkpoint
from abs_core.errors import WeightsError

pytestmark = [pytest.mark.fuzz, pytest.mark.usefixtures("bounded_memory")]

BOUNDED = settings(max_examples=120, deadline=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def refusal(path: Path, data: bytes) -> str:
    """Why a file is refused, which must be one line without torch's advice; empty if it is read."""
    path.write_bytes(data)
    text = ""
    try:
        read_checkpoint(path)
    except WeightsError as error:
        text = str(error)
    assert "\n" not in text
    assert "weights_only" not in text
    return text


def saved(zipped: bool) -> bytes:
    state = {"model": {f"model.layer.{number}.weight": torch.ones(3, number + 1) for number in range(4)}, "epoch": 3}
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


SOUND = {"zip.pt": saved(True), "legacy.pt": saved(False), "model.safetensors": save({"a": torch.ones(3, 2)})}


@BOUNDED
@given(
    name=st.sampled_from(sorted(SOUND)),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 10**6),
)
def test_flipped_bytes_and_cut_files(folder: Path, name: str, changes: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(SOUND[name])
    for place, value in changes:
        data[place % len(data)] = value
    text = refusal(folder / name, bytes(data if cut is None else data[: cut % len(data)]))
    assert changes or cut is not None or text == ""


NUMBERS = st.integers(-1, 2**70) | st.sampled_from([0, 1, 2**31, 2**32, 2**62, 2**63, 2**64])
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "C64", "X"]),
        "shape": st.lists(NUMBERS, max_size=4),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
ENTRIES = TENSORS | st.none() | st.integers() | st.text(max_size=3)


@BOUNDED
@given(header=st.dictionaries(st.text(max_size=4), ENTRIES, max_size=3), body=st.binary(max_size=16))
def test_headers_of_safetensors(folder: Path, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    refusal(folder / "header.safetensors", struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize("shape", [[2**40, 2**40], [0, 2**63], [2**62, 4], [-1]])
def test_dimensions_beyond_all_integers(folder: Path, shape: list[int]) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    assert "not a readable safetensors file" in refusal(
        folder / "huge.safetensors", struct.pack("<Q", len(text)) + text
    )


@BOUNDED
@given(body=st.binary(max_size=60))
def test_operations_of_pickles(folder: Path, body: bytes) -> None:
    assert refusal(folder / "pickle.pt", b"\x80\x02" + body)


class _Large:
    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return bytearray, (10**13,)


def test_pickles_that_ask_for_memory(folder: Path) -> None:
    assert "bytearray" in refusal(folder / "large.pt", pickle.dumps({"a": _Large()}, protocol=2))
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer, _use_new_zipfile_serialization=False)
    # the number of elements of the storage
    huge = buffer.getvalue().replace(b"K\x01N", b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"N")
    assert huge != buffer.getvalue()
    assert "cannot be read" in refusal(folder / "huge.pt", huge)
    # a text of four gigabytes, of which the file has none
    assert "damaged" in refusal(folder / "text.pt", b"\x80\x02B\0\0\0\xff")
