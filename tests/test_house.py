"""The house rules that a reader relies on: one name for one thing, files and functions that can be overlooked."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("abs_core", "abs_descriptions", "abs_classify", "abs_cli")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_class_name_is_unique() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_function_has_the_name_of_a_module_beside_it() -> None:
    clashes = []
    for path in MODULES:
        beside = {other.stem for other in path.parent.glob("*.py")} | {
            p.name for p in path.parent.iterdir() if p.is_dir()
        }
        if path.name == "__init__.py":  # its functions stand beside the package as well as beside the modules in it
            beside |= {other.stem for other in path.parent.parent.glob("*.py")}
        names = {node.name for node in tree_of(path).body if isinstance(node, ast.FunctionDef)}
        clashes += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(names & beside)]
    # a click command is found by the name of its file
    assert [clash for clash in clashes if not clash.startswith("abs_cli/")] == []


@pytest.mark.parametrize(("paths", "limit"), [(MODULES, 600), (TESTS, 400)], ids=["modules", "test modules"])
def test_no_module_is_longer_than_the_limit(paths: list[Path], limit: int) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > limit} == {}


def test_functions_fit_on_a_screen() -> None:
    functions = [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [(name, length) for name, length in functions if length > 60] == []


def test_the_test_of_a_module_is_found_by_its_name() -> None:
    strays = []
    for path in TESTS:
        folder = path.parent.relative_to(ROOT / "tests")
        package = folder.parts[0] if folder.parts else ""
        if not path.name.startswith("test_") or f"abs_{package}" not in PACKAGES:
            continue
        room = ROOT / f"abs_{package}" / Path(*folder.parts[1:])
        modules = [other.stem for other in room.rglob("*.py")] + [
            other.name for other in room.iterdir() if other.is_dir()
        ]
        subject = path.stem.removeprefix("test_")
        if not any(subject == module or subject.startswith(f"{module}_") for module in modules):
            strays.append(str(path.relative_to(ROOT)))
    assert strays == []
