"""`abs bundle push`, `pull` and `ls --remote`: two homes on one machine, what is printed, and that no secret is."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sharing import PLACES, SECRETS, add, place_of
from support import ROOT, Abs, Ran

from abs_core.labels import from_names
from abs_descriptions.bundles import Description, Provenance

CLASSES = ["red", "green"]


def run(home: Path, environment: dict[str, str], *args: str) -> Ran:
    """`abs` in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", "from abs_cli.main import main; main()", "--home", str(home), *args],
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_two_homes_share_review_and_compare(
    abs_command: Abs,
    shared_cache: Path,
    capsys: pytest.CaptureFixture[str],
    folder: Callable[..., Path],
    small_clips: tuple[str, str],
    tmp_path: Path,
) -> None:
    ours, shared = abs_command, tmp_path / "shared"
    theirs = Abs(tmp_path / "theirs", shared_cache, capsys)
    texts = [("red", "A red one."), ("red", "A warm colour."), ("green", "A green one."), ("green", "Like gras.")]
    first = str(
        add(
            ours.home,
            name="colours",
            label_set=from_names(CLASSES),
            records=[Description(text, class_id=label, provenance=Provenance("g")) for label, text in texts],
            rejected=[],
        )
    )
    assert ours("bundle", "push", "colours", shared) == Ran(0, f"{first}\n", f"pushed to {shared}\n")

    assert theirs("bundle", "pull", "colours", shared).out == f"{first}\n"
    assert theirs("bundle", "review", "colours", "--out", tmp_path / "reviews").code == 0
    review_file = next((tmp_path / "reviews").glob("*.csv"))
    with review_file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    row = next(row for row in rows if "gras" in row["text"])
    row["decision"], row["new_text"] = "edit", "Like grass."
    with review_file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    reviewed = theirs("bundle", "review", first, "--read", review_file, "--reviewer", "Ada")
    second = reviewed.out.strip()
    assert second.startswith("colours@1.1.0#sha256:"), reviewed.err
    assert theirs("bundle", "push", "colours", shared).out == f"{second}\n"

    assert ours("bundle", "pull", "colours", shared).out == f"{second}\n"
    changes = ours("bundle", "diff", first, second).out
    assert "~ Like [-gras-]." in changes
    assert "| Like {+grass+}." in changes
    root = folder(red=["1.png"], green=["2.png"])
    quick = ("--method", "cupl", "--model", small_clips[0], "--attention", "none", "--json")
    for reference in (first, second):
        ran = ours("eval", "--dataset", f"imagefolder:{root}", "--bundle", reference, *quick)
        assert ran.code == 0, ran.err
        assert reference in ran.out

    listed = ours("bundle", "ls", "--remote", shared, "--json")
    assert [(one["reference"], one["latest"]) for one in json.loads(listed.out)] == [(first, False), (second, True)]


