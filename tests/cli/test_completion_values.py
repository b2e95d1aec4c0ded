"""A shell completes the values of options as well as their names, quickly and without ever failing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from bundle_samples import write_version
from click.shell_completion import CompletionItem, ShellComplete
from support import ROOT

from abs_classify.methods.table import METHODS
from abs_classify.models import attention
from abs_cli import completion_values
from abs_cli.main import cli
from abs_descriptions.bundles.repository import Repository


def completed(home: Path, *arguments: str) -> list[CompletionItem]:
    """What the shell proposes for the last argument."""
    complete = ShellComplete(cli, {}, "abs", "_ABS_COMPLETE")
    return complete.get_completions(["--home", str(home), *arguments[:-1]], arguments[-1])


def values(home: Path, *arguments: str) -> list[str]:
    return [item.value for item in completed(home, *arguments)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("classify", "--method", "clip-d"), ["clip-d", "clip-d-wca"]),
        (("eval", "--methods", "cupl,clip-d"), ["cupl,clip-d", "cupl,clip-d-wca"]),
        (("eval", "--methods", "clip-d,clip-d"), ["clip-d,clip-d-wca"]),
        (("classify", "--method", "abs-pixels(te"), ["abs-pixels(temperature="]),
        (("classify", "--method", "mta(views=9,l"), ["mta(views=9,lambda_q=", "mta(views=9,lambda_y="]),
        (("classify", "--method", "wca(ratio=(0.1,0.5),r"), []),
        (("classify", "--method", "abs(guided="), ["abs(guided=true)", "abs(guided=false)"]),
        (("classify", "--method", "zero(tie_break=t"), ["zero(tie_break=tied)", "zero(tie_break=tta-vlm)"]),
        (("classify", "--method", "asb(te"), []),
        (("eval", "--methods", "clip,abs(views=9,te"), ["clip,abs(views=9,temperature="]),
        (("eval", "--model", "embed"), ["embedded"]),
        (("eval", "--dataset", "imagef"), ["imagefolder:"]),
        (("eval", "--dataset", "imagefolder:/nowhere/"), []),
        (("label", "exp"), ["export", "exp"]),
        (("lint", "pets", "--ignore", "too-f"), ["too-few"]),
        (("gen-descriptions", "cat,dog", "--model", "smol"), ["smollm2"]),
        (("results", "show", "last", "--base", "clip-e"), ["clip-e"]),
        (("bundle", "edit", "pets", "--onto", "text"), ["textures"]),
        (("config", "show", "dat"), ["datasets"]),
        (("features", "imagef"), ["imagefolder:"]),
        (("features", "demo", "--of", ""), ["full-image", "mean", "views"]),
        (("eval", "--bundle", "pet"), ["pets"]),
        (("bundle", "show", "pet"), ["pets"]),
        (("bundle", "show", "pets@"), ["pets@1.0.0"]),
        (("bundle", "ls", "pet"), ["pets"]),
        (("bundle", "diff", "pets", "text"), ["textures"]),
        (("bundle", "merge", "x", "y", "--version", "m"), ["major", "minor"]),
        (("bundle", "export", "x", "y", "--format", "cl"), ["clip-d", "clip-benchmark"]),
        (("lint", "textu"), ["textures"]),
        (("eval", "--labels", "eurosa"), ["eurosat"]),
        (("gen-descriptions", "cat,dog", "--backend", "openai"), ["openai", "openai-batch"]),
        (("gen-descriptions", "cat,dog", "--prompts", "objects-s"), ["objects-small"]),
        (("eval", "--control", "sh"), ["shuffle"]),
        (("eval", "--templates", "imagenet"), ["imagenet-80"]),
        (("eval", "--attention", "din"), ["dino", "dino:"]),
        (("eval", "--device", "c"), ["cpu", "cuda"]),
        (("eval", "--dtype", "b"), ["bfloat16"]),
        (("results", "show", "la"), ["last"]),
    ],
)
def test_values_are_completed(tmp_path: Path, arguments: tuple[str, ...], expected: list[str]) -> None:
    assert values(tmp_path, *arguments) == expected


def test_all_methods_are_proposed_where_nothing_is_written_yet(tmp_path: Path) -> None:
    assert values(tmp_path, "classify", "--method", "") == list(METHODS)


def test_bundles_of_the_users_own_store_are_proposed(tmp_path: Path) -> None:
    store = Repository.local(tmp_path / "bundles")
    store.add(write_version(tmp_path / "own", name="petals").path)
    assert values(tmp_path, "eval", "--bundle", "pet") == ["petals", "pets"]


def test_versions_are_proposed_the_newest_first(tmp_path: Path) -> None:
    store = Repository.local(tmp_path / "bundles")
    for version in ("1.9.0", "1.10.0"):
        store.add(write_version(tmp_path / "own", version, "petals").path)
    assert values(tmp_path, "bundle", "log", "petals@1.") == ["petals@1.10.0", "petals@1.9.0"]


def test_the_shell_completes_a_path_where_no_name_fits(tmp_path: Path) -> None:
    assert [(item.value, item.type) for item in completed(tmp_path, "eval", "--bundle", "./own")] == [("./own", "file")]


def test_paths_are_proposed_behind_the_kind_of_a_data_set(tmp_path: Path) -> None:
    for name in ("photos", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.csv").touch()
    assert values(tmp_path, "eval", "--dataset", f"csv:{tmp_path}/") == [
        f"csv:{tmp_path}/photo.csv",
        f"csv:{tmp_path}/photos/",
    ]


def test_a_broken_store_proposes_nothing_and_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundles").write_text("not a folder")
    assert values(tmp_path, "eval", "--bundle", "pet") in (["pets"], ["pet"])
    assert capfd.readouterr() == ("", "")


def test_every_option_that_takes_a_name_of_something_completes_it() -> None:
    """An option that says `see abs methods` in its help knows what to propose."""
    without = []
    for path, command in commands(cli, "abs"):
        for param in command.params:
            help_text = getattr(param, "help", None) or ""
            if "; see `abs " in help_text and param._custom_shell_complete is None:
                without.append(f"{path} {param.opts[0]}")
    assert not without


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    ctx = click.Context(command)
    children = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
    return [entry for name, child in children if child for entry in commands(child, f"{path} {name}")]


def test_the_attention_backends_are_those_of_the_engine() -> None:
    names = {name.partition(":")[0] for name in attention._ATTENTION_NAMES}
    assert names == {name.rstrip(":") for name in completion_values.ATTENTION_NAMES}


def test_completion_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom click.shell_completion import ShellComplete\nfrom abs_cli.main import cli\n"
        "complete = ShellComplete(cli, {}, 'abs', '_ABS_COMPLETE')\n"
        f"home = ['--home', {str(tmp_path)!r}]\n"
        "for arguments in (['eval', '--methods'], ['eval', '--model'], ['eval', '--bundle'], ['eval', '--control'],\n"
        "                  ['eval', '--dataset'], ['gen-descriptions', 'x', '--backend'], ['results', 'show']):\n"
        "    assert complete.get_completions(home + arguments, ''), arguments\n"
        "print(*sorted({'torch', 'PIL', 'open_clip', 'transformers', 'openai'} & set(sys.modules)))\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == ""
