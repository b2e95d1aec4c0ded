"""The completion scripts in the shells that are installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

# The function of the script is called as the shell would call it, and says what it hands to the shell.
_ASK = {
    "bash": """
source "$SCRIPT"
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    _abs_completion abs 2> /dev/null  # compopt complains outside of readline
    (IFS=" "; echo "${COMPREPLY[*]}")
done
""",
    "zsh": """
compdef() { : }
compadd() { shift $(( $# - 1 )); answers+=("${(@P)1}") }
_path_files() { answers+=("path $1") }
eval "$(< $SCRIPT)"
while IFS= read -r line; do
    words=("${(@z)line}"); CURRENT=$#words; answers=()
    _abs_completion
    echo "$answers"
done
""",
    "fish": """
source "$SCRIPT"
while read -l line
    echo (complete -C "$line" | string replace -r "\\t.*" "")
end
""",
}

#: line -> what each shell is given; bash keeps what stands before the last of its word breaks
_ANSWERS = {
    "abs cla": "classify",
    "abs eval --control sh": "shuffle",
    "abs eval --methods clip,clip-d-w": "clip,clip-d-wca",
    "abs eval --dataset imagef": "imagefolder:",
    "abs bundle show pets@": "pets@1.0.0",
    "abs eval --dataset imagefolder:photos/": "imagefolder:photos/cats/ imagefolder:photos/dogs/",
    "abs label --log-format js": "json",
    "abs eval --dtype=b": "--dtype=bfloat16",
}
_IN_BASH = {
    "abs bundle show pets@": "1.0.0",
    "abs eval --dataset imagefolder:photos/": "photos/cats/ photos/dogs/",
    "abs eval --dtype=b": "bfloat16",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    command = tmp_path / "bin" / "abs"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m abs_cli "$@"\n')
    command.chmod(0o755)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    script = str(tmp_path / "script")
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "ABS_HOME": str(tmp_path / "home"), "SCRIPT": script}


def run(arguments: list[str], environment: dict[str, str], lines: str = "") -> str:
    folder = Path(environment["SCRIPT"]).parent
    done = subprocess.run(
        arguments, input=lines, capture_output=True, text=True, check=True, env=environment, cwd=folder
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_names_at_any_place(environment: dict[str, str], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    Path(environment["SCRIPT"]).write_text(run(["abs", "completion", shell], environment))
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    lines = "".join(f"{line}\n" for line in _ANSWERS)
    answers = run([shell, *options, "-c", _ASK[shell]], environment, lines).splitlines()
    expected = _ANSWERS | (_IN_BASH if shell == "bash" else {})
    assert dict(zip(_ANSWERS, answers, strict=True)) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_keeps_its_word_breaks_and_answers_within_quotes(environment: dict[str, str]) -> None:
    Path(environment["SCRIPT"]).write_text(run(["abs", "completion", "bash"], environment))
    lines = "abs eval --methods 'clip,abs(te\nabs classify x.png --method \"abs(guided=\n"
    ask = f"{_ASK['bash']}\n[[ $COMP_WORDBREAKS == *[@]* ]] && echo kept"
    assert run(["bash", "--norc", "-c", ask], environment, lines).splitlines() == [
        "clip,abs(temperature=",
        "abs(guided=true) abs(guided=false)",
        "kept",
    ]
