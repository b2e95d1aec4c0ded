"""`abs bundle` as a user runs it: new versions out of old ones, yanked and removed ones, hostile texts and files."""

from __future__ import annotations

import csv
import json
import re
import tarfile
import zipfile
from pathlib import Path

import click
import pytest
from support import Abs

from abs_cli.commands.bundle import COMMANDS, command
from abs_core.files import data_folder
from abs_descriptions.bundles import iter_rejected, read_bundle
from abs_descriptions.bundles.repository import Repository

PINNED = re.compile(r"[a-z]+@\d+\.\d+\.\d+#sha256:[0-9a-f]{64}\n")
PETS = data_folder() / "bundles" / "pets-1.0.0.jsonl"
HOSTILE = ["=HYPERLINK(1)", "+1", "-1", "@x", '<script>alert("1")</script>', "\x1b[2J\x1b]0;x\x07", "a\u202eb\u200bc"]


def texts(abs_command: Abs, name: str, *lines: str) -> str:
    source = abs_command.home.parent / f"{name}.tsv"
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    made = abs_command("bundle", "import", source, "--name", name, "--format", "text")
    assert PINNED.fullmatch(made.out), made
    return made.out.strip()


def test_every_command_is_there_and_says_what_it_does() -> None:
    assert isinstance(command, click.Group)
    context = click.Context(command)
    for name in COMMANDS:
        one = command.get_command(context, name)
        assert one is not None
        assert one.name == name
        assert one.help


def test_merge(abs_command: Abs) -> None:
    one = texts(abs_command, "one", "cat\tA cat purrs.", "dog\tA dog barks.")
    two = texts(abs_command, "two", "cat\tA cat purrs.", "cat\tIt meows.", "dog\tIt runs.")
    made = abs_command("bundle", "merge", "one", "two", "--name", "both")
    assert PINNED.fullmatch(made.out), made
    shown = abs_command("bundle", "show", "both").out
    assert f"parent     {one}\n" in shown
    assert f"parent     {two}\n" in shown
    assert "A cat purrs.\n  It meows.\n\ndog (dog)\n  A dog barks.\n  It runs.\n" in shown
    again = abs_command("bundle", "merge", "one", "two")
    assert again.out.startswith("one@1.1.0#")
    assert "at least two different bundles" in abs_command.refuses("bundle", "merge", "one@1.0.0", one)
    texts(abs_command, "wolves", "wolf\tA wolf howls.")
    assert "different label sets" in abs_command.refuses("bundle", "merge", "one", "wolves")


def test_merge_settles_conflicts_as_told(abs_command: Abs, tmp_path: Path) -> None:
    for kind in ("sentence", "phrase"):
        (tmp_path / f"{kind}.csv").write_text(f"class,kind,text\ncat,{kind},a cat\n")
        assert abs_command("bundle", "import", tmp_path / f"{kind}.csv", "--name", kind).code == 0
    assert "'a cat' is a sentence and a phrase" in abs_command.refuses("bundle", "merge", "sentence", "phrase")
    made = abs_command("bundle", "merge", "sentence", "phrase", "--on-conflict", "first", "--name", "x")
    assert made.code == 0
    assert [record.kind for record in Repository.local(abs_command.home / "bundles").read("x").records()] == [
        "sentence"
    ]
    said = " ".join(abs_command("bundle", "merge", "--help").out.split())
    assert "With `--on-conflict first` the later record loses: its text, or its id" in said


def test_review_there_and_back(abs_command: Abs, tmp_path: Path) -> None:
    old = texts(abs_command, "pets", "cat\tA cat has wiskers.", "cat\tIt barks.", "dog\tIt runs.", "dog\tIt sits.")
    written = abs_command("bundle", "review", "pets", "--out", tmp_path / "sheets").out.split()
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
    assert [(one.text, one.detail) for one in iter_rejected(child.path, child.header)] == [
        ("A cat has wiskers.", None),
        ("It barks.", "dogs do"),
    ]
    changed = abs_command("bundle", "diff", "pets@1.0.0", "pets").out
    assert "  - It barks.\n  + A cat has whiskers.\n" in changed
    assert "  ~ It runs. [provenance]\n" in changed
    assert "the review file is of" in abs_command.refuses("bundle", "review", "pets", "--read", back, "--reviewer", "J")
    assert "--reviewer" in abs_command.refuses("bundle", "review", "pets", "--read", back)
    for name in ("--reviewer", "--name"):
        assert f"{name} is for --read" in abs_command.refuses("bundle", "review", "pets", "--out", tmp_path, name, "x")
    assert "2 descriptions were rejected" in abs_command("bundle", "merge", old, "pets@1.1.0", "--name", "both").err
    assert "either written or read" in abs_command.refuses("bundle", "review", "pets")


