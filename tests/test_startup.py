"""What starts without the heavy libraries: importing the packages, and every command that computes no feature."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from result_records import make_records

import abs_descriptions
from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.records import Run
from abs_classify.evaluation.results_folder import ResultsFolder

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "transformers", "openai", "vllm", "sentence_transformers", "open_clip", "timm"]
# the embedded model takes part as a library does, and as long
HEAVY.append("abs_classify.models.embedded")
# Runs `abs` with the arguments and prints the heavy libraries that it imported, behind what it printed itself.
RUN = f"""
import sys
from abs_cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("imported:", *(name for name in {HEAVY!r} if name in sys.modules))
"""


def imported_by(home: Path, *args: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a command in a process of its own; the heavy libraries that it imported, separated by spaces."""
    command = [sys.executable, "-c", RUN, "--home", str(home), "--cache", str(home / "cache"), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("imported:"), done
    return done, last.removeprefix("imported:").strip()


def test_descriptions_and_the_command_line_are_imported_without_heavy_libraries() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("abs_core", "abs_descriptions", "abs_cli")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_public_names_of_the_description_library_are_there() -> None:
    assert len(abs_descriptions.__all__) > 10
    for name in abs_descriptions.__all__:
        assert getattr(abs_descriptions, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        abs_descriptions.nothing  # noqa: B018


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "methods",
        "models ls",
        "models show embedded",
        "doctor",
        "config show eval",
        "config check",
        "datasets ls",
        "bundle ls",
        "bundle show textures",
        "bundle log textures",
        "bundle validate textures",
        "lint textures",
        "cache ls",
        "eval --help",
        "features --help",
        "label --help",
        "label export --help",
        "label learn --help",
        "label merge --help",
        "bundle rewrite --help",
        "label review --help",
    ],
)
def test_a_command_that_computes_no_feature_imports_no_heavy_library(command: str, tmp_path: Path) -> None:
    done, imported = imported_by(tmp_path, *command.split())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1
    assert imported == ""


def test_results_are_listed_and_shown_without_heavy_libraries(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "results")
    for record in make_records([evaluate_ranks("clip", np.array([1, 2]), np.array([0, 1]), 2)], run=Run.now()):
        folder.write(record)
    for command in ("results ls", "results show last", "results compare last last"):
        done, imported = imported_by(tmp_path, *command.split())
        assert done.returncode == 0, done.stderr
        assert "clip" in done.stdout
        assert imported == ""


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("classify missing.jpg --labels cat,dog", "missing.jpg"),
        ("classify README.md --labels cat,dog --method abss", "abss"),
        ("classify README.md --bundle birdz", "birdz"),
        ("classify README.md --labels cat,dog --model ViT-B-99/openai", "ViT-B-99"),
        ("eval --dataset imagefolder:missing --methods clip", "missing"),
        ("eval --dataset imagefolder:tests --methods clpi", "clpi"),
        ("eval --dataset imagenot:tests --methods clip", "imagenot"),
        ("features missing --out features.npz", "missing"),
        ("label missing --labels cat,dog --out labelled", "missing"),
        ("label learn missing", "missing"),
        ("label merge missing", "missing"),
        ("label review missing", "missing"),
        ("label export missing coco", "missing"),
        ("label export missing cleanlab", "missing"),
        ("features tests --out README.md", "README.md"),
        ("bundle rewrite textures --dataset imagefolder:missing", "missing"),
    ],
)
def test_a_wrong_path_or_name_is_found_before_a_heavy_library_is_imported(
    command: str, error: str, tmp_path: Path
) -> None:
    done, imported = imported_by(tmp_path, *command.split())
    assert done.returncode == 2, done.stderr
    assert error in done.stderr
    assert imported == ""


COMPLETE = f"""
import os, sys
from abs_cli.main import main
try:
    main([])
finally:
    print("imported:", *(name for name in {[*HEAVY, "numpy"]!r} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("abs eval --methods clip,abs-p", "clip,abs-pixels"),
        ("abs eval --bundle text", "textures"),
        ("abs bundle show pets@", "pets@1.0.0"),
        ("abs eval --model embed", "embedded"),
        ("abs eval --dataset imagef", "imagefolder:"),
        ("abs bundle export x --format clip-b", "clip-benchmark"),
        ("abs results show 2026", "20260101T000000.000000Z-00000000"),
        ("abs eval --control sh", "shuffle"),
        ("abs eval --templates imagenet-", "imagenet-80"),
        ("abs lint --ignore too-f", "too-few"),
    ],
)
def test_names_are_completed_without_libraries_that_take_a_while(words: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "results" / "20260101T000000.000000Z-00000000").mkdir(parents=True)
    completion = {"_ABS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    line = {"COMP_LINE": words, "COMP_POINT": str(len(words)), "COMP_WORDBREAKS": "", "ABS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **completion, **line},
    )
    *proposed, imported = done.stdout.splitlines()
    assert any(expected in proposal for proposal in proposed), done
    assert imported == "imported:"


def test_the_names_that_are_cheap_to_read_are_those_of_the_tables() -> None:
    code = (
        "from abs_classify.methods import names, table, controls\n"
        "assert tuple(table.METHODS) == names.METHOD_NAMES\n"
        "assert tuple(controls.CONTROLS) == names.CONTROL_NAMES"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["eval --dataset imagefolder:{0} --methods clip,abs", "classify {0}/cat/a.png --labels cat,dog"]
)
def test_what_is_in_the_cache_is_ranked_without_a_model_library(command: str, tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "dog")):
        (tmp_path / "images" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32), (80 * number, 9, 9)).save(tmp_path / "images" / label / "a.png")
    arguments = command.format(tmp_path / "images").split()
    for expected in ("torch abs_classify.models.embedded", "torch"):
        done, imported = imported_by(tmp_path, *arguments, "--views", "2")
        assert done.returncode == 0, done.stderr
        assert imported == expected
    assert "computed: nothing" in done.stderr
