"""What the user sees on stderr while work runs."""

from __future__ import annotations

import logging
import sys

import pytest

from abs_classify.encoding.spaces import Space
from abs_classify.encoding.work import WorkCounts
from abs_cli.console import note_work, progress, show_log_messages


@pytest.mark.parametrize("library", ["abs_core", "abs_descriptions", "abs_classify"])
def test_messages_of_a_library_are_shown_once_and_made_harmless(
    library: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as a package does that calls logging.basicConfig when it is imported
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
    show_log_messages()
    show_log_messages()
    logger = logging.getLogger(f"{library}.room.module")
    logger.debug("not for the user")
    logger.info("loading %s", "a\x1b[2J")
    logger.warning("birds@1.2.0 was yanked: %s", "wrong names")
    assert capsys.readouterr().err == "loading a\\x1b[2J\nwarning: birds@1.2.0 was yanked: wrong names\n"


def test_progress_of_a_log_shows_rate_and_remark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([100.0, 105.0, 111.0])
    monkeypatch.setattr("abs_cli.console.time.monotonic", lambda: next(moments))
    with progress("classifying", 30, "images") as advance:
        advance(10)
        advance(12, "pets")
    assert capsys.readouterr().err == "classifying: 22 of 30 images, 2.0 images/s, 4 s left; pets\n"


def test_work_before_the_first_unit_is_told_early_and_does_not_count_for_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, 0.5, 1.5, 3.0, 12.0, 3612.0, 3622.5])
    monkeypatch.setattr("abs_cli.console.time.monotonic", lambda: next(moments))
    with progress("classifying", 30_000, "images") as advance:
        for done in (100, 200, 300, 400, 500):
            advance(0, f"read {done} of 500 images")
        advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "classifying: 0 of 30000 images, 0.0 images/s, time left unknown; read 200 of 500 images",
        "classifying: 0 of 30000 images, 0.0 images/s, time left unknown; read 400 of 500 images",
        "classifying: 0 of 30000 images, 0.0 images/s, time left unknown; read 500 of 500 images",
        "classifying: 10 of 30000 images, 1.0 images/s, 8 h 45 min left",
    ]


def test_a_dumb_terminal_gets_lines_and_no_bar_that_it_cannot_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("abs_cli.console._LINE_INTERVAL", 0.0)
    monkeypatch.setenv("TERM", "dumb")
    with progress("classifying", 30, "images") as advance:
        advance(10)
    assert capsys.readouterr().err.startswith("classifying: 10 of 30 images, ")


@pytest.mark.parametrize(
    ("computed", "line"),
    [
        (0, "computed: nothing; everything came from the cache; 1.5 s"),
        (3, "computed: 1 of 2 images, 3 of 6 views; the rest came from the cache; 1.5 s"),
        (6, "computed: 2 of 2 images, 6 of 6 views; 1.5 s"),
        # rows that are not kept are computed for each of several seeds
        (9, "computed: 2 of 2 images, 6 of 6 views; 1.5 s"),
    ],
)
def test_the_last_line_says_what_was_computed_and_what_was_there(
    computed: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    work, space = WorkCounts(images=2, images_computed=-(-computed // 3)), Space("view-features", 1, {})
    work.ask(space, 2, 6)
    work.compute(space, 2, computed)
    note_work(work, 1.5)
    assert capsys.readouterr().err == f"{line}\n"
