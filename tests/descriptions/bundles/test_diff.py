"""What differs between two bundles: by class and sentence, as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import THREE_PETS, texts, write_texts

from abs_core.errors import BundleError
from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles.diff import (
    change_lines,
    change_value,
    diff_bundles,
    diff_labels,
    label_lines,
    label_value,
)


class TestDiff:
    def test_by_class_and_sentence(self, tmp_path: Path) -> None:
        old = write_texts(
            tmp_path / "old.jsonl", [*texts("cat", "A.", "B.", "C."), *texts("dog", "D."), *texts("fish", "F.")]
        )
        changed = replace(texts("cat", "C.")[0], scores={"clip": 0.5}, kind="phrase")
        new = write_texts(tmp_path / "new.jsonl", [*texts("cat", "B.", "E."), changed, *texts("dog", "D.")])
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
        bundle = write_texts(tmp_path / "a.jsonl", texts("cat", "A.", "B."))
        assert list(diff_bundles(bundle.path, bundle.path)) == []

    def test_does_not_depend_on_the_order_of_classes(self, tmp_path: Path) -> None:
        backwards = LabelSet("pets", tuple(reversed(THREE_PETS.classes)))
        records = [*texts("cat", "A."), *texts("dog", "B.", 'C "quoted" é.'), *texts("fish", "D.")]
        old = write_texts(tmp_path / "old.jsonl", records)
        new = write_texts(tmp_path / "new.jsonl", [*records, *texts("dog", "E.")], label_set=backwards)
        [change] = diff_bundles(old.path, new.path)
        assert (change.class_id, change.kept, [record.text for record in change.added]) == ("dog", 2, ["E."])
        [change] = diff_bundles(new.path, old.path)
        assert (change.class_id, change.kept, [record.text for record in change.removed]) == ("dog", 2, ["E."])

    def test_classes_that_came_and_went(self, tmp_path: Path) -> None:
        noted = ClassLabel("cat", "cat", note="the\u202epet")
        other = LabelSet("pets", (ClassLabel("wolf", "wolf"), ClassLabel("dog", "hound"), noted))
        old = write_texts(tmp_path / "old.jsonl", [*texts("cat", "A."), *texts("dog", "B."), *texts("fish", "C.")])
        new = write_texts(tmp_path / "new.jsonl", [*texts("wolf", "W."), *texts("cat", "A.")], label_set=other)
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
        old = write_texts(tmp_path / "old.jsonl", [])
        new = write_texts(tmp_path / "new.jsonl", texts("cat", "\x1b[2J\u202eevil", "<b>"))
        [change] = diff_bundles(old.path, new.path)
        assert list(change_lines(change)) == ["cat (cat), 0 kept", "  + \\x1b[2J\\u202eevil", "  + <b>"]
        assert json.loads(json.dumps(change_value(change)))["added"] == ["\x1b[2J\u202eevil", "<b>"]

    def test_torn_bundle_is_an_error(self, tmp_path: Path) -> None:
        old = write_texts(tmp_path / "old.jsonl", texts("cat", "A.", "B."))
        new = write_texts(tmp_path / "new.jsonl", texts("cat", "A.", "C."))
        new.path.write_bytes(new.path.read_bytes()[:-9])
        with pytest.raises(BundleError, match=r"new.jsonl, line 3: .*truncated"):
            list(diff_bundles(old.path, new.path))
