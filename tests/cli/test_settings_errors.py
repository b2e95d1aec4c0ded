"""An error names the line of the file, or the variable, that the wrong value comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import Abs

from abs_cli.main import main

DATASET = ("eval", "--dataset", "demo", "--methods", "clip")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ABS_CONFIG", str(tmp_path / "own.toml"))
    return tmp_path / "own.toml"


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("setting", "command"),
    [
        ("[eval]\nlabels = 'missing.txt'", DATASET),
        ("[eval]\n\nlabels = '../missing.txt'", DATASET),
        ("[eval]\nbundle = 'birdz'", DATASET),
        ("[eval]\nmethods = 'clip,abss'", ("eval", "--dataset", "demo")),
        ("[eval]\ndataset = ['imagefolder:missing', 'demo']", ("eval", "--methods", "clip")),
        ("[eval]\nplugin = 'missing.py'", DATASET),
        ("[defaults]\ncache-size = '20 parsecs'", ("bundle", "ls")),
        ("[bundle.show]\nclass = 'nothing'", ("bundle", "show", "textures")),
        ("[results.show]\nbase = 'clop'", ("results", "show", "last")),
    ],
)
def test_the_line_is_named(setting: str, command: tuple[str, ...], own: Path, abs_command: Abs) -> None:
    write(own, setting)
    line = len(setting.splitlines())
    message = abs_command.refuses(*command)
    assert f"in {own}, line {line}" in message
    assert message.count(str(own)) == 1


def test_the_line_that_a_file_may_not_have_is_named_alone(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own, "")
    Path("abs.toml").write_text("[defaults]\nhome = '/tmp'\n")
    monkeypatch.setenv("ABS_HOME", str(own.parent / "home"))
    with pytest.raises(SystemExit):
        main(["bundle", "ls"])
    assert capsys.readouterr().err.startswith(f"abs: error: {own.parent / 'work' / 'abs.toml'}, line 2: ")


@pytest.mark.parametrize(
    ("setting", "command", "idle"),
    [
        ("[eval]\nviews = 4", DATASET, ("--views", "4")),
        ("[eval]\nviews = 'adaptive'\nagreement = 0.9", DATASET, ("--views", "adaptive")),
        ("[label]\nviews = 4", ("label", "photos", "--labels", "cat,dog", "--method", "clip"), ("--views", "4")),
        ("[defaults]\nworkers = 2", DATASET, ("--workers", "2")),
        (
            "[defaults]\nthreads = 2",
            ("gen-descriptions", "cat,dog", "--backend", "openai", "--model", "m"),
            ("--threads", "2"),
        ),
        (
            "[defaults]\nbase-url = 'http://127.0.0.1:9'",
            ("gen-descriptions", "cat,dog"),
            ("--base-url", "http://127.0.0.1:9"),
        ),
    ],
)
def test_a_setting_without_effect_is_left_out(
    setting: str, command: tuple[str, ...], idle: tuple[str, ...], own: Path, abs_command: Abs
) -> None:
    further = ("--name", "x", "--dry-run") if command[0] == "gen-descriptions" else ("--limit", "1")
    if command[0] == "label":
        Path("photos").mkdir()
        further = ("--out", "labelled")
    write(own, setting)
    ran = abs_command(*command, *further)
    assert "has no" not in ran.err
    assert ran.code == 0 or "no images" in ran.err
    write(own, "")
    assert "has no" in abs_command.refuses(*command, *further, *idle)


def test_the_variable_is_named(own: Path, abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own, "[eval]\nseed = 3\nviews = 3")
    monkeypatch.setenv("ABS_EVAL_LABELS", "missing\x1b[2J.txt")
    message = abs_command.refuses(*DATASET)
    assert message.startswith("abs: error: the variable ABS_EVAL_LABELS: ")
    assert str(own) not in message


def test_a_value_that_the_error_does_not_speak_of_is_not_named(own: Path, abs_command: Abs) -> None:
    write(own, "[defaults]\nthreads = 2\nhome = '/tmp'\n[eval]\nlabels = 'missing.txt'\nviews = 3\nseed = 17")
    message = abs_command.refuses("eval", "--dataset", "imagefolder:17", "--labels", "gone.txt", "--methods", "clip")
    assert str(own) not in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ABS_HOME", "s3://key:hunter22@team/x"),
        ("ABS_CACHE", "s3:/key:hunter22@team/x"),
        ("ABS_EVAL_LABELS", "https://ann:hunter22@example.org/labels.txt"),
        ("ABS_EVAL_LABELS", "https://example.org/labels.txt?token=hunter22"),
        ("ABS_EVAL_DATASET", "imagefolder:https://ann:hunter22@example.org/x"),
        ("ABS_EVAL_TEMPLATES", "sk-hunter22hunter22hunter22.txt"),
    ],
)
def test_a_secret_in_a_value_is_not_repeated(
    variable: str,
    value: str,
    own: Path,
    abs_command: Abs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ABS_CONFIG", os.devnull)
    monkeypatch.setenv(variable, value)
    options = {"ABS_HOME": ("eval", "--methods", "clip"), "ABS_EVAL_DATASET": ("eval", "--methods", "clip")}
    with pytest.raises(SystemExit) as done:
        main([*options.get(variable, DATASET), "--log-format", "json"])
    assert done.value.code == 2
    with pytest.raises(SystemExit):
        main(["config", "show", "eval"])
    with pytest.raises(SystemExit):
        main(["config", "show", "eval", "--json"])
    said = capsys.readouterr()
    assert "***" in said.err
    assert "hunter22" not in said.out + said.err