def test_reviewed_shipped_bundle_does_not_hide_the_shipped_one(abs_command: Abs, tmp_path: Path) -> None:
    sheet = Path(abs_command("bundle", "review", "pets", "--out", tmp_path).out.split()[0])
    rows = sheet.read_bytes().split(b"\r\n")
    rows[1] = rows[1].removesuffix(b",,,") + b",accept,,"
    sheet.write_bytes(b"\r\n".join(rows))
    made = abs_command("bundle", "review", "pets", "--read", sheet, "--reviewer", "Jane")
    assert made.out.startswith("pets@1.1.0#"), made
    shipped = read_bundle(PETS).reference
    listed = abs_command("bundle", "ls").out.split("\n")
    assert {shipped, made.out.strip()} <= set(listed)
    assert abs_command("bundle", "validate", "pets", "pets@1.0.0", shipped).out == f"{made.out}{shipped}\n{shipped}\n"
    assert "valid: pets@1.1.0" in abs_command.refuses("bundle", "show", "pets@0.9.0")


def test_a_pinned_shipped_bundle_is_found_behind_another_one_of_its_version(abs_command: Abs) -> None:
    own = texts(abs_command, "pets", "cat\tA cat.")
    shipped = read_bundle(PETS).reference
    assert own.startswith("pets@1.0.0#")
    assert abs_command("bundle", "validate", "pets@1.0.0", own, shipped).out == f"{own}\n{own}\n{shipped}\n"
    assert "not sha256:0" in abs_command.refuses("bundle", "validate", f"pets@1.0.0#sha256:{'0' * 64}")


def test_a_sheet_with_decisions_is_not_written_over(abs_command: Abs, tmp_path: Path) -> None:
    pinned = texts(abs_command, "own", "cat\tA cat purrs.")
    write = ("bundle", "review", "own", "--out", tmp_path)
    sheet = Path(abs_command(*write).out.split()[0])
    fresh = sheet.read_bytes()
    assert abs_command(*write).out.split()[0] == str(sheet), "a sheet without decisions is no loss"
    decided = fresh.removesuffix(b",,,\r\n") + b",accept,,\r\n"
    for content, fault in ((decided, "with 1 decisions"), (b"notes", f"no review file of {pinned}")):
        sheet.write_bytes(content)
        assert fault in abs_command.refuses(*write)
        assert sheet.read_bytes() == content


def test_show_gives_all_of_a_record_and_counts_classes(abs_command: Abs, tmp_path: Path) -> None:
    texts(abs_command, "own", "cat\tA cat purrs.", "dog\tA dog barks.")
    shown = abs_command("bundle", "show", "own", "--json")
    stored = Repository.local(abs_command.home / "bundles").read("own").path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in shown.out.splitlines()] == [json.loads(line) for line in stored.splitlines()]
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    source = tmp_path / "cats.tsv"
    source.write_text("cat\tA cat purrs.\n")
    options = ("--name", "part", "--format", "text", "--labels", tmp_path / "labels.txt")
    assert abs_command("bundle", "import", source, *options).code == 0
    out = abs_command("bundle", "show", "part").out
    assert "3 classes, 1 of them with descriptions" in out
    assert "PARTIAL: a class has no description" in out


def test_what_no_format_of_its_kind_can_hold_names_the_others(abs_command: Abs, tmp_path: Path) -> None:
    texts(abs_command, "own", "cat\tA cat purrs.")
    said = abs_command.refuses("bundle", "export", "own", tmp_path / "x.json", "--format", "waffle")
    assert "own@1.0.0 has no phrase to export as waffle. Choose another format: cupl, text, csv." in said


