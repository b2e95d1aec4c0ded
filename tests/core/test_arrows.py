"""The arrows of the house: who may import whom, and what may not be imported at start."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "abs_core": {"abs_core"},
    "abs_descriptions": {"abs_core", "abs_descriptions"},
    "abs_classify": {"abs_core", "abs_classify"},
    "abs_cli": {"abs_core", "abs_descriptions", "abs_classify", "abs_cli"},
}


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_run_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = {name for name in imports_of(path) if name in ALLOWED}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def test_descriptions_and_the_command_line_start_without_torch() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("abs_core", "abs_descriptions", "abs_cli")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__main__.py"
    ]
    heavy = ["torch", "transformers", "openai", "vllm", "sentence_transformers", "open_clip", "timm"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
