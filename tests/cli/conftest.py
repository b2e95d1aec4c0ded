"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs, colour


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage cache for the whole session, so that what models derive is computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def abs_command(tmp_path: Path, shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> Abs:
    return Abs(tmp_path / "home", shared_cache, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Builds an image folder: class name -> list of file names."""

    def build(**classes: list[str]) -> Path:
        root = tmp_path / "photos"
        for number, (label, names) in enumerate(classes.items()):
            for at, name in enumerate(names):
                path = root / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                colour(100 * number + at).save(path, "PNG")
        return root

    return build
