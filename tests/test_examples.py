"""The programs in examples/ run as a reader would run them, and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from abs_core.extras import find_package_folder

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path, *args: str | Path) -> list[str]:
    """The lines that an example prints. It must end without an error."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "ABS_HOME": str(folder), "PYTHONPATH": str(EXAMPLES.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def images() -> Path:
    folder = find_package_folder("skimage")
    assert folder is not None
    return folder / "data"


def test_every_example_is_run_here_and_named_on_the_page() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(names) == 6
    assert [name for name in names if f"({name})" not in page or f'run("{name}"' not in tests] == []


@pytest.mark.slow
def test_classify_images(images: Path, tmp_path: Path) -> None:
    lines = run("classify_images.py", tmp_path, images / "chelsea.png", images / "coffee.png")
    assert [line.rpartition(": ")[2] for line in lines[::2]] == ["cat", "cup"]
    assert "cat" in lines[1].lower()


@pytest.mark.slow
def test_evaluate_methods(tmp_path: Path) -> None:
    text = "\n".join(run("evaluate_methods.py", tmp_path, "demo", tmp_path / "cache"))
    assert "top-1 % [95 %]" in text
    assert "10 crops + 10 windows" in text
    assert "abs" in text.rpartition("\n\n")[2]


@pytest.mark.slow
def test_own_method(tmp_path: Path) -> None:
    text = "\n".join(run("own_method.py", tmp_path))
    assert "top-1 % [95 %]" in text
    assert "median" in text


@pytest.mark.slow
def test_write_descriptions(tmp_path: Path) -> None:
    lines = run("write_descriptions.py", tmp_path, tmp_path, "cat", "rocket")
    assert "'requests'" in lines[0]
    assert lines[1].startswith("mine@1.0.0#sha256:")
    assert [line.split(":")[0].strip() for line in lines[2:]] == ["cat", "rocket"]


@pytest.mark.slow
def test_filter_by_images(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("brick.png", "grass.png", "gravel.png"):
        (folder / name).write_bytes((images / name).read_bytes())
    (line,) = run("filter_by_images.py", tmp_path, tmp_path / "bundles", "textures", folder)
    reference, _, counts = line.rpartition(": ")
    assert reference.startswith("textures@1.1.0#sha256:")
    kept, removed = (int(part.split()[0]) for part in counts.split(", "))
    assert kept >= 47  # every class keeps one
    assert removed > 0


def test_share_bundles(tmp_path: Path) -> None:
    lines = run("share_bundles.py", tmp_path, tmp_path / "mine", tmp_path / "team")
    assert lines[0].startswith("textures@1.0.0")
    assert lines[1] == "withdrawn: the wording is being reviewed"
    assert list((tmp_path / "team").rglob("*1.0.0*"))
