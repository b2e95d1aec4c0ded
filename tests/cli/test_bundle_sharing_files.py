"""`abs bundle import, export`: files of other tools, bundles and archives of them."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from pathlib import Path

from bundle_samples import PINNED, import_texts
from support import Abs

from abs_core.files import data_folder
from abs_descriptions.bundles import read_bundle
from abs_descriptions.bundles.repository import Repository

PETS = data_folder() / "bundles" / "pets-1.0.0.jsonl"


def test_what_no_format_of_its_kind_can_hold_names_the_others(abs_command: Abs, tmp_path: Path) -> None:
    import_texts(abs_command, "own", "cat\tA cat purrs.")
    message = abs_command.refuses("bundle", "export", "own", tmp_path / "x.json", "--format", "waffle")
    assert (
        "own@1.0.0 has no phrase to export as waffle. Choose another format: cupl, clip-benchmark, text, csv."
        in message
    )


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
    message = abs_command.refuses("bundle", "import", tmp_path / "all.tgz", "--name", "x")
    assert "Leave out --name" in message
    assert "--name" in abs_command.refuses("bundle", "import", __file__, "--format", "text")


def test_broken_bundle_in_an_archive_names_archive_and_line(abs_command: Abs, tmp_path: Path) -> None:
    lines = PETS.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b'"text":"', b'"text":" ')
    with zipfile.ZipFile(tmp_path / "two.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pets.jsonl", b"\n".join(lines))
        archive.write(PETS.with_name("textures-1.0.0.jsonl"), "a.jsonl")
    message = abs_command.refuses("bundle", "import", tmp_path / "two.zip")
    assert f"{tmp_path}/two.zip/pets.jsonl, line 5: the text begins or ends with a space" in message
    assert Repository.local(abs_command.home / "bundles").list() == []


def test_an_archive_with_a_version_that_is_taken_adds_nothing(abs_command: Abs, tmp_path: Path) -> None:
    own = import_texts(abs_command, "own", "cat\tA cat purrs.")
    store = Repository.local(abs_command.home / "bundles")
    data = store.path(own).read_bytes()
    other = re.sub(rb'"created":"[^"]+"', b'"created":"2020-01-01T00:00:00Z"', data)
    for version, problem in (
        (b"1.0.0", "has own@1.0.0 with the digest"),
        (b"2.0.0", f"{tmp_path}/two.zip/own.jsonl: own@2.0.0 appears twice in this archive"),
    ):
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            archive.write(PETS, "a.jsonl")
            archive.writestr("b.jsonl", data.replace(b"1.0.0", version))
            archive.writestr("own.jsonl", other.replace(b"1.0.0", version))
        assert problem in abs_command.refuses("bundle", "import", tmp_path / "two.zip")
        assert [str(entry) for entry in store.list()] == [own]


def test_labels_are_shown_before_they_are_used(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\nHouse Dog\nwolf\n")
    source = tmp_path / "texts.json"
    source.write_text('{"cat": ["whiskers "], "house_dog": ["a nose"], "bear": ["claws"]}')
    options = ("--labels", tmp_path / "labels.txt", "--format", "waffle", "--name", "own")
    ran = abs_command("bundle", "import", source, *options)
    assert ran.code == 2
    assert "cat -> cat" not in ran.err  # it is what it seems
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
