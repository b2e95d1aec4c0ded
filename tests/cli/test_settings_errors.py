"""An error names the line of the file, or the variable, that the wrong value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Abs

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
        ("[eval]\nattention = 'dinoo'", DATASET),
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
