"""`abs bundle test`: exit codes, the summary, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support import ROOT, Abs

from abs_cli.commands.bundle_testing import command
from abs_core.labels import from_names
from abs_descriptions.bundles import Description, Generator, Provenance, write_bundle

Folder = Callable[..., Path]
HAND = Generator(id="hand", backend="hand", model="not stated", parameters={})


def bundle(path: Path, version: str, **sentences: str) -> Path:
    records = [
        Description(f"{text} {number}.", class_id=name, provenance=Provenance("hand", number))
        for name, text in sentences.items()
        for number in range(2)
    ]
    labels = from_names(list(sentences))
    fields = {"name": "things", "version": version, "label_set": labels, "generators": [HAND], "license": "CC0-1.0"}
    write_bundle(path, records=records, created="2025-01-31T12:00:00Z", **fields)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return bundle(tmp_path / "old.jsonl", "1.0.0", cat="A cat", car="A car")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return bundle(tmp_path / "new.jsonl", "1.1.0", cat="A cat", car="Nonsense without wheels")


@pytest.fixture
def options(small_clips: tuple[str, str]) -> list[str]:
    return ["--model", small_clips[0], "--attention", "self", "--device", "cpu", "--views", "2", "--threads", "1"]


@pytest.mark.slow
def test_the_exit_code_is_1_where_the_test_fails(
    abs_command: Abs, image_folder: Folder, old: Path, new: Path, options: list[str], tmp_path: Path
) -> None:
    data = f"imagefolder:{image_folder('data', cat=3, car=3)}"
    passed = abs_command("bundle", "test", old, new, "--dataset", data, *options)
    assert (passed.code, "passed: the gain is " in passed.out) == (0, True)
    assert "computed: " in passed.err
    summary = tmp_path / "summary.md"
    failed = abs_command(
        "bundle", "test", old, new, "--dataset", data, "--min-gain", "50", "--markdown", summary, *options
    )
    assert failed.code == 1
    assert failed.err.splitlines()[-1].startswith("failed: the gain is ")
    assert "everything came from the cache" in failed.err
    assert summary.read_text(encoding="utf-8").startswith("## Test of the descriptions\n\n❌ **Failed: ")
    unwritable = abs_command("bundle", "test", old, new, "--dataset", data, "--markdown", old / "x.md", *options)
    assert (unwritable.code, "passed: the gain is " in unwritable.out) == (2, True)
    printed = abs_command(
        "bundle", "test", old, new, "--dataset", data, "--max-loss", "100", "--markdown", "-", *options
    )
    assert (printed.code, printed.out.splitlines()[2][:11]) == (0, "✅ **Passed:")
    value = json.loads(
        abs_command("bundle", "test", old, new, "--dataset", data, "--single-changes", "0", "--json", *options).out
    )
    assert (value["passed"], value["gain"]["images"]) == (True, 6)
    assert [entry["alone"] for entry in value["classes"]] == [None, None]


def test_one_bundle_twice_is_no_failure(abs_command: Abs, old: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    ran = abs_command(
        "bundle", "test", old, old, "--dataset", "imagefolder:nowhere", "--min-gain", "1", "--markdown", summary
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "nothing to test: OLD and NEW have the same sentences"
    assert "Nothing to test" in summary.read_text(encoding="utf-8")


def test_wrong_input_has_exit_code_2(
    abs_command: Abs, image_folder: Folder, old: Path, new: Path, tmp_path: Path
) -> None:
    data = f"imagefolder:{image_folder('data', cat=1, gnu=1)}"
    other = bundle(tmp_path / "other.jsonl", "2.0.0", cat="A cat", gnu="A gnu")
    refused = abs_command.refuses("bundle", "test", old, other, "--dataset", data)
    assert "different label sets: 1 class only in OLD: 'car'; 1 class only in NEW: 'gnu'" in refused
    assert "'gnu'" in abs_command.refuses("bundle", "test", old, new, "--dataset", data)
    assert "--min-gain must be from -100 to 100" in abs_command.refuses(
        "bundle", "test", old, new, "--dataset", data, "--min-gain", "nan"
    )
    assert "--markdown" in abs_command.refuses(
        "bundle", "test", old, new, "--dataset", data, "--markdown", "-", "--json"
    )


def documented_commands() -> list[str]:
    """The commands `abs bundle test` of the page, and those of its recipes for CI."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|yaml)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    recipes = [yaml.safe_load(text) for kind, text in blocks if kind == "yaml"]
    github, gitlab = recipes
    steps = [step.get("run", "") for step in github["jobs"]["descriptions"]["steps"]]
    lines = [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    return [line for line in (*lines, *steps, *gitlab["descriptions"]["script"]) if line.startswith("abs bundle test")]


def test_the_commands_of_the_page_and_of_its_recipes_have_options_that_exist() -> None:
    commands = documented_commands()
    assert len(commands) == 4
    for line in commands:
        context = command.make_context("test", shlex.split(line)[3:])
        assert context.params["dataset"]
        assert context.params["max_loss"] in (None, 0.5, 2.0)
