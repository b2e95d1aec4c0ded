"""``abs config``: what is set, where, and what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import Abs

OWN = """\
[defaults]
threads = 2
[eval]
views = 3
[bundle.push]
with-parents = true
[label.merge]
prefer = "Ann\\u001b[2J"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    path.chmod(0o600)
    monkeypatch.setenv("ABS_CONFIG", str(path))
    return path


def test_the_path_is_printed_also_where_nothing_is_there(
    own: Path, abs_command: Abs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert abs_command("config", "path").out == f"{own}\n"
    own.unlink()
    assert abs_command("config", "path").out == f"{own}\n"
    values = json.loads(abs_command("config", "path", "--json").out)
    assert values == {"file": str(own), "home": str(abs_command.home), "cache": str(abs_command.cache)}
    monkeypatch.setenv("ABS_CONFIG", os.devnull)
    ran = abs_command("config", "path")
    assert (ran.out, ran.err) == ("", "ABS_CONFIG says that no file is read\n")


def test_what_is_set_is_shown_with_where_it_stands(
    own: Path, abs_command: Abs, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("abs.toml").write_text("[eval]\nseed = 4\nviews = 9\n")
    monkeypatch.setenv("ABS_CLASSIFY_TOP", "7")
    ran = abs_command("config", "show")
    lines = ran.out.splitlines()
    assert f"eval --views = 3  ({own}, line 4)" in lines
    assert f"eval --threads = 2  ({own}, line 2)" in lines
    assert f"eval --seed = 4  ({Path('abs.toml').absolute()}, line 2)" in lines
    assert "classify --top = 7  (ABS_CLASSIFY_TOP)" in lines
    assert f"bundle push --with-parents = true  ({own}, line 6)" in lines
    assert f"label merge --prefer = Ann\\x1b[2J  ({own}, line 8)" in lines
    assert not [line for line in lines if "default)" in line]
    assert ran.err.splitlines() == [f"your own: {own}", f"of the working folder: {Path('abs.toml').absolute()}"]
    rows = json.loads(abs_command("config", "show", "bundle", "push", "--json").out)["settings"]
    assert {"command": "bundle push", "option": "sign", "value": None, "source": "default"} in rows
    assert {"command": "bundle push", "option": "with-parents", "value": True, "source": f"{own}, line 6"} in rows
    assert "unknown command 'psh' (did you mean 'push'?)" in abs_command.refuses("config", "show", "bundle", "psh")


def test_nothing_is_shown_where_nothing_is_set(own: Path, abs_command: Abs) -> None:
    own.write_text("")
    ran = abs_command("config", "show")
    assert (ran.out, ran.err) == ("", f"your own: {own}\nnothing is set but defaults\n")


def test_every_problem_of_every_file_is_found(own: Path, abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs_command("config", "check").code == 0
    own.write_text("[evla]\n[eval]\nview = 3\nlimit = 'x'\n[defaults]\nthreads = 'x'\n[bundle.rm]\nyse = true\n")
    Path("abs.toml").write_text("[eval]\nplugin = 'x.py'\n")
    monkeypatch.setenv("ABS_EVAL_VIEW", "3")
    monkeypatch.setenv("ABS_TOKEN_example_org", "secret")
    ran = abs_command("config", "check")
    assert ran.code == 2
    expected = [
        f"{own}, line 1: unknown table 'evla'",
        f"{own}, line 6: [defaults] 'threads' must be a whole number",
        f"{own}, line 3: [eval]: unknown key 'view' (did you mean 'views'?)",
        f"{own}, line 4: [eval] 'limit' must be a whole number",
        f"{own}, line 8: [bundle.rm]: unknown key 'yse' (did you mean 'yes'?)",
        f"{Path('abs.toml').absolute()}, line 2: [eval] 'plugin' is not taken from a file of the working folder",
        "nothing reads the variable 'ABS_EVAL_VIEW' (did you mean 'ABS_EVAL_VIEWS'?)",
    ]
    *lines, last = ran.out.splitlines()
    assert last == "2 files checked: 7 problems"
    assert len(lines) == len(expected)
    assert all(any(line.startswith(start) for line in lines) for start in expected), lines
    assert "secret" not in ran.out


def test_a_named_file_is_checked_alone_and_a_broken_one_hides_no_other(own: Path, abs_command: Abs) -> None:
    other = own.with_name("other.toml")
    other.write_text("[eval]\nview = 3\n")
    other.chmod(0o600)
    ran = abs_command("config", "check", other)
    assert ran.code == 2
    assert ran.out.splitlines()[1:] == ["1 file checked: 1 problem"]
    assert "there is no file" in abs_command.refuses("config", "check", "none.toml")
    own.write_text("[eval\n")
    Path("abs.toml").write_text("[eval]\nview = 3\n")
    assert abs_command("config", "check").out.splitlines()[2:] == ["1 file checked: 2 problems"]