def test_a_class_that_a_review_empties_is_named(abs_command: Abs, tmp_path: Path) -> None:
    texts(abs_command, "own", "cat\tA cat.", "dog\tA dog.", "owl\tAn owl.")
    for label, version in (("cat", "1.0.0"), ("dog", "1.1.0")):
        sheet = Path(abs_command("bundle", "review", "own", "--out", tmp_path).out.split()[0])
        sheet.write_bytes(re.sub(rb"(,%b,[^\r]*,),," % label.encode(), rb"\1reject,,", sheet.read_bytes()))
        made = abs_command("bundle", "review", f"own@{version}", "--read", sheet, "--reviewer", "Ann")
        assert made.err.split("\n")[1].startswith(f"warning: the class {label} has no description left, so")


def test_a_sheet_of_another_version_is_not_to_be_corrected(abs_command: Abs, tmp_path: Path) -> None:
    texts(abs_command, "own", "cat\tA cat purrs.")
    sheet = abs_command("bundle", "review", "own", "--out", tmp_path).out.split()[0]
    texts(abs_command, "own", "cat\tA cat hunts.")
    said = abs_command.refuses("bundle", "review", "own", "--read", sheet, "--reviewer", "ann")
    assert said.endswith("Read it with the bundle and version that it is of.")


@pytest.mark.parametrize(
    "words", [("push", "pets", "{}"), ("yank", "pets@1.0.0", "--reason", "x"), ("rm", "pets@1.0.0", "--yes")]
)
def test_what_ships_with_the_toolkit_is_not_in_the_store(
    abs_command: Abs, tmp_path: Path, words: tuple[str, ...]
) -> None:
    said = abs_command.refuses("bundle", *(word.format(tmp_path) for word in words))
    assert "ships with the toolkit and is not in the local store" in said


def test_yank(abs_command: Abs) -> None:
    first = texts(abs_command, "own", "cat\tA cat.")
    second = texts(abs_command, "own", "cat\tA kat.")
    assert abs_command("bundle", "yank", "own@1.1.0", "--reason", "a typo\u202e").out == f"{second}\n"
    assert abs_command("bundle", "validate", "own").out == f"{first}\n"
    used = abs_command("bundle", "validate", second)
    assert (used.out, used.err) == (f"{second}\n", "warning: own@1.1.0 was yanked: a typo\\u202e\n")
    assert f"{second}  YANKED: a typo\\u202e\n" in abs_command("bundle", "ls").out
    listed = json.loads(abs_command("bundle", "ls", "--json").out)
    assert {"reference": second, "yanked": "a typo\u202e"} in listed
    assert {"reference": first, "yanked": None} in listed
    assert (
        "without a version is refused from now on" in abs_command("bundle", "yank", "own@1.0.0", "--reason", "old").err
    )
    assert "every version of 'own' is yanked" in abs_command.refuses("classify", "x.jpg", "--bundle", "own")
    assert abs_command("bundle", "yank", "own@1.1.0", "--undo").out == f"{second}\n"
    assert abs_command("bundle", "validate", "own").out == f"{second}\n"
    assert "names no version" in abs_command.refuses("bundle", "yank", "own", "--reason", "x")
    assert "Give --reason TEXT or --undo" in abs_command.refuses("bundle", "yank", "own@1.0.0")
    assert "the reason holds a line break" in abs_command.refuses("bundle", "yank", "own@1.0.0", "--reason", "a\nb")


