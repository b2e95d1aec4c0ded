"""An export that was changed by hand: the child keeps provenance, parent and rejected completions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import G, texts, write_texts

from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import UsageError
from abs_core.labels import from_names
from abs_descriptions.bundles import iter_rejected
from abs_descriptions.bundles.exporting import export_bundle
from abs_descriptions.bundles.importing import import_descriptions
from abs_descriptions.bundles.repository import Repository


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    records = [
        Description("A cat has whiskers.", class_id="cat", provenance=Provenance("g", 0, "looks"), scores={"s": 0.5}),
        Description("A cat barks.", class_id="cat", provenance=Provenance("g", 1, "looks", accepted_by="g")),
        Description("pointed ears", "phrase", class_id="cat", provenance=G),
        *texts("dog", "A dog has a wet nose.", "Sure, here it is."),
    ]
    rejected = [Rejection("cat", "Sure!", "chatty", G)]
    store.add(write_texts(tmp_path / "pets.jsonl", records, rejected=rejected, license="MIT").path)
    return store


def changed(store: Repository, folder: Path, *changes: tuple[str, str], format_name: str = "csv") -> Path:
    file = folder / f"changed.{'csv' if format_name == 'csv' else 'json'}"
    export_bundle(store.read("pets@1.0.0").path, file, format_name)
    content = file.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    file.write_text(content, encoding="utf-8")
    return file


def test_what_was_not_changed_keeps_where_it_comes_from(
    store: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "abs_descriptions")
    file = changed(
        store,
        tmp_path,
        ("A cat barks.", "A cat purrs."),
        ('dog,dog,sentence,"Sure, here it is."\n', "dog,,,It wags its tail.\n"),
    )
    child = store.read(import_descriptions(store, file, name="pets"))
    parent = store.read("pets@1.0.0")
    assert "a changed export of " + parent.reference + ": 3 kept, 1 edited, 1 new, 1 gone" in caplog.messages
    assert child.header.parents == (parent.reference,)
    assert (child.header.version, child.header.license) == ("1.1.0", "MIT")
    old, new = list(parent.records()), list(child.records())
    assert [new[0], new[2], new[3]] == [old[0], old[2], old[3]]
    assert new[1] == Description(
        "A cat purrs.", class_id="cat", provenance=Provenance("g", 1, "looks", edited_by="import-csv")
    )
    assert (new[4].text, new[4].provenance.generator) == ("It wags its tail.", "import-csv")
    assert [(entry.text, entry.reason, entry.rejected_by) for entry in iter_rejected(child.path, child.header)] == [
        ("Sure!", "chatty", None),
        ("A cat barks.", "edited", "import-csv"),
        ("Sure, here it is.", "removed", "import-csv"),
    ]
    again = changed(store, tmp_path, ("A cat barks.", "A cat sleeps."))
    assert store.read(import_descriptions(store, again, name="pets", parent="pets@1.0.0")).header.generators[1].id == (
        "import-csv"
    )


def test_nothing_changed_is_no_new_version(store: Repository, tmp_path: Path) -> None:
    assert import_descriptions(store, changed(store, tmp_path), name="pets").version == "1.0.0"
    assert [str(version) for version in store.versions("pets")] == ["1.0.0"]


def test_a_format_of_sentences_leaves_phrases_alone(
    store: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = changed(store, tmp_path, ("A cat barks.", "A cat purrs."), format_name="cupl")
    assert store.read(import_descriptions(store, file, name="pets")).header.parents == ()
    assert any(message.endswith("--parent pets@1.0.0 keeps their provenance") for message in caplog.messages)
    store.remove("pets@1.1.0")
    child = store.read(import_descriptions(store, file, name="pets", parent="pets"))
    assert [record.text for record in child.records() if record.class_id == "cat"] == [
        "A cat has whiskers.",
        "A cat purrs.",
        "pointed ears",
    ]


def test_another_file_under_the_name_is_no_child(store: Repository, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("class,text\ncat,A cat naps.\ncat,A cat hunts.\ncat,A cat hides.\n")
    assert store.read(import_descriptions(store, file, name="pets")).header.parents == ()
    with pytest.raises(UsageError, match="has another label set than --labels"):
        import_descriptions(store, file, name="x", parent="pets@1.0.0", label_set=from_names(["cat"]))
    child = store.read(import_descriptions(store, file, name="x", parent="pets@1.0.0"))
    assert child.header.counts.records == 3


def test_a_changed_kind_is_an_edit_and_takes_scores_away(store: Repository, tmp_path: Path) -> None:
    file = changed(store, tmp_path, ("sentence,A cat has whiskers.", "phrase,A cat has whiskers."))
    record = next(iter(store.read(import_descriptions(store, file, name="pets")).records()))
    expected = next(iter(store.read("pets@1.0.0").records()))
    source = replace(expected.provenance, edited_by="import-csv")
    assert record == replace(expected, kind="phrase", scores=None, provenance=source)
