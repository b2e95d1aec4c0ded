"""Files in the place of weights: named as what they are, with what to do, and without torch's advice."""

from __future__ import annotations

import io
import pickle
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from abs_classify.models.checkpoint import read_checkpoint
from abs_classify.models.weights import is_torchscript, read_json
from abs_core.errors import WeightsError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 605157884\n" % (b"a" * 64)


def refusal(path: Path, data: bytes) -> WeightsError:
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "weights_only" not in text
    assert path.name in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        (b"", "is empty", "again"),
        (b"# xet version 0\nfilesize = 3\n", "Xet pointer", "git-xet"),
        (b"/annex/objects/MD5-s3--abc", "git-annex pointer", "git annex get"),
        (b"outs:\n- md5: abc\n", "DVC pointer", "dvc pull"),
        (b"<!DOCTYPE html>\n<html><body>Sign in", "an HTML page", "account"),
        (b'{"error": "not found"}', "JSON text", "safetensors"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file", "safetensors"),
        (b"GGUF\3\0\0\0", "a GGUF file", "safetensors"),
        (b"\x93NUMPY\1\0", "a NumPy array", "safetensors"),
        (b"\x1f\x8b\x08\0", "a gzip file", "safetensors"),
        (b"\xff\xd8\xff\xe0", "a JPEG image", "safetensors"),
        (b"x" * 257 + b"ustar\0", "a tar archive", "Unpack"),
        (b"hello", "not in a checkpoint format", "safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
def test_a_file_is_named_as_what_it_is(tmp_path: Path, data: bytes, what: str, remedy: str, name: str) -> None:
    error = refusal(tmp_path / name, data)
    assert what in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("name", ["model.bin", "my model.safetensors"])
def test_a_pointer_of_large_file_storage_comes_with_its_command(tmp_path: Path, name: str) -> None:
    error = refusal(tmp_path / name, LFS)
    assert "a Git LFS pointer for a file of 605.2 MB" in error.message
    assert f"git -C {tmp_path} lfs pull --include {shlex.quote(name)}" in error.remedy
    (tmp_path / "config.json").write_bytes(LFS)
    with pytest.raises(WeightsError, match="Git LFS pointer") as caught:
        read_json(tmp_path / "config.json")
    assert "lfs pull --include config.json" in caught.value.remedy


class _OfOnesOwn(torch.nn.Linear):
    """A class that only its author has."""


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_is_named_with_its_class(tmp_path: Path, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save(_OfOnesOwn(2, 2), buffer, _use_new_zipfile_serialization=zipped)
    error = refusal(tmp_path / "model.pt", buffer.getvalue())
    assert "whole model as a Python object" in error.message
    assert "_OfOnesOwn" in error.message
    assert "torch.save(model.state_dict()" in error.remedy


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("value", [np.float64(1), Path("x"), bytearray(3)])
def test_other_objects_beside_the_tensors(tmp_path: Path, zipped: bool, value: Any) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(1), "extra": value}, buffer, _use_new_zipfile_serialization=zipped)
    assert "objects besides tensors" in refusal(tmp_path / "model.pt", buffer.getvalue()).message


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_type_are_plain(tmp_path: Path, zipped: bool) -> None:
    types = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)
    state: dict[str, Any] = {str(dtype): torch.zeros(2, dtype=dtype) for dtype in types}
    state["parameter"] = torch.nn.Parameter(torch.ones(1))
    state |= {"device": torch.device("cpu"), "dtype": torch.float32, "size": torch.Size([1]), "set": [1, (2.5, None)]}
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    assert set(read_checkpoint(tmp_path / "model.pt").tensors) == {*map(str, types), "parameter"}


def test_a_name_lies_about_the_format(tmp_path: Path) -> None:
    from safetensors.torch import save

    (tmp_path / "model.bin").write_bytes(save({"a": torch.ones(2)}))
    assert read_checkpoint(tmp_path / "model.bin").tensors["a"].tolist() == [1, 1]
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    assert "rename it to .bin" in refusal(tmp_path / "model.safetensors", buffer.getvalue()).remedy


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    return buffer.getvalue()


def _archive(compression: int, *names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in names:
            archive.writestr(name, b"\0" * 10_000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (_npz, "NumPy arrays"),
        (lambda: _archive(zipfile.ZIP_STORED, "readme"), "no checkpoint is in it"),
        (lambda: _archive(zipfile.ZIP_STORED, "a/data.pkl", "b/data.pkl"), "no checkpoint is in it"),
        (lambda: _archive(zipfile.ZIP_DEFLATED, "a/data.pkl", "a/data/0"), "compressed or encrypted"),
        (lambda: _archive(zipfile.ZIP_STORED, "a/data.pkl")[:-30], "damaged zip archive"),
        (lambda: b"PK\3\4" + b"\0" * 50, "damaged zip archive"),
    ],
)
def test_archives_that_are_no_checkpoint(tmp_path: Path, make: Callable[[], bytes], what: str) -> None:
    assert what in refusal(tmp_path / "model.pt", make()).message
    assert not is_torchscript(tmp_path / "model.pt")


def test_names_that_are_put_together_while_the_pickle_runs(tmp_path: Path) -> None:
    said = "names in the manner of pickle protocol 4 or newer"
    assert said in refusal(tmp_path / "model.pt", pickle.dumps({"a": Path("x")}, protocol=4)).message
