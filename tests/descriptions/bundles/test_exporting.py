"""Exports under the keys of another file, and as CLIP_benchmark's class-specific templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abs_core.errors import BundleError
from abs_core.labels import shipped_label_set
from abs_descriptions.bundles.exporting import export_bundle, keys_from_file
from abs_descriptions.bundles.importing import import_descriptions
from abs_descriptions.bundles.repository import Repository


def imported(folder: Path, content: object, labels: str, **options: object) -> Path:
    file = folder / "texts.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    store = Repository.local(folder / "store")
    manifest = import_descriptions(store, file, name="own", label_set=shipped_label_set(labels), **options)  # type: ignore[arg-type]
    return store.read(manifest).path


def test_a_published_file_comes_out_under_its_own_keys(tmp_path: Path) -> None:
    texts = {"arena": ["An arena has seats."], "church": ["A church has a tower."], "alley": ["An alley is narrow."]}
    path = imported(tmp_path, texts, "places365")
    keys, unknown = keys_from_file(tmp_path / "texts.json", path)
    assert unknown == []
    assert export_bundle(path, tmp_path / "out.json", "cupl", key=keys).written == 3
    assert json.loads((tmp_path / "out.json").read_text()) == {key: texts[key] for key in sorted(texts)}
    export_bundle(path, tmp_path / "names.json", "cupl")
    assert set(json.loads((tmp_path / "names.json").read_text())) >= {"arena hockey", "arena rodeo", "church outdoor"}


def test_an_imported_bundle_remembers_the_keys_of_its_file(tmp_path: Path) -> None:
    texts = {
        "arena": ["An arena has seats."],
        "alley": ["An alley is narrow."],
        "apartment_building-outdoor": ["Tall."],
    }
    path = imported(tmp_path, texts, "places365", format_name="cupl")
    assert export_bundle(path, tmp_path / "out.json", "cupl", key="source").written == 3
    assert json.loads((tmp_path / "out.json").read_text()) == {key: texts[key] for key in sorted(texts)}
    path = imported(tmp_path, {"n01440764": ["A tench swims."]}, "imagenet")
    export_bundle(path, tmp_path / "out.json", "cupl", key="source")
    assert list(json.loads((tmp_path / "out.json").read_text())) == ["n01440764"]


def test_classes_of_one_name_are_written_once_while_their_texts_are_the_same(tmp_path: Path) -> None:
    path = imported(tmp_path, {"missile": ["A missile flies."], "tench": ["A tench swims."]}, "imagenet")
    assert export_bundle(path, tmp_path / "out.json", "clip-benchmark").written == 2
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "imagenet1k": {"tench": ["A tench swims."], "missile": ["A missile flies."]}
    }
    export_bundle(path, tmp_path / "out.json", "clip-benchmark", dataset="imagenet-w")
    assert list(json.loads((tmp_path / "out.json").read_text())) == ["imagenet-w"]


def test_classes_without_a_key_are_counted_and_unknown_keys_named(tmp_path: Path) -> None:
    path = imported(tmp_path, {"eft": ["An eft is small."], "tench": ["A tench swims."]}, "imagenet")
    (tmp_path / "keys.json").write_text('{"eft": ["x"], "unicorn": ["y"]}')
    keys, unknown = keys_from_file(tmp_path / "keys.json", path)
    count = export_bundle(path, tmp_path / "out.json", "cupl", key=keys)
    assert (unknown, count.written, count.without_key) == (["unicorn"], 1, ("n01440764",))
    (tmp_path / "keys.txt").write_text("eft\ntench\n")
    assert sorted(keys_from_file(tmp_path / "keys.txt", path)[0].values()) == ["eft", "tench"]
    (tmp_path / "keys.json").write_text("7")
    with pytest.raises(BundleError, match="not a JSON object of lists"):
        keys_from_file(tmp_path / "keys.json", path)


def test_templates_come_back_as_they_went(tmp_path: Path) -> None:
    path = imported(tmp_path, {"cars": {"Audi R8 Coupe 2012": ["An Audi R8 is low."]}}, "stanford-cars")
    export_bundle(path, tmp_path / "out.json", "clip-benchmark")
    assert json.loads((tmp_path / "out.json").read_text()) == {"cars": {"Audi R8 Coupe 2012": ["An Audi R8 is low."]}}
