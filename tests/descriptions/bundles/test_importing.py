"""Files from elsewhere: what is matched is logged first, and an archive is added whole or not at all."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import pytest
from bundle_samples import filled, write_cat

from abs_core.errors import BundleError, LabelError, UsageError
from abs_core.labels import from_names
from abs_descriptions.bundles.importing import holds_bundles, import_bundles, import_descriptions
from abs_descriptions.bundles.repository import Repository


def test_descriptions_become_a_new_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "texts.tsv"
    file.write_text("cat\tA cat purrs.\nhouse dog\tA dog barks.\n", encoding="utf-8")
    store = Repository.local(tmp_path / "store")
    labels = from_names(["cat", "House Dog", "owl"])
    with caplog.at_level(logging.INFO, "abs_descriptions"):
        first = import_descriptions(store, file, name="own", label_set=labels, license="MIT", source="Ann")
    assert caplog.messages[1:] == ["  house dog -> house_dog (House Dog)",
                                   "1 matched by spelling (house dog: house_dog)",
                                   "1 classes get no description: owl"]  # fmt: skip
    assert store.read(first).header.generators[0].parameters["labels"] == {"house dog": ["house_dog"]}
    header = store.read(first).header
    assert (header.license, header.generators[0].model, header.complete) == ("MIT", "Ann", False)
    second = import_descriptions(store, file, name="own")
    assert (first.version, second.version, second.complete) == ("1.0.0", "1.1.0", True)


def test_what_cannot_be_matched_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "texts.tsv"
    file.write_text("bear\tA bear growls.\n", encoding="utf-8")
    store = Repository.local(tmp_path / "store")
    with pytest.raises(BundleError, match="no class is called 'bear'"):
        import_descriptions(store, file, name="own", label_set=from_names(["cat"]))
    with pytest.raises(UsageError, match=r"the ending of 'texts.xyz' does not say its format"):
        import_descriptions(store, tmp_path / "texts.xyz", name="own")
    (tmp_path / "names.csv").write_text("class,name,text\nn1,robin,It sings.\nn1,magpie,It steals.\n")
    with pytest.raises(LabelError, match="'n1' two names, 'robin' and 'magpie'"):
        import_descriptions(store, tmp_path / "names.csv", name="own")
    assert not (tmp_path / "store").exists()


def test_an_archive_is_added_whole_or_not_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path, "1.0.0")
    free = write_cat(tmp_path / "free.jsonl", name="cats")
    taken = write_cat(tmp_path / "taken.jsonl", "Another cat.")
    archive = tmp_path / "both.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(free.path, "free.jsonl")
        packed.write(taken.path, "taken.jsonl")
    assert holds_bundles(archive)
    assert not holds_bundles(tmp_path / "texts.csv")
    with pytest.raises(BundleError, match=r"has pets@1.0.0 with the digest"):
        import_bundles(store, archive)
    assert [manifest.name for manifest in store.list()] == ["pets"]
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(free.path, "free.jsonl")
        packed.writestr("README", "x")
    with caplog.at_level(logging.INFO, "abs_descriptions"):
        assert [str(manifest) for manifest in import_bundles(store, archive)] == [free.reference]
    assert caplog.messages == ["left out: README"]
    assert not [path for path in (tmp_path / "store").iterdir() if path.name.startswith(".")]


def test_labels_that_name_nothing_can_be_mapped_or_skipped_and_are_recorded(tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    file.write_text('{"moggy": ["A moggy purrs."], "bear": ["A bear growls."]}')
    (tmp_path / "map.json").write_text('{"moggy": "cat", "eel": "cat"}')
    store = Repository.local(tmp_path / "store")
    labels = from_names(["cat"])
    with pytest.raises(BundleError, match="no class is called 'bear'"):
        import_descriptions(store, file, name="own", label_set=labels, mapping=tmp_path / "map.json")
    manifest = import_descriptions(
        store, file, name="own", label_set=labels, mapping=tmp_path / "map.json", skip_unknown=True
    )
    parameters = store.read(manifest).header.generators[0].parameters
    assert (parameters["labels"], parameters["left_out"]) == ({"moggy": ["cat"]}, ["bear"])
    with pytest.raises(UsageError, match="--mapping and --skip-unknown need --labels"):
        import_descriptions(store, file, name="own", skip_unknown=True)
