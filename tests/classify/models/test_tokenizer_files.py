"""Regular expressions and replacements in a stranger's tokenizer: bounded in time and memory, or refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from abs_classify.models.tokenizer_files import check_tokenizer, pattern_problem
from abs_core.errors import WeightsError

PUBLISHED = {
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "GPT-2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "GPT-4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "T5": r" {2,}",
    "white space": r"\s+",
    "punctuation": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]\^_`{|}~]",
    "DeepSeek": r"[一-龥぀-ゟ゠-ヿ]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
    "threes": r"\d{1,3}(?=(?:\d{3})*\b)",
}

BOMBS = [
    r"(a+)+$", r"(a*)*b", r"(a|a)*b", r"(a|aa)+$", r"(.*a){20}", r"(\w+\s?)*$", r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(a?){30}a{30}", r"a?a?a?a?a?a?a?a?a?a?aaaaaaaaaa", r"(x+x+)+y", r"((a{1,9}){1,9}){1,9}b", r"(?:a+|b)*c",
    r".*.*.*.*=.*", r"\s*\s*\s*x", r"(\w+)\1\1\1", r"(?<a>x)\k<a>", r"((ab)*c?)*d", r"(?>a|(b+)+)+c", r"a{100000}",
    r"(?~abc)", r"a++b++c++d++", r"((a+)?)+", r"a{1,30}{1,30}{1,30}b", "a" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_expressions_of_published_tokenizers_are_taken(name: str) -> None:
    assert pattern_problem(PUBLISHED[name]) == ""


@pytest.mark.parametrize("pattern", BOMBS)
def test_expressions_that_can_take_for_ever_are_refused(pattern: str) -> None:
    assert pattern_problem(pattern)


def write(folder: Path, content: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def test_an_expression_is_found_wherever_it_stands(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("(a+)+$"), "isolated")])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(WeightsError, match=r"regular expression .* repeats a group") as caught:
        check_tokenizer(path)
    assert "(a+)+$" in caught.value.message
    for place in ("normalizer", "decoder", "post_processor"):
        step = {"type": "Sequence", "steps": [{"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}]}
        with pytest.raises(WeightsError, match="repeats a group"):
            check_tokenizer(write(tmp_path, {place: step}))


def test_replacements_that_multiply_a_text(tmp_path: Path) -> None:
    def replace(text: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": text}, "content": content}

    def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
        return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}

    check_tokenizer(write(tmp_path, sequence(replace(" ", "▁"), replace("``", '"'), replace("a", "aa"))))
    for steps in ([replace("a", "aa")] * 40, [replace("a", "a" * 10**6)], [{"type": "Prepend", "prepend": "x" * 99}]):
        with pytest.raises(WeightsError, match="times as long"):
            check_tokenizer(write(tmp_path, sequence(*steps)))


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(pattern=st.text(alphabet="ab.*+?(){}[]|\\^,123s", max_size=24), text=st.text(alphabet="ab ", max_size=200))
def test_what_is_taken_is_done_at_once(pattern: str, text: str) -> None:
    if pattern_problem(pattern):
        return
    try:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
    except Exception:  # no expression at all
        return
    start = time.process_time()
    for sample in (text, "a" * 200, "ab" * 100, "a" * 199 + "!"):
        split.pre_tokenize_str(sample)
    assert time.process_time() - start < 2
