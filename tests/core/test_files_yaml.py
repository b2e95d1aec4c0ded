"""YAML files: whatever is in them, a value or one line, in bounded time."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_core.errors import PromptError
from abs_core.files import read_yaml


def read(path: Path, content: str) -> Any:
    path.write_text(content, encoding="utf-8", newline="")
    return read_yaml(path, "the file", PromptError)


HOSTILE = {
    "a tag that its value does not fit": ("id: !!bool foo\n", "line 1 uses the YAML tag '!!bool'"),
    "a tag without a value": ("a: 1\nb: !!timestamp\n", "line 2 uses the YAML tag '!!timestamp'"),
    "a tag of somebody's own": ("a: !include x.yaml\n", "line 1 uses the YAML tag '!include'"),
    "a tag of Python": ("a: !!python/object/apply:os.system [ls]\n", "uses the YAML tag '!!python/object"),
    "thousands of open lists": ("[" * 5_000, "line 1 is nested more than 32 deep"),
    "a megabyte of open lists": ("[" * 1_000_000, "line 1 is nested more than 32 deep"),
    "thousands of open mappings": ("[{" * 3_000, "nested more than 32 deep"),
    "lists in lists on one line": ("- " * 5_000, "nested more than 32 deep"),
    "keys of keys": ("? " * 5_000, "nested more than 32 deep"),
    "ever deeper lines": ("".join(" " * depth + "a:\n" for depth in range(1_300)), "line 33 is nested"),
    "a billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 2 uses YAML aliases"),
    "a mapping that holds itself": ("&a {b: *a}\n", "line 1 uses YAML aliases"),
    "an integer of many digits": ("a: " + "9" * 900_000, "line 1 has a number of more than 400 digits"),
    "a hexadecimal number of many digits": ("a: 0x" + "f" * 900_000, "more than 400 digits"),
    "hours and minutes without end": ("a: 1" + ":1" * 300_000, "more than 400 digits"),
    "digits that are no number": ("a: 0x_\n", "line 1: this is not YAML: '0x_' is neither"),
    "a day that is none": ("a: 1\nb: 2001-99-99\n", "line 2: this is not YAML: '2001-99-99' is neither"),
    "a key twice": ("a: 1\nb: 1\na: 2\n", "line 3: this is not YAML: the key 'a' is given twice"),
    "a key twice, further in": ("x:\n  - {b: 1, b: 2}\n", "line 2: this is not YAML: the key 'b' is given twice"),
    "a list as a key": ("? [a]\n: b\n", "found unhashable key"),
    "a merge of nothing": ("a: {<<: 1}\n", "this is not YAML"),
    "hundreds of thousands of values": ("- a\n" * 200_000, "has more than 30000 values"),
    "a file that never ends a quote": ('"' + "\\n" * 400_000, "this is not YAML"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_yaml_is_one_line_in_bounded_time(tmp_path: Path, case: str) -> None:
    content, words = HOSTILE[case]
    started = time.process_time()
    with pytest.raises(PromptError) as caught:
        read(tmp_path / "f.yaml", content)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - started < 10


def test_ordinary_yaml_is_read_as_it_always_was(tmp_path: Path) -> None:
    content = (
        "a: [1, 2.5, 1e-1, yes, null, ~, '!!bool x', \"[[[\"]\n? b c\n: |\n  two\n  lines\nd: {e: {f: [{g: 0x1F}]}}\n"
    )
    assert read(tmp_path / "f.yaml", content) == {
        "a": [1, 2.5, "1e-1", True, None, None, "!!bool x", "[[["],
        "b c": "two\nlines\n",
        "d": {"e": {"f": [{"g": 31}]}},
    }
    assert read(tmp_path / "f.yaml", "\ufeffa: 1") == {"a": 1}


PIECES = st.sampled_from(
    [
        *("a", ": ", "- ", "\n", " ", "  ", "[", "]", "{", "}", ",", "? ", "&x ", "*x", "!!int ", "!t ", "|", ">", "'"),
        *('"', "#", "%", "@", "`", "---\n", "...\n", "<<: ", "0x", "0b_", "1:2", "1e999", ".inf", ".nan", "\t", "\\u"),
        *("2001-01-01", "\x00", "\x85", "\u2028", "\ud7ff", "=", "~", "true"),
    ]
)


@pytest.mark.fuzz
@settings(max_examples=150, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_a_value_or_one_error(tmp_path: Path, content: str) -> None:
    with suppress(PromptError):  # nothing else may be raised
        read(tmp_path / "f.yaml", content.encode("utf-8", "replace").decode())
