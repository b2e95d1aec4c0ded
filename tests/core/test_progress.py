"""Progress of long work, as a library tells it."""

from __future__ import annotations

import logging

import pytest

from abs_core.progress import logged, no_progress


def test_a_display_that_shows_nothing_takes_every_call(capsys: pytest.CaptureFixture[str]) -> None:
    with no_progress("reading", 3, "images") as advance:
        advance()
        advance(2, "with a remark")
    assert capsys.readouterr() == ("", "")


def test_long_work_tells_a_log_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.5, 1.5, 3.0, 12.0, 12.0])
    monkeypatch.setattr("abs_core.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(logged("abcd", logging.getLogger("abs_core.test"), "reading shards")) == list("abcd")
    assert caplog.messages == ["reading shards: 1 of 4", "reading shards: 3 of 4"]
