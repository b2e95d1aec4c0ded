"""`abs bundle` as a user runs it: what there is, what is in it, hostile texts and broken files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
from bundle_samples import import_texts
from support import ROOT, Abs

from abs_cli.commands.bundle import COMMANDS, command
from abs_core.files import data_folder
from abs_descriptions.bundles import read_bundle
from abs_descriptions.bundles.repository import Repository

PETS = data_folder() / "bundles" / "pets-1.0.0.jsonl"
HOSTILE = ["=HYPERLINK(1)", "+1", "-1", "@x", '<script>alert("1")</script>', "\x1b[2J\x1b]0;x\x07", "a\u202eb\u200bc"]


def test_every_command_is_there_and_says_what_it_does() -> None:
    assert isinstance(command, click.Group)
    context = click.Context(command)
    for name in COMMANDS:
        subcommand = command.get_command(context, name)
        assert subcommand is not None
        assert subcommand.name == name
        assert subcommand.help


def test_a_pinned_shipped_bundle_is_found_behind_another_one_of_its_version(abs_command: Abs) -> None:
    own = import_texts(abs_command, "pets", "cat\tA cat.")
    shipped = read_bundle(PETS).reference
    assert own.startswith("pets@1.0.0#")
    assert abs_command("bundle", "validate", "pets@1.0.0", own, shipped).out == f"{own}\n{own}\n{shipped}\n"
    assert "not sha256:0" in abs_command.refuses("bundle", "validate", f"pets@1.0.0#sha256:{'0' * 64}")


def test_show_gives_all_of_a_record_and_counts_classes(abs_command: Abs, tmp_path: Path) -> None:
    import_texts(abs_command, "own", "cat\tA cat purrs.", "dog\tA dog barks.")
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


def test_ranges_are_refused(abs_command: Abs) -> None:
    for reference in ("pets@^1.0", "pets@1.x", "pets@latest", "pets@>=1.0.0", "pets@1"):
        assert "names a range" in abs_command.refuses("classify", ROOT / "README.md", "--bundle", reference)
        assert "names a range" in abs_command.refuses("bundle", "show", reference)


def test_hostile_texts_are_shown_harmlessly(abs_command: Abs, tmp_path: Path) -> None:
    source = tmp_path / "own.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class", "text"])
        writer.writerows(["=cat", text] for text in HOSTILE)
    assert abs_command("bundle", "import", source, "--name", "own").code == 0
    import_texts(abs_command, "plain", "=cat\tA cat.")
    for ran in (
        abs_command("bundle", "show", "own"),
        abs_command("bundle", "ls"),
        abs_command("bundle", "diff", "plain", "own"),
        abs_command("bundle", "merge", "plain", "own"),
    ):
        assert ran.code == 0
        assert all(line.isprintable() for line in (ran.out + ran.err).split("\n")), ran
    assert "\\x1b[2J\\x1b]0;x\\x07" in abs_command("bundle", "show", "own").out
    exported, reviews = tmp_path / "out.csv", tmp_path / "reviews"
    assert abs_command("bundle", "export", "own", exported, "--format", "csv").code == 0
    assert abs_command("bundle", "review", "own", "--out", reviews).code == 0
    for path in (exported, reviews / "own-1.0.0-review.csv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert "'=HYPERLINK(1)" in cells
    page = (reviews / "own-1.0.0-review.html").read_text()
    assert page.count("<script>") == 1
    assert "\\u003cscript>alert(" in page
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
