"""Points in time and durations in the forms of real servers, and anything else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.durations import seconds_until

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3), (3, 3), (" 0.5 ", 0.5), ("3s", 3), ("6m0s", 360), ("1h2m3s", 3723), ("20ms", 0.02),
        ("2m59.56s", 179.56), ("1.5 seconds", 1.5), ("1 minute", 60), ("2 hours, 3 min", 7380), ("250µs", 0.00025),
        ("1d", 86400), ("PT30S", 30), ("P1DT2H", 93600), ("0:01:30", 90), ("1:30", 90), ("PT", None),
        (EPOCH + 60, 60), (str(EPOCH + 60), 60), ((EPOCH + 60) * 1000, 60), (str((EPOCH + 60) * 10**6), 60),
        ((EPOCH + 60) * 10**9, 60), (EPOCH - 60, 0), ("2026-11-28T12:01:00Z", 60), ("2026-11-28 12:01:00", 60),
        ("2026-11-28T13:01:00+01:00", 60), ('"2026-11-28T12:01:00.500Z"', 60.5),
        ("Sat, 28 Nov 2026 12:01:00 GMT", 60), ("Sat, 28 Nov 2026 11:00:00 GMT", 0), ("-5", 0),
        ("soon", None), ("", None), ("nan", None), ("inf", None), ("9" * 90, None), ("9" * 9999, None),
        (True, None), (None, None), ([3], None), ({"seconds": 3}, None), ("500 days", None),
        ("1" * 15 + "h", None), ("Sat, 28 Nov 99999 12:01:00 GMT", None), ("5 apples", None), ("7mm", None),
    ],
)  # fmt: skip
def test_every_form_in_use_is_read(value: Any, seconds: float | None) -> None:
    assert seconds_until(value, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.fuzz
@given(
    st.one_of(
        st.text(max_size=120),
        st.integers(),
        st.floats(),
        st.text("0123456789.:-+ hmsdPTµn,WZ", max_size=40),
        st.none(),
        st.lists(st.integers(), max_size=2),
    )
)
def test_nothing_raises_and_no_wait_is_endless(value: Any) -> None:
    seconds = seconds_until(value, NOW)
    assert seconds is None or 0 <= seconds <= 400 * 86400
