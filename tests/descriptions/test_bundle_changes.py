"""Diff and merge: by class and sentence, as a stream, every conflict by a stated rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abs_core.errors import BundleError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import (
    Bundle,
    Description,
    Generator,
    Provenance,
    Rejection,
    iter_rejected,
    load_descriptions,
    validate,
    write_bundle,
)
from abs_descriptions.bundles.diff import (
    change_lines,
    change_value,
    diff_bundles,
    diff_labels,
    label_lines,
    label_value,
)
from abs_descriptions.bundles.merge import count_readmitted, merge_bundles

CREATED = "2025-01-31T12:00:00Z"
PETS = from_names(["cat", "dog", "fish"], name="pets")
G = Provenance("g")


def generator(name: str = "g", **changes: Any) -> Generator:
    return Generator(**{"id": name, "backend": "hand", "model": "none", "parameters": {}} | changes)


def texts(class_id: str, *found: str) -> list[Description]:
    return [Description(text, class_id=class_id, provenance=G) for text in found]


def write(path: Path, records: Sequence[Description], **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": path.stem,
        "version": "1.0.0",
        "created": CREATED,
        "label_set": PETS,
        "generators": [generator()],
        "license": "CC0-1.0",
        "complete": False,
    }
    return write_bundle(path, records=records, **fields | changes)


class TestDiff:
    def test_by_class_and_sentence(self, tmp_path: Path) -> None:
        old = write(
            tmp_path / "old.jsonl", [*texts("cat", "A.", "B.", "C."), *texts("dog", "D."), *texts("fish", "F.")]
        )
        changed = replace(texts("cat", "C.")[0], scores={"clip": 0.5}, kind="phrase")
        new = write(tmp_path / "new.jsonl", [*texts("cat", "B.", "E."), changed, *texts("dog", "D.")])
        cat, fish = diff_bundles(old.path, new.path)
        assert (cat.class_id, cat.name, cat.kept) == ("cat", "cat", 1)
        assert [record.text for record in cat.added] == ["E."]
        assert [record.text for record in cat.removed] == ["A."]
        assert cat.altered == ((texts("cat", "C.")[0], changed),)
        assert (fish.class_id, fish.added, [record.text for record in fish.removed]) == ("fish", (), ["F."])
        assert change_value(cat) == {
            "class": "cat",
            "name": "cat",
            "added": ["E."],
            "removed": ["A."],
            "altered": [{"text": "C.", "fields": ["kind", "scores"]}],
            "kept": 1,
        }
        assert list(change_lines(cat)) == ["cat (cat), 1 kept", "  - A.", "  + E.", "  ~ C. [kind, scores]"]

    def test_of_a_bundle_with_itself_is_empty(self, tmp_path: Path) -> None:
        bundle = write(tmp_path / "a.jsonl", texts("cat", "A.", "B."))
        assert list(diff_bundles(bundle.path, bundle.path)) == []

    def test_does_not_depend_on_the_order_of_classes(self, tmp_path: Path) -> None:
        backwards = LabelSet("pets", tuple(reversed(PETS.classes)))
        records = [*texts("cat", "A."), *texts("dog", "B.", 'C "quoted" é.'), *texts("fish", "D.")]
        old = write(tmp_path / "old.jsonl", records)
        new = write(tmp_path / "new.jsonl", [*records, *texts("dog", "E.")], label_set=backwards)
        [change] = diff_bundles(old.path, new.path)
        assert (change.class_id, change.kept, [record.text for record in change.added]) == ("dog", 2, ["E."])
        [change] = diff_bundles(new.path, old.path)
        assert (change.class_id, change.kept, [record.text for record in change.removed]) == ("dog", 2, ["E."])

    def test_classes_that_came_and_went(self, tmp_path: Path) -> None:
        noted = ClassLabel("cat", "cat", note="the\u202epet")
        other = LabelSet("pets", (ClassLabel("wolf", "wolf"), ClassLabel("dog", "hound"), noted))
        old = write(tmp_path / "old.jsonl", [*texts("cat", "A."), *texts("dog", "B."), *texts("fish", "C.")])
        new = write(tmp_path / "new.jsonl", [*texts("wolf", "W."), *texts("cat", "A.")], label_set=other)
        labels = diff_labels(old.header, new.header)
        assert label_value(labels) == {
            "labels": {
                "added": ["wolf"],
                "removed": ["fish"],
                "renamed": [{"class": "dog", "old": "dog", "new": "hound"}],
                "noted": [{"class": "cat", "old": None, "new": "the\u202epet"}],
            }
        }
        assert list(label_lines(labels)) == [
            "new class: wolf",
            "class gone: fish",
            "renamed: dog from dog to hound",
            "note: cat from none to 'the\\u202epet'",
        ]
        assert not list(label_lines(diff_labels(new.header, new.header)))
        changes = list(diff_bundles(old.path, new.path))
        assert [(c.class_id, c.name, len(c.added), len(c.removed)) for c in changes] == [
            ("wolf", "wolf", 1, 0),
            ("dog", "hound", 0, 1),
            ("fish", "fish", 0, 1),
        ]

    def test_shows_hostile_text_harmlessly(self, tmp_path: Path) -> None:
        old = write(tmp_path / "old.jsonl", [])
        new = write(tmp_path / "new.jsonl", texts("cat", "\x1b[2J\u202eevil", "<b>"))
        [change] = diff_bundles(old.path, new.path)
        assert list(change_lines(change)) == ["cat (cat), 0 kept", "  + \\x1b[2J\\u202eevil", "  + <b>"]
        assert json.loads(json.dumps(change_value(change)))["added"] == ["\x1b[2J\u202eevil", "<b>"]

    def test_torn_bundle_is_an_error(self, tmp_path: Path) -> None:
        old = write(tmp_path / "old.jsonl", texts("cat", "A.", "B."))
        new = write(tmp_path / "new.jsonl", texts("cat", "A.", "C."))
        new.path.write_bytes(new.path.read_bytes()[:-9])
        with pytest.raises(BundleError, match=r"new.jsonl, line 3: .*torn"):
            list(diff_bundles(old.path, new.path))


def merge(folder: Path, *sources: Bundle, **options: Any) -> Bundle:
    fields: dict[str, Any] = {"name": "merged", "version": "2.0.0", "created": CREATED}
    return merge_bundles(folder / "merged.jsonl", [source.path for source in sources], **fields | options)


class TestMerge:
    def test_joins_classes_and_sentences(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.jsonl", [*texts("cat", "A.", "B."), *texts("fish", "F.")])
        second = write(tmp_path / "b.jsonl", [*texts("cat", "B.", "C."), *texts("dog", "D.")])
        merged = merge(tmp_path, first, second)
        loaded = load_descriptions(merged.path)
        assert {key: [r.text for r in found] for key, found in loaded.items()} == {
            "cat": ["A.", "B.", "C."],
            "dog": ["D."],
            "fish": ["F."],
        }
        assert merged.header.parents == (first.reference, second.reference)
        assert (merged.header.name, merged.header.version, merged.header.license) == ("merged", "2.0.0", "CC0-1.0")
        assert validate(merged.path) == merged.header

    def test_earlier_record_wins_with_its_provenance(self, tmp_path: Path) -> None:
        mine = Description("A.", class_id="cat", provenance=Provenance("g", 1), scores={"clip": 0.5})
        theirs = Description("A.", class_id="cat", provenance=Provenance("g", 9))
        merged = merge(tmp_path, write(tmp_path / "a.jsonl", [mine]), write(tmp_path / "b.jsonl", [theirs]))
        assert list(merged.records()) == [mine]

    def test_kind_conflict(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.jsonl", texts("cat", "whiskers"))
        second = write(tmp_path / "b.jsonl", [Description("whiskers", "phrase", class_id="cat", provenance=G)])
        with pytest.raises(BundleError, match="'cat' has a conflict: 'whiskers' is a sentence and a phrase") as caught:
            merge(tmp_path, first, second)
        assert caught.value.remedy
        assert not (tmp_path / "merged.jsonl").exists()
        [kept] = merge(tmp_path, first, second, on_conflict="first").records()
        assert kept.kind == "sentence"

    def test_id_conflict(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.jsonl", [Description("A.", class_id="cat", provenance=G, id="1")])
        second = write(tmp_path / "b.jsonl", [Description("B.", class_id="cat", provenance=G, id="1")])
        with pytest.raises(BundleError, match="two texts have the id '1'"):
            merge(tmp_path, first, second)
        assert [r.id for r in merge(tmp_path, first, second, on_conflict="first").records()] == ["1", None]

    def test_generators_are_joined_or_renamed(self, tmp_path: Path) -> None:
        other = generator(model="other")
        a = write(tmp_path / "a.jsonl", texts("cat", "A."))
        b = write(tmp_path / "b.jsonl", texts("cat", "B."), generators=[other])
        c = write(tmp_path / "c.jsonl", texts("cat", "C."), generators=[other, generator("h")])
        d = write(tmp_path / "d.jsonl", texts("cat", "D."), generators=[generator(model="third")])
        merged = merge(tmp_path, a, b, c, d)
        assert [(g.id, g.model) for g in merged.header.generators] == [
            ("g", "none"),
            ("g-2", "other"),
            ("h", "none"),
            ("g-3", "third"),
        ]
        assert [r.provenance.generator for r in merged.records()] == ["g", "g-2", "g-2", "g-3"]

    def test_other_label_sets_need_one_that_has_them_all(self, tmp_path: Path) -> None:
        birds = from_names(["owl", "cat"], name="birds")
        first = write(tmp_path / "a.jsonl", [*texts("cat", "A."), *texts("fish", "F.")])
        second = write(tmp_path / "b.jsonl", [*texts("owl", "O."), *texts("cat", "C.")], label_set=birds)
        with pytest.raises(BundleError, match="different label sets"):
            merge(tmp_path, first, second)
        with pytest.raises(BundleError, match=r"'owl'.* is missing in the label set 'pets'"):
            merge(tmp_path, first, second, label_set=PETS)
        everything = from_names(["owl", "fish", "dog", "cat"], name="all")
        merged = merge(tmp_path, first, second, label_set=everything)
        assert [(r.class_id, r.text) for r in merged.records()] == [
            ("owl", "O."),
            ("fish", "F."),
            ("cat", "A."),
            ("cat", "C."),
        ]

    def test_id_with_another_name_is_refused(self, tmp_path: Path) -> None:
        renamed = LabelSet("pets", (*PETS.classes[:2], ClassLabel("fish", "carp")))
        sources = [write(tmp_path / "a.jsonl", []), write(tmp_path / "b.jsonl", [], label_set=renamed)]
        with pytest.raises(BundleError, match=r"'carp' in b@1.0.0, is called 'fish'"):
            merge(tmp_path, *sources, label_set=PETS)

    def test_notes_must_agree_or_be_given(self, tmp_path: Path) -> None:
        noted = LabelSet("pets", (*PETS.classes[:2], ClassLabel("fish", "fish", note="the animal")))
        sources = [write(tmp_path / "a.jsonl", []), write(tmp_path / "b.jsonl", [], label_set=noted)]
        with pytest.raises(BundleError, match=r"class 'fish' is none in a@1.0.0 and 'the animal' in b@1.0.0") as caught:
            merge(tmp_path, *sources)
        assert "(--labels)" in caught.value.remedy
        assert merge(tmp_path, *sources, label_set=noted).header.label_set.classes[2].note == "the animal"

    def test_licenses_must_agree_or_be_stated(self, tmp_path: Path) -> None:
        sources = [write(tmp_path / "a.jsonl", []), write(tmp_path / "b.jsonl", [], license="MIT")]
        with pytest.raises(BundleError, match=r"different licenses: 'CC0-1.0', 'MIT'"):
            merge(tmp_path, *sources)
        assert merge(tmp_path, *sources, license="MIT AND CC0-1.0").header.license == "MIT AND CC0-1.0"

    def test_rejected_completions_are_kept(self, tmp_path: Path) -> None:
        rejection = Rejection("cat", "Sure!", "chatty", G)
        first = write(tmp_path / "a.jsonl", [], rejected=[rejection])
        second = write(tmp_path / "b.jsonl", [], rejected=[rejection], generators=[generator(model="other")])
        merged = merge(tmp_path, first, second)
        found = list(iter_rejected(merged.path, merged.header))
        assert found == [rejection, replace(rejection, provenance=Provenance("g-2"))]

    def test_what_a_reviewer_rejected_and_another_bundle_has_is_counted(self, tmp_path: Path) -> None:
        refused = [Rejection("cat", text, "review", G, rejected_by="g") for text in ("A.", "Gone.")]
        ruled = Rejection("cat", "B.", "duplicate", G)
        first = write(tmp_path / "a.jsonl", texts("cat", "B."), rejected=[*refused, ruled])
        merged = merge(tmp_path, first, write(tmp_path / "b.jsonl", [*texts("cat", "A."), *texts("dog", "Gone.")]))
        assert count_readmitted(merged) == 1
        assert count_readmitted(merge(tmp_path, write(tmp_path / "c.jsonl", texts("cat", "A.")))) == 0

    def test_complete_only_if_all_are(self, tmp_path: Path) -> None:
        whole = [record for name in ("cat", "dog", "fish") for record in texts(name, "A.")]
        complete = write(tmp_path / "a.jsonl", whole, complete=True)
        partial = write(tmp_path / "b.jsonl", whole[:1])
        assert merge(tmp_path, complete).header.complete
        assert not merge(tmp_path, complete, partial).header.complete

    def test_nothing_and_broken_sources_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="nothing to merge"):
            merge(tmp_path)
        bundle = write(tmp_path / "a.jsonl", texts("cat", "A."))
        bundle.path.write_bytes(bundle.path.read_bytes()[:-1])
        with pytest.raises(BundleError, match="torn"):
            merge(tmp_path, bundle)
