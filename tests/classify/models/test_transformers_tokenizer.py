"""The tokenizers beside transformers models: transformers' own ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers_models import TEXTS, save_clip, save_clip_tokenizer, save_siglip, save_siglip_tokenizer

from abs_classify.models.transformers_configs import read_shape
from abs_classify.models.transformers_tokenizer import (
    AbsentTokenizer,
    FolderTokenizer,
    load_tokenizer,
    tokenizer_remarks,
)
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


def test_a_tokenizer_that_ends_no_text_is_remarked(tmp_path: Path) -> None:
    save_clip(tmp_path, text={"vocab_size": 64, "eos_token_id": 1})
    save_siglip_tokenizer(tmp_path)
    shape = read_shape(tmp_path / "config.json")
    assert tokenizer_remarks(load(tmp_path), shape) == ()
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    (remark,) = tokenizer_remarks(load(tmp_path), shape)
    assert "ends no text with token 1" in remark


def test_merges_that_are_left_out_at_random_are_refused(tmp_path: Path) -> None:
    save_clip(tmp_path)
    save_clip_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.1
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="at random"):
        load(tmp_path)


PLACES = st.lists(st.integers(0, 50), min_size=1, max_size=6)
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.just([])


def changed(value: Any, places: list[int], new: Any) -> Any:
    """A JSON value with one part of it changed."""
    if not places or not isinstance(value, (dict, list)) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[places[0] % len(keys)]
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], places[1:], new)
    return copy


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("siglip")
    save_siglip(folder)
    save_siglip_tokenizer(folder)
    return folder, json.loads((folder / "tokenizer.json").read_text())


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(places=PLACES, value=VALUES)
def test_any_change_is_read_or_refused_in_one_line(saved: tuple[Path, Any], places: list[int], value: Any) -> None:
    folder, content = saved
    (folder / "tokenizer.json").write_text(json.dumps(changed(content, places, value)))
    refusal = ""
    try:
        tokenizer = load(folder)
        assert tokenizer(["a photo of a dog", ""]).shape == (2, 12)
        assert tokenizer.count("a photo") >= 0
    except ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    save_siglip(tmp_path, text={"vocab_size": 20})
    save_siglip_tokenizer(tmp_path)
    tokenizer = load(tmp_path)
    assert int(tokenizer(["a photo"]).max()) < 20
    with pytest.raises(ModelError, match="the model has 20 tokens"):
        tokenizer(["a photo", "xyz"])
