"""`abs bundle merge` and `edit`, and reviews that add up: conflicts listed, decided by a rule or by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bundle_reviews import decide, table_of, write_table
from bundle_samples import PINNED, import_texts
from support import Abs

from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.conflicts import RULES
from abs_descriptions.bundles.repository import Repository

LINES = ("cat\tIt purrs.", "cat\tIt barks.", "cat\tIt sleeps.", "dog\tIt runs.")


def read(abs_command: Abs, reference: str) -> Bundle:
    return Repository.local(abs_command.home / "bundles").read(reference)


@pytest.fixture
def files(abs_command: Abs, tmp_path: Path) -> tuple[Path, Path]:
    """The review files of two reviewers of one version, who disagree on one sentence."""
    import_texts(abs_command, "pets", *LINES)
    bundle = read(abs_command, "pets")
    ann = {"It barks.": ("reject", "dogs do"), "It purrs.": ("accept",)}
    bob = {"It barks.": ("edit", "It meows."), "It sleeps.": ("edit", "It naps.")}
    return decide(bundle, tmp_path / "ann.csv", ann), decide(bundle, tmp_path / "bob.csv", bob)


def test_merge(abs_command: Abs) -> None:
    first = import_texts(abs_command, "one", "cat\tA cat purrs.", "dog\tA dog barks.")
    second = import_texts(abs_command, "two", "cat\tA cat purrs.", "cat\tIt meows.", "dog\tIt runs.")
    made = abs_command("bundle", "merge", "one", "two", "--name", "both")
    assert PINNED.fullmatch(made.out), made
    shown = abs_command("bundle", "show", "both").out
    assert f"parent     {first}\n" in shown
    assert f"parent     {second}\n" in shown
    assert "A cat purrs.\n  It meows.\n\ndog (dog)\n  A dog barks.\n  It runs.\n" in shown
    again = abs_command("bundle", "merge", "one", "two")
    assert again.out.startswith("one@1.1.0#")
    assert "at least two different bundles" in abs_command.refuses("bundle", "merge", "one@1.0.0", first)
    import_texts(abs_command, "wolves", "wolf\tA wolf howls.")
    refused = abs_command.refuses("bundle", "merge", "one", "wolves")
    assert "different label sets. Name the label set of the merged bundle (--labels)" in refused


def test_merge_settles_conflicts_as_told(abs_command: Abs, tmp_path: Path) -> None:
    for kind in ("sentence", "phrase"):
        (tmp_path / f"{kind}.csv").write_text(f"class,kind,text\ncat,{kind},a cat\n")
        assert abs_command("bundle", "import", tmp_path / f"{kind}.csv", "--name", kind).code == 0
    refused = abs_command("bundle", "merge", "sentence", "phrase")
    assert (refused.code, refused.out) == (1, "")
    assert "conflict: class 'cat', 'a cat': a sentence in sentence@1.0.0, a phrase in phrase@1.0.0\n" in refused.err
    made = abs_command("bundle", "merge", "sentence", "phrase", "--on-conflict", "first", "--name", "x")
    assert made.code == 0
    assert [record.kind for record in Repository.local(abs_command.home / "bundles").read("x").records()] == [
        "sentence"
    ]


def test_what_reviewers_decided_alike_is_said_once(abs_command: Abs, tmp_path: Path) -> None:
    import_texts(abs_command, "pets", *LINES)
    bundle = read(abs_command, "pets")
    reviews = [decide(bundle, tmp_path / f"{name}.csv", {"It purrs.": ("accept",)}) for name in ("ann", "bob")]
    made = abs_command(*both((reviews[0], reviews[1])))
    assert made.code == 0
    assert made.err.count("1 sentence was decided on in the same way") == 1


def both(files: tuple[Path, Path]) -> list[str | Path]:
    return [
        "bundle",
        "review",
        "pets",
        "--read",
        files[0],
        "--reviewer",
        "Ann",
        "--read",
        files[1],
        "--reviewer",
        "Bob",
    ]


def test_two_review_files_make_one_version_when_conflicts_are_decided_by_hand(
    abs_command: Abs, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    conflicts = tmp_path / "conflicts.csv"
    line = (
        "conflict: class 'cat', 'It barks.': rejected by Ann ('dogs do') in Ann's ann.csv, "
        "edited to 'It meows.' by Bob in Bob's bob.csv\n"
    )
    listed = abs_command(*both(files))
    assert (listed.code, listed.out, listed.err.startswith(line)) == (1, "", True), listed
    machine = abs_command(*both(files), "--json")
    (conflict,) = json.loads(machine.out)["conflicts"]
    assert (machine.code, conflict["class"], conflict["text"]) == (1, "cat", "It barks.")
    assert [side["by"] for side in conflict["sides"]] == ["Ann", "Bob"]
    written = abs_command(*both(files), "--conflicts", conflicts)
    assert (written.code, "and give the same command again" in written.err) == (1, True)
    again = abs_command(*both(files), "--conflicts", conflicts)
    assert (again.code, "Fill in the column decision" in again.err) == (1, True)
    (row,) = table_of(conflicts)
    assert row["second: Bob's bob.csv"] == "edited by Bob: It meows."
    write_table(conflicts, [row | {"decision": "second"}], list(row))
    made = abs_command(*both(files), "--conflicts", conflicts, "--decided-by", "Cleo", "--json")
    assert made.code == 0, made
    child = read(abs_command, "pets")
    assert json.loads(made.out) == {"reference": child.reference, "conflicts": []}
    assert [record.text for record in child.records()] == ["It purrs.", "It meows.", "It naps.", "It runs."]
    assert [generator.model for generator in child.header.generators][1:] == ["Ann", "Bob", "Cleo"]
    assert child.header.parents == (read(abs_command, "pets@1.0.0").reference,)
    assert "Ann: 1 accepted, 0 edited, 1 rejected, 2 left as they were\n" in made.err


@pytest.mark.parametrize(
    ("rule", "text"), [("first", None), ("last", "It meows."), ("keep", "It meows."), ("reject", None)]
)
def test_reviews_one_after_the_other_add_up_too(
    abs_command: Abs, files: tuple[Path, Path], rule: str, text: str | None
) -> None:
    assert abs_command(*both(files)[:7]).code == 0
    refused = abs_command("bundle", "review", "pets@1.0.0", "--read", files[1], "--reviewer", "Bob")
    assert "rejected by Ann ('dogs do') in pets@1.1.0, edited to 'It meows.' by Bob in Bob's bob.csv" in refused.err
    made = abs_command("bundle", "review", "pets@1.0.0", "--read", files[1], "--reviewer", "Bob", "--on-conflict", rule)
    assert made.out.startswith("pets@1.2.0#")
    child = read(abs_command, "pets")
    expected = ["It purrs.", *([text] if text else []), "It naps.", "It runs."]
    assert [record.text for record in child.records()] == expected
    assert next(child.records()).provenance.accepted_by == "review"
    assert child.header.parents == (read(abs_command, "pets@1.1.0").reference,)


def test_a_review_may_be_put_beside_another_and_then_has_to_be_merged(
    abs_command: Abs, files: tuple[Path, Path]
) -> None:
    import_texts(abs_command, "other", "cat\tIt purrs.")
    one = ("bundle", "review", "pets@1.0.0", "--read")
    assert abs_command(*one, files[0], "--reviewer", "Ann").code == 0
    forked = abs_command(*one, files[1], "--reviewer", "Bob", "--fork")
    assert "`abs bundle merge pets@1.1.0 pets@1.2.0` joins both" in forked.err
    message = abs_command.refuses(*one, files[1], "--reviewer", "Cleo")
    assert "pets@1.1.0, pets@1.2.0 were made of pets@1.0.0, none has all changes" in message
    assert "was not made of" in abs_command.refuses(*one, files[1], "--reviewer", "C", "--onto", "other")
    assert "exclude each other" in abs_command.refuses(*one, files[1], "--reviewer", "C", "--onto", "other", "--fork")
    onto = abs_command(*one, files[0], "--reviewer", "Cleo", "--onto", "pets@1.2.0", "--on-conflict", "last")
    assert onto.out.startswith("pets@1.3.0#"), onto
    assert "It meows." not in [record.text for record in read(abs_command, "pets").records()]


def test_the_version_of_a_review_file_that_is_not_here_is_named(abs_command: Abs, files: tuple[Path, Path]) -> None:
    assert abs_command("bundle", "review", "pets", "--read", files[0], "--reviewer", "Ann").code == 0
    parent = read(abs_command, "pets@1.0.0").reference
    abs_command("bundle", "rm", "pets@1.0.0", "--yes", "--force")
    message = abs_command.refuses("bundle", "review", "pets", "--read", files[1], "--reviewer", "Bob")
    assert f"the review file is of '{parent}', which is not in the store" in message
    assert "`abs bundle pull pets@1.1.0 LOCATION --with-parents`" in message


def test_rules_on_the_command_line_are_those_of_the_library(abs_command: Abs) -> None:
    shown = " ".join(abs_command("bundle", "merge", "--help").out.split())
    assert f"--on-conflict [{'|'.join(RULES)}]" in shown
    assert "--decided-by needs --conflicts" in abs_command.refuses("bundle", "merge", "a", "b", "--decided-by", "x")


EDIT = """
import sys
from pathlib import Path
path = Path(sys.argv[1])
text = path.read_text("utf-8-sig")
path.write_text(text.replace("It barks.", "It meows.") + ",dog,,,It sits.\\n", "utf-8")
"""


def editor(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    script = folder / "editor.py"
    script.write_text(program, encoding="utf-8")
    monkeypatch.setenv("VISUAL", f"'{sys.executable}' '{script}'")
    monkeypatch.setenv("TMPDIR", str(folder / "edits"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (folder / "edits").mkdir(exist_ok=True)


def left_over(folder: Path) -> list[Path]:
    return [path for path in (folder / "edits").rglob("*") if path.is_file()]


def test_edit_in_an_editor(abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = import_texts(abs_command, "pets", *LINES)
    editor(tmp_path, monkeypatch, EDIT)
    made = abs_command("bundle", "edit", "pets", "--reviewer", "Ann")
    assert PINNED.fullmatch(made.out), made
    child = read(abs_command, "pets")
    assert child.header.parents == (old,)
    by = [(record.text, record.provenance.edited_by) for record in child.records()]
    assert by[:2] == [("It purrs.", None), ("It meows.", "review")]
    assert by[2:] == [("It sleeps.", None), ("It runs.", None), ("It sits.", None)]
    assert [entry.rejected_by for entry in iter_rejected(child.path, child.header)] == ["review"]
    assert left_over(tmp_path) == []


def test_an_editor_that_fails_or_changes_nothing_leaves_nothing(
    abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = import_texts(abs_command, "pets", *LINES)
    editor(tmp_path, monkeypatch, "")
    unchanged = abs_command("bundle", "edit", "pets")
    assert (unchanged.code, unchanged.out) == (0, f"{old}\n")
    editor(tmp_path, monkeypatch, "raise SystemExit(3)")
    assert "Editing failed" in abs_command.refuses("bundle", "edit", "pets")
    monkeypatch.delenv("VISUAL")
    monkeypatch.delenv("EDITOR", raising=False)
    assert "Set VISUAL or EDITOR" in abs_command.refuses("bundle", "edit", "pets")
    assert left_over(tmp_path) == []
    assert abs_command("bundle", "ls").out.count("pets@1.1") == 0


def test_what_was_edited_and_cannot_be_read_is_kept(
    abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_texts(abs_command, "pets", *LINES)
    editor(tmp_path, monkeypatch, EDIT.replace(",dog,,,", ",horse,,,"))
    message = abs_command.refuses("bundle", "edit", "pets")
    assert ", line 6: the class 'horse' is no class of the bundle" in message
    (kept,) = left_over(tmp_path)
    assert f"what you wrote is kept in {str(kept)!r}: give it with --from" in message
    kept.write_text(kept.read_text("utf-8").replace(",horse,", ",dog,"), "utf-8")
    assert PINNED.fullmatch(abs_command("bundle", "edit", "pets", "--from", kept, "--reviewer", "Ann").out)


def test_the_default_reviewer_is_who_git_says(
    abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Ann of Git")
    import_texts(abs_command, "pets", *LINES)
    editor(tmp_path, monkeypatch, EDIT)
    assert abs_command("bundle", "edit", "pets").code == 0
    assert read(abs_command, "pets").header.generators[-1].model == "Ann of Git"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ann")
    assert abs_command("bundle", "edit", "pets@1.0.0", "--fork", "--name", "other").code == 0
    assert read(abs_command, "other").header.generators[-1].model == "ann"
