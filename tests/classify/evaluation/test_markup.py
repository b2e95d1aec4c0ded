"""Text from outside in Markdown, LaTeX and CSV."""

from __future__ import annotations

import pytest

from abs_classify.evaluation.markup import csv_text, latex_cell, latex_preamble, markdown_cell, markdown_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-2.5 [-4.0, 1.0] ~", "$-$2.5 [$-$4.0, 1.0] \\textasciitilde{}"),
        ("83.2 ± 0.4", "83.2 $\\pm$ 0.4"),
        ("abs-pixels", "abs-pixels"),
        ("a_b & 50 % of #1 {x} \\input{y} $z$ ^", r"a\_b \& 50 \% of \#1 \{x\} \textbackslash{}input\{y\} \$z\$ "
         r"\textasciicircum{}"),
        ("[1pt] a--b", "{}[1pt] a-{}-b"),
        ("<0.001", r"\textless{}0.001"),
        ('"x" ≥ −1', r"\symbol{34}x\symbol{34} $\ge$ $-$1"),
        ("a\nb\u202e", r"a\textbackslash{}nb\textbackslash{}u202e"),
    ],
)  # fmt: skip
def test_latex_sets_a_text_as_it_is(text: str, expected: str) -> None:
    assert latex_cell(text) == expected


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("a & b", []),
        ("Größe “x”", ["T1"]),
        ("fi…", []),
        ("x ± 1 ≈ 2", []),
        ("ŉ", ["T1", "XeLaTeX"]),
        ("日本語", ["T1", "XeLaTeX"]),
        ("α 🐈", ["T1", "XeLaTeX"]),
    ],
)  # as pdfTeX sets them, or stops at them
def test_latex_says_what_a_document_needs_for_its_names(name: str, needs: list[str]) -> None:
    lines = latex_preamble(latex_cell(name))
    assert all(line.startswith("% ") for line in lines)
    assert [need for need in ("T1", "XeLaTeX") if any(need in line for line in lines)] == needs


@pytest.mark.parametrize(
    "text",
    [
        "top-1 % [95 %]",
        "83.2 ± 0.4 [79.1, 86.6]",
        "-2.5 [-4.0, +1.0] ~",
        "minus clip [95 %]",
        "s/image",
        "a_b",
        "<0.001",
    ],
)
def test_what_tables_write_stays_readable_in_markdown(text: str) -> None:
    assert markdown_cell(text) == text


@pytest.mark.parametrize("text", ["[a](http://x)", "[1](x)", "a|b", "<b>", "@name", "~~x~~", "*x*", "`x`", "a\nb"])
def test_markup_of_others_is_shown_and_not_read(text: str) -> None:
    shown = markdown_cell(text)
    assert shown.startswith("<code>")
    assert not set("[]|@~*`\n") & set(shown)


def test_a_table_of_markdown_has_as_many_cells_in_each_line() -> None:
    lines = markdown_table(["a", "b"], [["x|y", "1"], ["z", "2"]], 1)
    assert lines[1] == "|:--|--:|"
    assert {line.count("|") for line in lines} == {3}


def test_csv_keeps_numbers_and_defuses_formulas() -> None:
    assert csv_text(["a", "b"], [["=1+1", 0.1], ["x", None]]) == "a,b\n'=1+1,0.1\nx,\n"


def test_a_percentage_in_brackets_is_plain() -> None:
    sentence = "four of five tries: none (one test, two-sided, 5 %)"
    assert markdown_cell(sentence) == sentence
    assert "<code>" in markdown_cell("50%20(x)")


def test_one_unusual_word_leaves_the_others_readable() -> None:
    shown = markdown_cell("top-1 accuracy (n = 100 images); descriptions birds@1.0 of *x* [a b")
    assert shown.startswith("top-1 accuracy (n = 100 images)")
    assert not set("[]|@~*`\n") & set(shown)
    assert " descriptions <code>birds&#64;1&#46;0</code> of <code>" in shown
