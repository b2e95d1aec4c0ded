"""The review page without a server, in a real browser, from a file, as a colleague opens it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Page, browser
from labelled_folders import folder_of_confidences

from abs_classify.labelling.decisions import parse_decision
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.review.static_page import write_static_page
from abs_core.errors import UsageError

HOSTILE = "</script><img src=x onerror=\"document.title='run'\">\u202egpj.\x1b[2J" + "W" * 300
CLASSES = ("cat", "</title><b>dog", "eel")
SHOWN = "location.protocol === 'file:' && document.querySelector('.cell.loaded.focused') !== null"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> LabelFolder:
    path = tmp_path_factory.mktemp("static") / "labelled"
    return folder_of_confidences(path, [0.9, 0.2, 0.3, -1.0, 0.7, 0.4, 0.8], classes=CLASSES, names=["a.png", HOSTILE])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def write(folder: LabelFolder, path: Path, **options: Any) -> int:
    rows = folder.rows(RowQuery(order="doubtful"))
    return write_static_page(
        folder, path, ((row, "random" if row.number == 6 else "chosen") for row in rows), **options
    )


def decisions(path: Path) -> list[tuple[str, str, str, str]]:
    """What is in a file, read as ``abs label merge`` reads it."""
    parsed = [parse_decision(line) for line in path.read_bytes().splitlines()]
    assert {decision.reviewer for decision in parsed} == {path.stem}
    return [(decision.path, decision.action, decision.label, decision.shown_by) for decision in parsed]


def test_decisions_come_back_as_a_file(folder: LabelFolder, page: Page, tmp_path: Path) -> None:
    assert write(folder, tmp_path / "page.html", reviewer="anna") == 6
    page.said.clear()
    page.open((tmp_path / "page.html").as_uri(), tmp_path)
    page.wait_for(SHOWN)
    assert page.run("document.title") == "Review of labelled"
    # doubtful first: images 1 (hostile), 2, 5, 4, 6, 0
    page.press("a")
    page.wait_for("document.getElementById('reviewed').textContent === '1 of 6 reviewed'")
    second_share = page.run("document.querySelectorAll('button[data-position] span')[1].textContent")
    page.press("2", "x", "u", "x", "c")
    page.wait_for("document.getElementById('chooser').open")
    page.press("c", "a", "t", "Enter")
    page.wait_for("document.getElementById('reviewed').textContent === '4 of 6 reviewed'")
    assert page.run("document.getElementById('saved').textContent") == "4 decisions not in a file yet"
    # a card says how sure the model is of the class that it names, not of the label that was put right
    assert page.run("document.querySelectorAll('[data-state=label] .percent')[0].textContent") == second_share
    assert page.run("document.querySelector('[data-state=reject] .percent').textContent") == ""
    assert page.run("document.querySelector('[data-state=reject] .meter').hidden")
    page.run("document.getElementById('download').click()")
    page.wait_for_download()
    assert decisions(tmp_path / "anna.jsonl") == [
        (HOSTILE, "accept", "c1", "chosen"),
        ("images/0002.png", "label", "c0", "chosen"),
        ("images/0005.png", "reject", "", "random"),
        ("images/0004.png", "label", "c0", "chosen"),
    ]
    assert page.run("document.getElementById('saved').textContent") == "Saved to a file"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.said == []
    # the browser keeps them: the page opened again goes on
    page.open((tmp_path / "page.html").as_uri(), tmp_path)
    page.wait_for("document.getElementById('reviewed').textContent === '4 of 6 reviewed'")
    page.wait_for("document.querySelector('.cell.focused .path').textContent === 'images/0006.png'")
    page.press("Home", "u")  # also what was decided before
    assert page.run("document.getElementById('reviewed').textContent") == "3 of 6 reviewed"


def test_nothing_in_it_can_run(folder: LabelFolder, tmp_path: Path) -> None:
    write(folder, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    head, _, data = text.partition('<script type="application/json" id="data">')
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in head
    assert "unsafe" not in head
    assert "src=" not in head
    assert "<" not in data.partition("</script>")[0]
    assert json.loads(data.partition("</script>")[0])["rows"][0]["path"] == HOSTILE


def test_its_size_is_bounded(folder: LabelFolder, tmp_path: Path) -> None:
    written = write(folder, tmp_path / "page.html", max_bytes=204_000)
    assert 0 < written < 6
    assert (tmp_path / "page.html").stat().st_size < 204_000
    with pytest.raises(UsageError, match=r"no image of .* fits into 1\.0 kB"):
        write(folder, tmp_path / "none.html", max_bytes=1000)
    assert not (tmp_path / "none.html").exists()
