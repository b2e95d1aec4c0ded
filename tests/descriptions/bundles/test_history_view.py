"""The history as lines: the graph of versions and their parents."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from abs_descriptions.bundles.history_view import graph_rows, minute


def drawn(*nodes: tuple[str, str]) -> list[str]:
    """The lines of a graph of names, each with its parents, with one line of text behind the first."""
    lines: list[str] = []
    given: Sequence[tuple[str, Sequence[str]]] = [(name, parents.split()) for name, parents in nodes]
    for (name, _), row in zip(given, graph_rows(given), strict=True):
        lines += [row.head + name, *row.opening, row.body.rstrip(), *row.closing]
    return [line.rstrip() for line in lines if line]


@pytest.mark.parametrize(
    ("nodes", "lines"),
    [
        ((("b", "a"), ("a", "")), ["* b", "|", "* a"]),
        (
            (("d", "b c"), ("c", "a"), ("b", "a"), ("a", "gone")),
            ["* d", "|\\", "| |", "| * c", "| |", "* | b", "| |", "|/", "* a"],
        ),
        (
            (("o", "x y z"), ("z", "r"), ("y", "r"), ("x", "r"), ("r", "")),
            [
                "* o",
                "|\\",
                "| |\\",
                "| | |",
                "| | * z",
                "| | |",
                "| * | y",
                "| | |",
                "| |/",
                "* | x",
                "| |",
                "|/",
                "* r",
            ],
        ),
        (
            (("t", "x"), ("m", "b c"), ("x", "r"), ("c", "r"), ("b", ""), ("r", "")),
            [
                "* t",
                "|",
                "| * m",
                "| |\\",
                "| | |",
                "* | | x",
                "| | |",
                "| | * c",
                "| | |",
                "|_|/",
                "| * b",
                "|",
                "* r",
            ],
        ),
        ((("p", "c"), ("q", ""), ("z", "c"), ("c", "")), ["* p", "|", "| * q", "|", "| * z", "| |", "|/", "* c"]),
        (
            (("p", "c"), ("q", "e"), ("c", ""), ("e", "")),
            ["* p", "|", "| * q", "| |", "* | c", "  |", " /", "* e"],
        ),
    ],
)
def test_lines_lead_from_versions_to_their_parents(nodes: tuple[tuple[str, str], ...], lines: list[str]) -> None:
    assert drawn(*nodes) == lines


def test_a_time_has_no_seconds() -> None:
    assert minute("2025-01-31T12:00:59Z") == "2025-01-31 12:00"
