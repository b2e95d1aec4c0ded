"""Progress of long work, as a library tells it."""

from __future__ import annotations

import pytest

from abs_core.progress import no_progress


def test_a_display_that_shows_nothing_takes_every_call(capsys: pytest.CaptureFixture[str]) -> None:
    with no_progress("reading", 3, "images") as advance:
        advance()
        advance(2, "with a remark")
    assert capsys.readouterr() == ("", "")
