"""Small models for all tests, and the table of parity at the end of a run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import parity
import pytest
from support import colour, save_small_clip, share_vocabulary

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell without job control starts what runs in the background so, and the tests of Ctrl-C would press in vain
    signal.signal(signal.SIGINT, signal.default_int_handler)

# no test depends on the configuration of whoever runs it
os.environ["ABS_CONFIG"] = os.devnull

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # the environment of vLLM has none, and its tests need none
    pass
else:
    # A busy machine is no fault of what is tested, and every run tries the same examples: a rare find belongs to those
    # who look for it, with `--hypothesis-profile explore`, and not to the change that happens to be tested.
    quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("any-machine", derandomize=True, database=None, **quiet)
    settings.register_profile("explore", **quiet)
    settings.load_profile("any-machine")


_frozen = 0


@pytest.fixture(scope="module", autouse=True)
def frozen_modules() -> None:
    """Every evaluation collects garbage: looking through all imported modules each time would take half of it."""
    global _frozen
    if len(sys.modules) > _frozen + 100:
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


@pytest.fixture(scope="session")
def small_clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two small open_clip models with random weights, by name."""
    folders = [save_small_clip(tmp_path_factory.mktemp("clip") / str(seed), seed) for seed in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        share_vocabulary(patch)
        yield f"local-dir:{folders[0]}", f"local-dir:{folders[1]}"


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Builds a folder of images: its name, and class name -> number of images."""

    def build(name: str, **classes: int) -> Path:
        for number, (label, count) in enumerate(classes.items()):
            for at in range(count):
                path = tmp_path / name / label / f"{at:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                colour(1000 * len(name) + 100 * number + at, (24, 20)).save(path)
        return tmp_path / name

    return build


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


@pytest.fixture
def clean_table() -> Iterator[None]:
    """Take rows that a test registers in the table of methods out again."""
    from abs_classify.methods import table

    before = dict(table.METHODS)
    yield
    for name in table.METHODS.keys() - before.keys():
        del table._ROWS[name]


@pytest.fixture
def clean_plugins(clean_table: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No plugin is loaded and nothing registered, and afterwards again."""
    from abs_classify import plugins
    from abs_classify.datasets import registry
    from abs_classify.models import registered

    before = set(sys.modules)
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(plugins, "_PLUGINS_OF", {})
    monkeypatch.setattr(registered, "_LOADERS", {})
    monkeypatch.setattr(registry, "_REGISTERED", {})
    yield
    for name in set(sys.modules) - before:
        if name.startswith("abs_plugin_"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage cache for the whole session, so that what models derive is computed once."""
    return tmp_path_factory.mktemp("cache")
