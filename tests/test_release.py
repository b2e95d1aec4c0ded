"""`tools/release.py`: what is missing from an archive, or too much in it, ends a release."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TRACKED = ("abs_core/files.py", "data/labels/demo.json", "prompts/clip/plain.yaml", "tests/test_release.py", "LICENSE")
INSTALLED = ("abs_core/files.py", "abs_core/shipped/data/labels/demo.json", "abs_core/shipped/prompts/clip/plain.yaml")


def write_wheel(folder: Path, *names: str, size: int = 1) -> Path:
    path = folder / "abs_toolkit-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*names, "abs_toolkit-1.0.0.dist-info/METADATA"):
            archive.writestr(name, bytes(size))
    return path


def test_a_wheel_has_what_git_knows_and_nothing_else(release: ModuleType, tmp_path: Path) -> None:
    release.check_wheel(write_wheel(tmp_path, *INSTALLED), TRACKED)
    with pytest.raises(release.ReleaseError, match=r"whl lacks abs_core/shipped/data/labels/demo.json \(1 files\)"):
        release.check_wheel(write_wheel(tmp_path, INSTALLED[0], INSTALLED[2]), TRACKED)
    with pytest.raises(release.ReleaseError, match=r"whl has too much: tests/conftest.py \(1 files\)"):
        release.check_wheel(write_wheel(tmp_path, *INSTALLED, "tests/conftest.py"), TRACKED)


def test_a_large_archive_is_refused(release: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(release.ReleaseError, match=r"bytes, more than 4,000,000$"):
        release.check_wheel(write_wheel(tmp_path, *INSTALLED, size=1_400_000), TRACKED)


def test_an_sdist_leaves_out_the_tests(release: ModuleType) -> None:
    expected = {"abs_core/files.py", "data/labels/demo.json", "prompts/clip/plain.yaml", "LICENSE", "PKG-INFO"}
    assert release.sdist_contents(TRACKED) == expected


def test_the_changelog_begins_with_the_version_and_no_other_file_has_it(release: ModuleType, tmp_path: Path) -> None:
    version = release.project_version(ROOT)
    for name in ("CITATION.cff", "Dockerfile", "README.md"):
        # a bundle's version is its own
        assert re.search(rf"(?<![@\d.]){re.escape(version)}", (ROOT / name).read_text(encoding="utf-8")) is None, name
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n', encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.1.0 (2026-01-01)\n", encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"has the version 1.2.0, and CHANGELOG.md begins with 1.1.0$"):
        release.project_version(tmp_path)


def test_a_folder_that_is_no_checkout_is_refused_in_a_line(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GIT_DIR", raising=False)
    with pytest.raises(release.ReleaseError, match=r"^git ls-files failed: ."):
        release.tracked_files(tmp_path)


def test_archives_of_other_bytes_are_refused(release: ModuleType, tmp_path: Path) -> None:
    first, second = tmp_path / "a.whl", tmp_path / "b.whl"
    first.write_bytes(b"1")
    second.write_bytes(b"1")
    release.check_same(first, second, "again")
    second.write_bytes(b"2")
    with pytest.raises(release.ReleaseError, match=r"a.whl has other bytes when it is built again$"):
        release.check_same(first, second, "again")
