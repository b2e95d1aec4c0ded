"""Fixtures of the tests that kill long commands: `make test-kills` runs them; others skip them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_bench import KillBench, opened_bench

#: Imported before the first fork, where it is installed.
_MODULES = ("safetensors.torch", "s3fs", "pyarrow.parquet")
_REPORTS = pytest.StashKey[KillBench]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here unless it was asked for, and say so."""
    if os.environ.get("ABS_TEST_KILLS"):
        return
    why = "long commands were NOT killed often; `make test-kills` kills them more than 200 times"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[KillBench]:
    with opened_bench(tmp_path_factory.mktemp("kills"), *_MODULES) as opened:
        request.config.stash[_REPORTS] = opened
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was killed how often."""
    bench = config.stash.get(_REPORTS, None)
    if bench is not None:
        total = sum(report.kills.total() for report in bench.reports)
        terminalreporter.section(f"{total} kills")
        terminalreporter.write_line("\n".join(map(str, bench.reports)))
