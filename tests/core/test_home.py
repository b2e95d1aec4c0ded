"""The user's folders: what is given counts before the environment, and that before the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_core.home import Home


def test_folders_come_from_the_options_the_environment_or_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ABS_HOME", "ABS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.at(None, None) == Home(tmp_path / ".abs", tmp_path / ".abs" / "cache")
    monkeypatch.setenv("ABS_HOME", "~/home")
    assert Home.at(None, None) == Home(tmp_path / "home", tmp_path / "home" / "cache")
    monkeypatch.setenv("ABS_CACHE", str(tmp_path / "cache"))
    assert Home.at(None, None) == Home(tmp_path / "home", tmp_path / "cache")
    given = Home.at(tmp_path / "other", tmp_path / "quick")
    assert given == Home(tmp_path / "other", tmp_path / "quick")
    assert given.bundles.parent == given.journals.parent == given.models.parent == given.results.parent == given.root
