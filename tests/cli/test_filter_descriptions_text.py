"""`abs filter-descriptions` by text alone: asked for, and where nothing but the core is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, Abs, Ran

from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.repository import Repository

TEXTS = {
    "volcano": [
        "A volcano is a steep, cone-shaped mountain with a wide crater at its summit.",
        "A volcano is a steep, cone-shaped mountain with a crater at its summit.",
        "Lava glows orange on the slope of a volcano.",
    ],
    "kayak": ["A kayak is a long, narrow boat.", "Paddles with two blades drive a kayak."],
}
# What is not there for a user of the core; an import of any of it fails as one of a package that is not installed does.
BLOCKED = ("numpy", "torch", "sentence_transformers", "transformers", "onnxruntime", "tokenizers", "huggingface_hub")
RUN = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
import importlib.util
find_spec = importlib.util.find_spec
def find(name, package=None):
    return None if name.partition(".")[0] in {BLOCKED!r} else find_spec(name, package)
importlib.util.find_spec = find
from abs_cli.main import main
main(sys.argv[1:])
"""


def with_the_core_alone(home: Path, *arguments: str) -> Ran:
    """Run `abs` in a process in which none of the optional packages can be found."""
    command = [sys.executable, "-c", RUN, "--home", str(home), "--cache", str(home / "cache"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def bundle(abs_command: Abs, tmp_path: Path) -> str:
    """A bundle in the store with a near-duplicate in it."""
    lines = [f"{name}\t{text}\n" for name, texts in TEXTS.items() for text in texts]
    (tmp_path / "texts.tsv").write_text("".join(lines), encoding="utf-8")
    ran = abs_command("bundle", "import", tmp_path / "texts.tsv", "--name", "things")
    assert ran.code == 0, ran.err
    return "things"


def stored(home: Path, reference: str) -> Bundle:
    return Repository.local(home / "bundles").read(reference)


def test_without_an_encoder_texts_are_compared_and_this_is_said(bundle: str, abs_command: Abs) -> None:
    home = abs_command.home
    ran = with_the_core_alone(home, "filter-descriptions", bundle)
    assert ran.code == 0, ran.err
    notes = [line for line in ran.err.splitlines() if "no sentence encoder is installed" in line]
    assert len(notes) == 1
    assert "pip install 'abs-toolkit[filter-light]'" in notes[0]
    assert "4 of 5 descriptions stay" in ran.out
    assert "jaccard 0.9" in ran.out
    child = stored(home, bundle)
    generator = child.header.generators[-1]
    assert (generator.backend, generator.model) == ("filter", "text")
    assert generator.parameters == {"near_duplicate": 0.8, "measure": "jaccard of character trigrams, 1"}
    (rejection,) = iter_rejected(child.path, child.header)
    assert rejection.text == TEXTS["volcano"][1]
    assert rejection.reason == "near duplicate"
    evidence = json.loads(rejection.detail or "{}")
    assert evidence["neighbour"] == TEXTS["volcano"][0]
    # the same command finds the child, with the option as without it
    again = abs_command("filter-descriptions", f"{bundle}@1.0.0", "--encoder", "text")
    assert f"{child.reference} exists already" in again.out
    assert again.err == ""
    assert "is unchanged" in abs_command("filter-descriptions", bundle, "--encoder", "text").out


@pytest.mark.parametrize("option", [["--keep", "2"], ["--off-topic", "3"], ["--nearer", "off"], ["--least", "2"]])
def test_what_needs_an_encoder_is_refused(option: list[str], bundle: str, abs_command: Abs) -> None:
    line = abs_command.refuses("filter-descriptions", bundle, "--encoder", "text", *option)
    assert f"{option[0]} needs a sentence encoder" in line


def test_what_is_missing_is_one_line_with_the_light_way_first(bundle: str, abs_command: Abs) -> None:
    for arguments in (["--keep", "1"], ["--encoder", "onnx:all-MiniLM-L6-v2"]):
        ran = with_the_core_alone(abs_command.home, "filter-descriptions", bundle, *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.err.splitlines()) == 1
        assert "abs-toolkit[filter-light]" in ran.err
    ran = with_the_core_alone(abs_command.home, "filter-descriptions", bundle, "--images", ".")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "abs: error: the package 'numpy' is needed to classify images and is not installed. "
        "Run: pip install 'abs-toolkit[classify]'."
    ]


def test_the_limit_of_texts_is_their_own(bundle: str, abs_command: Abs) -> None:
    for limit, count in (("0.95", 5), ("0.9", 4), ("off", 5)):
        ran = abs_command(
            "filter-descriptions", bundle, "--encoder", "text", "--near-duplicate", limit, "--dry-run", "--json"
        )
        value = json.loads(ran.out)
        assert value["kept"] == count
        assert value["filter"]["model"] == "text"
    line = abs_command.refuses("filter-descriptions", bundle, "--encoder", "text", "--near-duplicate", "1.5")
    assert "similarity" in line
    line = abs_command.refuses("filter-descriptions", bundle, "--encoder", "text", "--images", ".")
    assert "--encoder and --images exclude each other" in line


def test_copies_are_shown_with_what_they_copy(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "copies.tsv").write_text("cat\tA cat has whiskers.\ncat\ta CAT has whiskers!\n", encoding="utf-8")
    assert abs_command("bundle", "import", tmp_path / "copies.tsv", "--name", "copies").code == 0
    ran = abs_command("filter-descriptions", "copies", "--encoder", "text", "--near-duplicate", "off", "--dry-run")
    assert "1 of 2 descriptions stay" in ran.out
    assert "a CAT has whiskers! [neighbour A cat has whiskers.]" in ran.out


def test_doctor_says_which_encoder_there_is(abs_command: Abs) -> None:
    ran = with_the_core_alone(abs_command.home, "doctor")
    place = ran.out.index("--  sentence encoder")
    assert "by text alone" in ran.out[place:].splitlines()[0]
    assert "abs-toolkit[filter-light]" in ran.out[place:].splitlines()[1]
