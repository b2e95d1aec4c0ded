"""The table of parity at the end of a run."""

from __future__ import annotations

import parity
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how near the stored numbers the run came."""
    lines = parity.table()
    if lines:
        terminalreporter.section("parity: largest differences from stored numbers")
        terminalreporter.write_line("\n".join(lines))
