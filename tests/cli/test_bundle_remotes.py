"""`abs bundle remote`, and the commands that take its names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from sharing import add
from support import Abs

from abs_cli.main import cli


def test_bundles_travel_by_name_and_by_default(
    abs_command: Abs, shared_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entry = add(abs_command.home)
    line = abs_command.refuses("bundle", "push", "pets")
    assert line.endswith("no default remote. Name a place, or keep one: abs bundle remote add NAME LOCATION --default.")
    assert abs_command("bundle", "remote", "add", "team", tmp_path / "shared").out == f"  team  {tmp_path / 'shared'}\n"
    assert abs_command("bundle", "push", "pets", "team").out == f"{entry}\n"
    assert "Name a place, or choose one of team: abs bundle remote default" in abs_command.refuses(
        "bundle", "ls", "--remote"
    )
    assert abs_command("bundle", "remote", "default", "team").out == f"* team  {tmp_path / 'shared'}\n"
    assert (
        abs_command("bundle", "ls", "--remote", "--json").out
        == abs_command("bundle", "ls", "--json", "--remote", "team").out
    )
    assert abs_command("bundle", "push", "pets").err.startswith("already in")

    theirs = Abs(tmp_path / "theirs", shared_cache, capsys)
    theirs("bundle", "remote", "add", "team", tmp_path / "shared", "--default")
    assert theirs("bundle", "pull", "pets").out == f"{entry}\n"
    assert (
        theirs("bundle", "remote", "ls", "--json").out
        == json.dumps([{"name": "team", "location": str(tmp_path / "shared"), "default": True, "signers": None}]) + "\n"
    )
    removed = theirs("bundle", "remote", "rm", "team")
    assert removed.err.splitlines()[-1] == "there is no default remote now"
    assert theirs("bundle", "remote", "ls").out == ""
    assert "unknown remote 'team'" in theirs.refuses("bundle", "pull", "pets", "team")


def test_names_complete(abs_command: Abs) -> None:
    abs_command("bundle", "remote", "add", "team", "s3://team/bundles")
    complete = ShellComplete(cli, {}, "abs", "_ABS_COMPLETE")
    for words in (["push", "pets"], ["pull", "pets"], ["ls", "--remote"], ["remote", "rm"], ["remote", "default"]):
        items = complete.get_completions(["--home", str(abs_command.home), "bundle", *words], "te")
        assert [item.value for item in items] == ["team"], words
    [folder] = complete.get_completions(["--home", str(abs_command.home), "bundle", "pull", "pets"], "./sh")
    assert folder.type == "file"