def test_a_yank_is_shown_wherever_the_version_goes(
    abs_command: Abs, shared_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    old, new = add(abs_command.home), add(abs_command.home, "A better cat.", "1.1.0")
    assert abs_command("bundle", "yank", "pets@1.0.0", "--reason", "dogs\x1b[31m in it").code == 0
    pushed = abs_command("bundle", "push", "pets@1.0.0", shared)
    assert "warning: pets@1.0.0 is yanked: dogs\\x1b[31m in it" in pushed.err
    abs_command("bundle", "push", "pets", shared)
    _, first, second = abs_command("bundle", "ls", "--remote", shared).out.splitlines()
    assert first.startswith("pets@1.0.0 ")
    assert first.endswith("  YANKED: dogs\\x1b[31m in it")
    assert second.endswith("  latest")
    assert abs_command("bundle", "ls", "--remote", shared, "--references").out == f"{old}\n{new}\n"
    theirs = Abs(tmp_path / "theirs", shared_cache, capsys)
    assert theirs("bundle", "pull", "pets", shared).out == f"{new}\n"
    pulled = theirs("bundle", "pull", "pets@1.0.0", shared)
    assert pulled.out == f"{old}\n"
    assert pulled.err.splitlines()[-1] == "warning: pets@1.0.0 is yanked: dogs\\x1b[31m in it"
    assert "YANKED: dogs\\x1b[31m in it" in theirs("bundle", "ls").out

    add(abs_command.home, "A third cat.", "1.2.0")
    for reference in ("pets@1.1.0", "pets@1.2.0"):
        abs_command("bundle", "push", reference, shared)
    theirs("bundle", "pull", "pets", shared)
    yanked = abs_command("bundle", "yank", "pets@1.2.0", "--reason", "a third")
    assert "'pets' alone means pets@1.1.0 now" in yanked.err
    assert "learn of the yank by: abs bundle push pets@1.2.0 LOCATION" in yanked.err
    assert "pets@1.2.0, which " in abs_command("bundle", "push", "pets", shared).err
    pulled = theirs("bundle", "pull", "pets", shared)
    assert pulled.out == f"{new}\n"
    assert "pets@1.2.0, which the local store has, is yanked there as well now: a third" in pulled.err


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.slow
def test_a_bundle_travels_between_machines_and_no_secret_does(kind: str, tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    other = add(tmp_path / "c", "Another cat.")
    with place_of(kind, tmp_path) as (location, environment):
        pushed = run(tmp_path / "a", environment, "bundle", "push", "pets", location)
        pulled = run(tmp_path / "b", environment, "--debug", "bundle", "pull", "pets", location)
        refused = run(tmp_path / "c", environment, "--debug", "bundle", "push", "pets", location)
        listed = run(tmp_path / "d", environment, "bundle", "ls", "--remote", location, "--references")
    assert (pushed.code, pushed.out) == (0, f"{entry}\n"), pushed.err
    assert (pulled.code, pulled.out) == (0, f"{entry}\n"), pulled.err
    assert listed.out == f"{entry}\n", listed.err
    assert refused.code != 0
    assert f"with the digest {entry.digest}, not {other.digest}" in refused.err
    if kind == "hf":
        assert "pulled from hf://datasets/org/pets@" in pulled.err
    printed = "".join(ran.out + ran.err for ran in (pushed, pulled, refused, listed))
    kept = [path.read_bytes() for home in "abc" for path in (tmp_path / home).rglob("*") if path.is_file()]
    for secret in SECRETS:
        assert secret not in printed
        assert not any(secret.encode() in data for data in kept)


@pytest.mark.parametrize(
    "location", ["s3://USER:SECRET@team/x", "https://h/x?X-Amz-Signature=SECRET", "s3::memory://SECRET@x"]
)
@pytest.mark.parametrize("command", [["push", "pets"], ["pull", "pets"], ["ls", "--remote"]])
def test_secrets_in_a_location_are_refused_and_not_shown(
    command: list[str], location: str, abs_command: Abs, caplog: pytest.LogCaptureFixture
) -> None:
    add(abs_command.home)
    line = abs_command.refuses("bundle", *command, location)
    assert "SECRET" not in line + caplog.text
    assert not any(b"SECRET" in path.read_bytes() for path in abs_command.home.rglob("*") if path.is_file())


@pytest.mark.slow
def test_what_an_unpinned_pull_without_encryption_risks_is_said(abs_command: Abs) -> None:
    ran = abs_command("bundle", "pull", "pets@1.0.0", "http://127.0.0.1:9/x")
    assert ran.code == 2
    warning, error = ran.err.splitlines()
    assert warning.startswith("http: is not encrypted")
    assert error == (
        "abs: error: cannot read http://127.0.0.1:9/x: it cannot be reached. Check the address and the connection."
    )


@pytest.mark.parametrize("words", [("ls", "--remote"), ("pull", "pets"), ("pull", "pets@1.0.0")])
def test_a_folder_that_is_not_there_is_no_empty_place(abs_command: Abs, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "nowhere': no such folder" in abs_command.refuses("bundle", *words, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert abs_command("bundle", "ls", "--remote", tmp_path / "empty").code == 0


@pytest.mark.slow
def test_a_folder_needs_no_package(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    code = (
        "import sys\n"
        "names = ('fsspec', 's3fs', 'gcsfs', 'huggingface_hub', 'aiohttp', 'cryptography')\n"
        "sys.modules.update(dict.fromkeys(names))\n"
        "from abs_cli.main import main\n"
        "main(sys.argv[1:])\n"
    )

    def bare(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT)

    shared = str(tmp_path / "shared")
    assert bare("--home", str(tmp_path / "a"), "bundle", "push", "pets", shared).stdout == f"{entry}\n"
    assert bare("--home", str(tmp_path / "b"), "bundle", "pull", "pets", shared).stdout == f"{entry}\n"
    for location, extra in (("s3://team/x", "sharing"), ("hf://datasets/a/b", "sharing"), ("gs://team/x", "gs")):
        ran = bare("--home", str(tmp_path / "b"), "bundle", "pull", "pets", location)
        assert ran.returncode == 2
        assert f"pip install 'abs-toolkit[{extra}]'" in ran.stderr
