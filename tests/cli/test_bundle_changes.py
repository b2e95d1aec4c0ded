"""`abs bundle diff, review, yank, rm`: new versions out of old ones, marked and removed ones."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from bundle_samples import PINNED, import_texts
from support import ROOT, Abs

from abs_core.files import data_folder
from abs_descriptions.bundles import iter_rejected, read_bundle
from abs_descriptions.bundles.repository import Repository

PETS = data_folder() / "bundles" / "pets-1.0.0.jsonl"


def test_review_there_and_back(abs_command: Abs, tmp_path: Path) -> None:
    old = import_texts(
        abs_command, "pets", "cat\tA cat has wiskers.", "cat\tIt barks.", "dog\tIt runs.", "dog\tIt sits."
    )
    written = abs_command("bundle", "review", "pets", "--out", tmp_path / "reviews").out.split()
    assert [Path(path).name for path in written] == ["pets-1.0.0-review.csv", "pets-1.0.0-review.html"]
    unedited = abs_command("bundle", "review", "pets", "--read", written[0], "--reviewer", "Jane")
    assert (unedited.out, "holds no decision" in unedited.err) == (f"{old}\n", True)
    with Path(written[0]).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0].update(decision="edit", new_text="A cat has whiskers.")
    rows[1].update(decision="reject", reason="dogs do")
    rows[2].update(decision="accept")
    back = tmp_path / "back.csv"
    with back.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    made = abs_command("bundle", "review", "pets", "--read", back, "--reviewer", "Jane Doe")
    assert PINNED.fullmatch(made.out), made
    assert made.out.startswith("pets@1.1.0#")
    assert made.err == "1 accepted, 1 edited, 1 rejected, 1 left as they were\n"
    store = Repository.local(abs_command.home / "bundles")
    child = store.read("pets")
    assert child.header.parents == (old,)
    assert child.header.generators[-1].model == "Jane Doe"
    assert [(rejection.text, rejection.detail) for rejection in iter_rejected(child.path, child.header)] == [
        ("A cat has wiskers.", None),
        ("It barks.", "dogs do"),
    ]
    changed = abs_command("bundle", "diff", "pets@1.0.0", "pets").out
    assert "  - It barks.\n  ~ A cat has [-wiskers-].               | A cat has {+whiskers+}.\n" in changed
    assert "  = It runs. [accepted]\n" in changed
    again = abs_command("bundle", "review", "pets", "--read", back, "--reviewer", "J")
    assert (again.out, "has these decisions already" in again.err) == (made.out, True)
    assert "got 1 and 0" in abs_command.refuses("bundle", "review", "pets", "--read", back)
    for name in ("--reviewer", "--name", "--onto"):
        assert f"{name} needs --read" in abs_command.refuses("bundle", "review", "pets", "--out", tmp_path, name, "x")
    merged = abs_command("bundle", "merge", old, "pets@1.1.0", "--name", "both")
    assert f"{made.out.strip()} was made of pets@1.0.0" in merged.err
    assert abs_command("bundle", "diff", "pets@1.1.0", "both").err == "no difference in classes or descriptions\n"
    assert "exactly one of --out and --read must be given" in abs_command.refuses("bundle", "review", "pets")


def test_reviewed_shipped_bundle_does_not_hide_the_shipped_one(abs_command: Abs, tmp_path: Path) -> None:
    review_file = Path(abs_command("bundle", "review", "pets", "--out", tmp_path).out.split()[0])
    rows = review_file.read_bytes().split(b"\r\n")
    rows[1] = rows[1].removesuffix(b",,,") + b",accept,,"
    review_file.write_bytes(b"\r\n".join(rows))
    made = abs_command("bundle", "review", "pets", "--read", review_file, "--reviewer", "Jane")
    assert made.out.startswith("pets@1.1.0#"), made
    shipped = read_bundle(PETS).reference
    listed = abs_command("bundle", "ls", "--references").out.split("\n")
    assert {shipped, made.out.strip()} <= set(listed)
    assert abs_command("bundle", "validate", "pets", "pets@1.0.0", shipped).out == f"{made.out}{shipped}\n{shipped}\n"
    assert "valid: pets@1.1.0" in abs_command.refuses("bundle", "show", "pets@0.9.0")


def test_a_review_file_with_decisions_is_not_written_over(abs_command: Abs, tmp_path: Path) -> None:
    pinned = import_texts(abs_command, "own", "cat\tA cat purrs.")
    write = ("bundle", "review", "own", "--out", tmp_path)
    review_file = Path(abs_command(*write).out.split()[0])
    fresh = review_file.read_bytes()
    assert abs_command(*write).out.split()[0] == str(review_file), "a review_file without decisions is no loss"
    decided = fresh.removesuffix(b",,,\r\n") + b",accept,,\r\n"
    for content, problem in ((decided, "with 1 decisions"), (b"notes", f"not a review file of {pinned}")):
        review_file.write_bytes(content)
        assert problem in abs_command.refuses(*write)
        assert review_file.read_bytes() == content


def test_a_class_that_a_review_empties_is_named(abs_command: Abs, tmp_path: Path) -> None:
    import_texts(abs_command, "own", "cat\tA cat.", "dog\tA dog.", "owl\tAn owl.")
    for label, version in (("cat", "1.0.0"), ("dog", "1.1.0")):
        review_file = Path(abs_command("bundle", "review", "own", "--out", tmp_path).out.split()[0])
        review_file.write_bytes(re.sub(rb"(,%b,[^\r]*,),," % label.encode(), rb"\1reject,,", review_file.read_bytes()))
        made = abs_command("bundle", "review", f"own@{version}", "--read", review_file, "--reviewer", "Ann")
        assert made.err.split("\n")[1].startswith(f"warning: the class {label} has no description left, so")


def test_a_review_file_of_another_version_is_not_to_be_corrected(abs_command: Abs, tmp_path: Path) -> None:
    import_texts(abs_command, "own", "cat\tA cat purrs.")
    review_file = abs_command("bundle", "review", "own", "--out", tmp_path).out.split()[0]
    import_texts(abs_command, "own", "cat\tA cat hunts.")
    message = abs_command.refuses("bundle", "review", "own", "--read", review_file, "--reviewer", "ann")
    assert message.endswith(
        "is of own@1.0.0, and own@1.1.0 was not made of it. "
        "Read it with own@1.0.0, and merge the result with own@1.1.0."
    )


def test_yank(abs_command: Abs) -> None:
    first = import_texts(abs_command, "own", "cat\tA cat.")
    second = import_texts(abs_command, "own", "cat\tA kat.")
    assert abs_command("bundle", "yank", "own@1.1.0", "--reason", "a typo\u202e").out == f"{second}\n"
    assert abs_command("bundle", "validate", "own").out == f"{first}\n"
    used = abs_command("bundle", "validate", second)
    assert (used.out, used.err) == (f"{second}\n", "warning: own@1.1.0 was yanked: a typo\\u202e\n")
    assert "own@1.1.0" in abs_command("bundle", "ls").out
    assert "  YANKED: a typo\\u202e\n" in abs_command("bundle", "ls").out
    listed = {one["reference"]: one for one in json.loads(abs_command("bundle", "ls", "--json").out)}
    assert (listed[second]["yanked"], listed[second]["latest"]) == ("a typo\u202e", False)
    assert (listed[first]["yanked"], listed[first]["latest"]) == (None, True)
    assert (
        "without a version is refused from now on" in abs_command("bundle", "yank", "own@1.0.0", "--reason", "old").err
    )
    assert "every version of 'own' is yanked" in abs_command.refuses("classify", ROOT / "README.md", "--bundle", "own")
    assert abs_command("bundle", "yank", "own@1.1.0", "--undo").out == f"{second}\n"
    assert abs_command("bundle", "validate", "own").out == f"{second}\n"
    assert "the reference must name a version" in abs_command.refuses("bundle", "yank", "own", "--reason", "x")
    assert "Give --reason TEXT or --undo" in abs_command.refuses("bundle", "yank", "own@1.0.0")
    assert "the reason contains a line break" in abs_command.refuses("bundle", "yank", "own@1.0.0", "--reason", "a\nb")


def test_rm(abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = import_texts(abs_command, "one", "cat\tA cat.")
    import_texts(abs_command, "two", "cat\tIt purrs.")
    child = abs_command("bundle", "merge", "one", "two", "--name", "both").out.strip()
    assert "Give --yes" in abs_command.refuses("bundle", "rm", "both@1.0.0")
    assert "the reference must name a version" in abs_command.refuses("bundle", "rm", "both", "--yes")
    assert "one@1.0.0 is a parent of both@1.0.0" in abs_command.refuses("bundle", "rm", "one@1.0.0", "--yes")
    listed = abs_command("bundle", "ls", "--references").out
    assert parent in listed
    assert child in listed
    assert abs_command("bundle", "rm", "one@1.0.0", "--yes", "--force").err == f"removed {parent}\n"
    assert "unknown bundle" in abs_command.refuses("bundle", "rm", "one@1.0.0", "--yes")
    assert "ships with the toolkit" in abs_command.refuses("bundle", "rm", "textures@1.0.0", "--yes")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert "nothing was removed" in abs_command("bundle", "rm", "both@1.0.0").err
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert f"removed {child}" in abs_command("bundle", "rm", "both@1.0.0").err
    assert abs_command("bundle", "ls").out.count("two@") == 1


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_rm_of_what_is_damaged_and_beside_it(abs_command: Abs, force: tuple[str, ...]) -> None:
    store = Repository.local(abs_command.home / "bundles")
    for name in ("lost", "truncated", "whole"):
        import_texts(abs_command, name, f"cat\tA {name} cat.")
    store.path("lost").unlink()
    store.path("truncated").write_bytes(b"{")
    for name in ("whole", "lost", "truncated"):
        ran = abs_command("bundle", "rm", f"{name}@1.0.0", "--yes", *force)
        assert (ran.code, ran.err.partition("#")[0]) == (0, f"removed {name}@1.0.0")
    assert store.list() == []


@pytest.mark.parametrize(
    "words", [("push", "pets", "{}"), ("yank", "pets@1.0.0", "--reason", "x"), ("rm", "pets@1.0.0", "--yes")]
)
def test_what_ships_with_the_toolkit_is_not_in_the_store(
    abs_command: Abs, tmp_path: Path, words: tuple[str, ...]
) -> None:
    message = abs_command.refuses("bundle", *(word.format(tmp_path) for word in words))
    assert "ships with the toolkit and is not in the local store" in message
