"""The tokenizers beside transformers models: transformers' own ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers_models import TEXTS, save_clip, save_clip_tokenizer, save_siglip, save_siglip_tokenizer

from abs_classify.models.transformers_configs import read_shape
from abs_classify.models.transformers_tokenizer import AbsentTokenizer, FolderTokenizer, load_tokenizer
from abs_core.errors import ModelError, WeightsError


def ids_of(tokenizer: Any, length: int) -> torch.Tensor:
    ids: torch.Tensor = tokenizer(
        TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def load(folder: Path) -> FolderTokenizer:
    tokenizer = load_tokenizer(folder, read_shape(folder / "config.json"))
    assert isinstance(tokenizer, FolderTokenizer)
    return tokenizer


def test_clip_byte_pairs_from_either_form_of_their_files(tmp_path: Path) -> None:
    save_clip(tmp_path)
    tokenizer = save_clip_tokenizer(tmp_path)
    own = load(tmp_path)
    assert torch.equal(own(TEXTS), ids_of(tokenizer, 16))
    assert [own.count(text) for text in TEXTS] == [len(tokenizer(text).input_ids) for text in TEXTS]
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    assert torch.equal(load(tmp_path)(TEXTS), ids_of(tokenizer, 16))


def test_siglip(tmp_path: Path) -> None:
    save_siglip(tmp_path)
    tokenizer = save_siglip_tokenizer(tmp_path)
    own = load(tmp_path)
    assert torch.equal(own(TEXTS), ids_of(tokenizer, 12))
    assert own([]).shape == (0, 12)
    assert [own.count(text) for text in TEXTS] == [len(tokenizer(text).input_ids) for text in TEXTS]


def test_what_transformers_python_class_for_siglip_does_to_a_text(tmp_path: Path) -> None:
    save_siglip(tmp_path)
    save_siglip_tokenizer(tmp_path)
    plain = load(tmp_path)(["a photo of dog"])
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "SiglipTokenizer"}))
    assert torch.equal(load(tmp_path)([" A photo -- of\tDog!"]), plain)


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    save_siglip(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    absent = load_tokenizer(tmp_path, read_shape(tmp_path / "config.json"))
    assert isinstance(absent, AbsentTokenizer)
    for use in (absent.count, lambda text: absent([text])):
        with pytest.raises(WeightsError, match=r"no tokenizer\.json") as caught:
            use("a photo")
        assert "save_pretrained" in caught.value.remedy
    for content in ("", "{", "[]", "[" * 100_000, '{"model": 3}', '{"a": 1, "a": 2}', '"\\ud800"'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(WeightsError, match=r"tokenizer\.json"):
            load(tmp_path)
    save_siglip_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}')
    with pytest.raises(WeightsError, match="auto_map"):
        load(tmp_path)


def test_a_fault_of_the_tokenizers_own_code_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_siglip(tmp_path)
    save_siglip_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    capfd.readouterr()
    with pytest.raises(WeightsError, match="not a readable tokenizer"):
        load(tmp_path)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    save_siglip(tmp_path, text={"vocab_size": 20})
    save_siglip_tokenizer(tmp_path)
    tokenizer = load(tmp_path)
    assert int(tokenizer(["a photo"]).max()) < 20
    with pytest.raises(ModelError, match="the model has 20 tokens"):
        tokenizer(["a photo", "xyz"])
