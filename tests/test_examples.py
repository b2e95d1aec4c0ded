"""The programs in examples/ run as a reader would run them, and print what they promise."""

from __future__ import annotations

import json
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
    names = sorted(path.name for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")])
    assert len(names) == 7
    assert [name for name in names if f"({name})" not in page or f'"{name}"' not in tests] == []


def test_the_notebook_holds_no_outputs() -> None:
    notebook = json.loads((EXAMPLES / "own_method.ipynb").read_text(encoding="utf-8"))
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] or cell["metadata"]] == []


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
def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "own_method.ipynb", as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        {kind: str(data) for output in cell.outputs for kind, data in output.get("data", {}).items()}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    errors = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name")]
    assert not errors, errors  # no warning, nothing printed
    parameters, photos, results, table, frame, classes, prediction, figure, names = shown
    assert "share" in parameters["text/plain"]
    assert "6 images, 17 classes" in photos["text/plain"]
    for value in (results, table, frame):
        for method in ("clip", "abs(views=10)", "best-views", "best-views(share=0.2)"):
            assert method in value["text/html"]
    assert "minus clip" in table["text/html"]
    assert "flower" in classes["text/html"]
    assert "why cat, not " in prediction["text/html"]
    assert figure["image/png"]
    assert "accuracy.pdf" in names["text/plain"]


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