def test_rm(abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = texts(abs_command, "one", "cat\tA cat.")
    texts(abs_command, "two", "cat\tIt purrs.")
    child = abs_command("bundle", "merge", "one", "two", "--name", "both").out.strip()
    assert "Give --yes" in abs_command.refuses("bundle", "rm", "both@1.0.0")
    assert "names no version" in abs_command.refuses("bundle", "rm", "both", "--yes")
    assert "one@1.0.0 is a parent of both@1.0.0" in abs_command.refuses("bundle", "rm", "one@1.0.0", "--yes")
    listed = abs_command("bundle", "ls").out
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
    for name in ("lost", "torn", "whole"):
        texts(abs_command, name, f"cat\tA {name} cat.")
    store.path("lost").unlink()
    store.path("torn").write_bytes(b"{")
    for name in ("whole", "lost", "torn"):
        ran = abs_command("bundle", "rm", f"{name}@1.0.0", "--yes", *force)
        assert (ran.code, ran.err.partition("#")[0]) == (0, f"removed {name}@1.0.0")
    assert store.list() == []


def test_ranges_are_refused(abs_command: Abs) -> None:
    for reference in ("pets@^1.0", "pets@1.x", "pets@latest", "pets@>=1.0.0", "pets@1"):
        assert "names a range" in abs_command.refuses("classify", "x.jpg", "--bundle", reference)
        assert "names a range" in abs_command.refuses("bundle", "show", reference)


def test_bundles_and_archives_come_in_as_they_are(abs_command: Abs, tmp_path: Path) -> None:
    reference = read_bundle(PETS).reference
    assert abs_command("bundle", "import", PETS).out == f"{reference}\n"
    with zipfile.ZipFile(tmp_path / "pets.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(PETS, "x/pets.jsonl")
        archive.writestr("README", "x")
    again = abs_command("bundle", "import", tmp_path / "pets.zip")
    assert (again.out, again.err) == (f"{reference}\n", "left out: README\n")
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as packed:
        packed.add(PETS.parent, "bundles")
    assert len(PINNED.findall(abs_command("bundle", "import", tmp_path / "all.tgz").out)) == 2
    said = abs_command.refuses("bundle", "import", tmp_path / "all.tgz", "--name", "x")
    assert "Leave out --name" in said
    assert "--name" in abs_command.refuses("bundle", "import", __file__, "--format", "text")


def test_broken_bundle_in_an_archive_names_archive_and_line(abs_command: Abs, tmp_path: Path) -> None:
    lines = PETS.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b'"text":"', b'"text":" ')
    with zipfile.ZipFile(tmp_path / "two.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pets.jsonl", b"\n".join(lines))
        archive.write(PETS.with_name("textures-1.0.0.jsonl"), "a.jsonl")
    said = abs_command.refuses("bundle", "import", tmp_path / "two.zip")
    assert f"{tmp_path}/two.zip/pets.jsonl, line 5: the text begins or ends with a space" in said
    assert Repository.local(abs_command.home / "bundles").list() == []


def test_an_archive_with_a_version_that_is_taken_adds_nothing(abs_command: Abs, tmp_path: Path) -> None:
    own = texts(abs_command, "own", "cat\tA cat purrs.")
    store = Repository.local(abs_command.home / "bundles")
    mine = store.path(own).read_bytes()
    other = re.sub(rb'"created":"[^"]+"', b'"created":"2020-01-01T00:00:00Z"', mine)
    for version, fault in (
        (b"1.0.0", "has own@1.0.0 with the digest"),
        (b"2.0.0", f"{tmp_path}/two.zip/own.jsonl: own@2.0.0 is in this archive twice"),
    ):
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            archive.write(PETS, "a.jsonl")
            archive.writestr("b.jsonl", mine.replace(b"1.0.0", version))
            archive.writestr("own.jsonl", other.replace(b"1.0.0", version))
        assert fault in abs_command.refuses("bundle", "import", tmp_path / "two.zip")
        assert [str(entry) for entry in store.list()] == [own]


def test_labels_are_shown_before_they_are_used(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\nHouse Dog\nwolf\n")
    source = tmp_path / "texts.json"
    source.write_text('{"cat": ["whiskers "], "house_dog": ["a nose"], "bear": ["claws"]}')
    options = ("--labels", tmp_path / "labels.txt", "--format", "waffle", "--name", "own")
    ran = abs_command("bundle", "import", source, *options)
    assert ran.code == 2
    assert "  cat -> cat\n" in ran.err
    assert "  house_dog -> house_dog (House Dog)\n  bear -> no class\nwarning: 1 classes get no desc" in ran.err
    assert "no class is called 'bear'" in ran.err
    assert not (abs_command.home / "bundles").exists()
    source.write_text('{"cat": ["whiskers "], "house_dog": ["a nose"]}')
    assert abs_command("bundle", "import", source, *options).code == 0
    assert "PARTIAL" in abs_command("bundle", "show", "own").out
    target = tmp_path / "out.json"
    assert abs_command("bundle", "export", "own", target, "--format", "waffle").code == 0
    assert json.loads(target.read_text()) == {"cat": ["whiskers"], "House Dog": ["a nose"]}
    target = tmp_path / "out.csv"
    abs_command("bundle", "export", "own", target, "--format", "csv")
    abs_command("bundle", "import", target, "--name", "again")
    assert "House Dog (house_dog)" in abs_command("bundle", "show", "again").out
    target.write_text("Class;Name;Text\nn01;robin;It sings.\nn01;magpie;It steals.\n")
    assert "'n01' two names, 'robin' and 'magpie'" in abs_command.refuses("bundle", "import", target, "--name", "again")


def test_hostile_texts_are_shown_harmlessly(abs_command: Abs, tmp_path: Path) -> None:
    source = tmp_path / "own.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class", "text"])
        writer.writerows(["=cat", text] for text in HOSTILE)
    assert abs_command("bundle", "import", source, "--name", "own").code == 0
    texts(abs_command, "plain", "=cat\tA cat.")
    for ran in (
        abs_command("bundle", "show", "own"),
        abs_command("bundle", "ls"),
        abs_command("bundle", "diff", "plain", "own"),
        abs_command("bundle", "merge", "plain", "own"),
    ):
        assert ran.code == 0
        assert all(line.isprintable() for line in (ran.out + ran.err).split("\n")), ran
    assert "\\x1b[2J\\x1b]0;x\\x07" in abs_command("bundle", "show", "own").out
    exported, sheets = tmp_path / "out.csv", tmp_path / "sheets"
    assert abs_command("bundle", "export", "own", exported, "--format", "csv").code == 0
    assert abs_command("bundle", "review", "own", "--out", sheets).code == 0
    for path in (exported, sheets / "own-1.0.0-review.csv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert "'=HYPERLINK(1)" in cells
    page = (sheets / "own-1.0.0-review.html").read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in page
    assert abs_command("bundle", "import", exported, "--name", "again").code == 0
    store = Repository.local(abs_command.home / "bundles")
    assert [record.text for record in store.read("again").records()] == HOSTILE


def test_broken_bundles_are_named_with_their_line(abs_command: Abs, tmp_path: Path) -> None:
    data = PETS.read_bytes()
    for number, (broken, words) in enumerate(
        [
            (data[:-5], "line 778: the file ends in the middle of this line"),
            (data.replace(b'"format_version":1', b'"format_version":9', 1), "line 1: format version 9 is not known"),
            (data + b"x" * 50_000_000, "line 779: longer than the 1 MiB"),
            (b"\xff" + data, "line 1: byte 0xff"),
        ]
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(broken)
        for ran in (("bundle", "validate", path), ("bundle", "import", path)):
            assert f"{path}, {words}" in abs_command.refuses(*ran)
    assert Repository.local(abs_command.home / "bundles").list() == []


def test_every_bundle_is_validated_whatever_the_others_are(abs_command: Abs, tmp_path: Path) -> None:
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(PETS.read_bytes()[:-5])
    ran = abs_command("bundle", "validate", torn, "pets", "nosuch", PETS)
    shipped = read_bundle(PETS).reference
    assert (ran.code, ran.out) == (2, f"{shipped}\n{shipped}\n")
    first, second = ran.err.splitlines()
    assert first.startswith(f"abs: error: {torn}, line 778: ")
    assert second.startswith("abs: error: unknown bundle 'nosuch'")


def test_a_limit_without_a_remote_place_is_refused(abs_command: Abs) -> None:
    assert "--limit is for --remote" in abs_command.refuses("bundle", "ls", "--limit", "3")


def test_equal_bundles_have_no_difference(abs_command: Abs) -> None:
    ran = abs_command("bundle", "diff", "pets", "pets@1.0.0")
    assert (ran.code, ran.out, ran.err) == (0, "", "no difference in classes or descriptions\n")


def test_label_sets_that_differ_are_a_json_line(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "texts.tsv").write_text("c\tIt lifts.\n")
    for name, note in (("a", ""), ("b", "the machine")):
        (tmp_path / f"{name}.csv").write_text(f"id,name,note\nc,crane,{note}\n")
        abs_command("bundle", "import", tmp_path / "texts.tsv", "--name", name, "--labels", tmp_path / f"{name}.csv")
    first = json.loads(abs_command("bundle", "diff", "a", "b", "--json").out.splitlines()[0])
    assert first["labels"]["noted"] == [{"class": "c", "old": None, "new": "the machine"}]
