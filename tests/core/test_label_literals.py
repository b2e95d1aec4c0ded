from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_core.label_literals import literal_in


@pytest.mark.parametrize(
    "text",
    [
        "['cat', 'dog']",
        "['cat' 'dog']",
        "['cat'\n 'dog']\n",
        "('cat', 'dog')",
        "classes = ['cat', 'dog']",
        'CLASSES: tuple = (\n    "cat",  # felis\n    "dog",\n)\n',
        "# the classes\nclasses = ['cat', 'dog']",
        "array(['cat', 'dog'], dtype='<U3')",
        "Index(['cat', 'dog'], dtype='object')",
        "dict_keys(['cat', 'dog'])",
        "np.array(['cat' 'dog'])",
        "(#2) ['cat','dog']",
    ],
)
def test_lists_of_programs_and_their_printed_forms(text: str) -> None:
    assert literal_in(text) == ["cat", "dog"]


def test_strings_side_by_side_are_never_joined() -> None:
    # a comma that was forgotten, and numpy's way to print
    assert literal_in("['cat', 'dog'\n'owl']") == ["cat", "dog", "owl"]
    assert literal_in("{'a': 'cat'}") == {"a": "cat"}


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog",
        "cat (animal)\ndog",
        "cat(animal)",
        "crane = bird",
        "a = ['cat']\nb = ['dog']",
        "['cat', name]",
        "[" * 5000,
        "['cat'",
        "{'cat': 0, 'cat': 1}",
        "{**{'cat': 0}}",
        "['cat'] + ['dog']",
        "__import__('os').system(['cat'])[0]",
        "",
    ],
)
def test_other_texts_are_none(text: str) -> None:
    value: Any = literal_in(text)
    assert value is None


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.sampled_from([", ", " ", "\n "]))
def test_what_python_prints_is_read_back(names: list[str], between: str) -> None:
    assert literal_in(f"[{between.join(map(repr, names))}]") == names


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[](){}'\",=#:\\ \nab1", max_size=40))
def test_any_text_is_a_value_or_none(text: str) -> None:
    assert isinstance(literal_in(text), list | dict | None)
