"""The table of parity at the end of a run."""

from __future__ import annotations

from typing import Any

import parity
import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run in several processes, each hands its differences to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["parity"] = parity.rows()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the differences of a process that has ended."""
    parity.add(getattr(node, "workeroutput", {}).get("parity", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how near the stored numbers the run came."""
    lines = parity.table()
    if lines:
        terminalreporter.section("parity: largest differences from stored numbers")
        terminalreporter.write_line("\n".join(lines))
