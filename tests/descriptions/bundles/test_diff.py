"""What differs between two bundles: by class and sentence, as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import THREE_PETS, generator, texts, write_texts

from abs_core.errors import BundleError
from abs_core.files import data_folder
from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import Bundle, Description, Provenance, Rejection, read_bundle
from abs_descriptions.bundles.diff import (
    BundleBlocks,
    ChangeCounts,
    change_value,
    count_changes,
    diff_bundles,
    diff_labels,
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
            "edited": [],
            "altered": [{"text": "C.", "fields": ["kind", "scores"]}],
            "kept": 1,
            "accepted": 0,
        }

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
        changes = list(diff_bundles(old.path, new.path))
        assert [(c.class_id, c.name, len(c.added), len(c.removed)) for c in changes] == [
            ("wolf", "wolf", 1, 0),
            ("dog", "hound", 0, 1),
            ("fish", "fish", 0, 1),
        ]

    def test_labels_alone_differ(self, tmp_path: Path) -> None:
        bundle = write_texts(tmp_path / "a.jsonl", texts("cat", "A."))
        assert not diff_labels(bundle.header, bundle.header).differs

    def test_torn_bundle_is_an_error(self, tmp_path: Path) -> None:
        old = write_texts(tmp_path / "old.jsonl", texts("cat", "A.", "B."))
        new = write_texts(tmp_path / "new.jsonl", texts("cat", "A.", "C."))
        new.path.write_bytes(new.path.read_bytes()[:-9])
        with pytest.raises(BundleError, match=r"new.jsonl, line 3: .*truncated"):
            list(diff_bundles(old.path, new.path))


JANE = generator("review", backend="review", model="Jane")
MODEL = generator("model", backend="local", model="m")


def answer(text: str, sample: int, **changes: Any) -> Description:
    """A sentence about a cat that the model wrote, perhaps changed since then."""
    return replace(Description(text, class_id="cat", provenance=Provenance("model", sample)), **changes)


def edited(text: str, sample: int, editor: str = "review") -> Description:
    return answer(text, sample, provenance=Provenance("model", sample, edited_by=editor))


def pair(
    tmp_path: Path, before: Sequence[Description], after: Sequence[Description], **changes: Any
) -> tuple[Bundle, Bundle]:
    old = write_texts(tmp_path / "old.jsonl", before, generators=[MODEL])
    return old, write_texts(tmp_path / "new.jsonl", after, **{"generators": [MODEL, JANE]} | changes)


def dog(*sentences: str) -> list[Description]:
    return [Description(text, class_id="dog", provenance=Provenance("model")) for text in sentences]


def fish(*sentences: str) -> list[Description]:
    return [Description(text, "phrase", class_id="fish", provenance=Provenance("model")) for text in sentences]


def edits(old: Bundle, new: Bundle) -> list[tuple[str, str]]:
    return [(was.text, now.text) for change in diff_bundles(old.path, new.path) for was, now in change.edited]


class TestEdits:
    def test_by_record_id(self, tmp_path: Path) -> None:
        before = [answer("It purrs.", 0, id="a"), answer("Ears like triangles.", 1, id="b")]
        after = [answer("Something else entirely.", 5, id="a"), answer("Another.", 6, id="c")]
        old, new = pair(tmp_path, before, after)
        assert edits(old, new) == [("It purrs.", "Something else entirely.")]
        [change] = diff_bundles(old.path, new.path)
        assert [record.text for record in (*change.removed, *change.added)] == ["Ears like triangles.", "Another."]
        assert change_value(change)["edited"] == [{"old": "It purrs.", "new": "Something else entirely."}]

    def test_by_where_an_edited_text_began(self, tmp_path: Path) -> None:
        before = [answer("It purrs.", 0), answer("It barks.", 1)]
        after = [edited("Something else entirely.", 1)]
        assert edits(*pair(tmp_path, before, after)) == [("It barks.", "Something else entirely.")]

    def test_of_several_texts_of_one_answer_by_the_rejected_completions(self, tmp_path: Path) -> None:
        before = [answer("It purrs.", 0), answer("It barks.", 0)]
        after = [edited("Something else entirely.", 0)]
        for reason, number in (("edited", 0), ("review", 1)):
            rejected = [
                Rejection("cat", before[number].text, "edited", before[number].provenance, None, "review"),
                Rejection("cat", before[1 - number].text, reason[::-1], before[1].provenance, None, "review"),
            ]
            old, new = pair(tmp_path, before, after, rejected=rejected)
            assert edits(old, new) == [(before[number].text, after[0].text)]

    def test_by_likeness_where_nothing_is_recorded(self, tmp_path: Path) -> None:
        before = [answer("A cat has wiskers and soft ears.", 0), answer("A cat sleeps all day.", 1)]
        after = [answer("A cat has whiskers and soft ears.", 7), answer("A cat hunts mice at night.", 8)]
        assert edits(*pair(tmp_path, before, after)) == [(before[0].text, after[0].text)]

    def test_a_generator_that_a_merge_renamed_is_the_same(self, tmp_path: Path) -> None:
        before, other = [answer("It purrs.", 0), answer("It runs.", 1)], MODEL.model_copy(update={"id": "model-2"})
        after = [
            answer("It purrs.", 0, provenance=Provenance("model-2", 0)),
            answer("Something else.", 1, provenance=Provenance("model-2", 1, edited_by="review")),
        ]
        old, new = pair(tmp_path, before, after, generators=[other, JANE])
        assert edits(old, new) == [("It runs.", "Something else.")]
        [change] = diff_bundles(old.path, new.path)
        assert (change.altered, change.kept) == ((), 1)

    @pytest.mark.parametrize("editor", [None, "review"])
    def test_not_among_more_texts_of_a_class_than_can_be_compared(self, tmp_path: Path, editor: str | None) -> None:
        before = [answer(f"{'a' * 400} {number}.", 0) for number in range(300)]
        source = Provenance("model", 0, edited_by=editor)
        after = [answer(f"{'a' * 400} {number}!", 0, provenance=source) for number in range(300)]
        [change] = diff_bundles(*(bundle.path for bundle in pair(tmp_path, before, after)))
        assert (len(change.added), len(change.removed), change.edited) == (300, 300, ())

    def test_many_edits_of_different_answers_are_all_found(self, tmp_path: Path) -> None:
        before = [answer(f"Text {number}.", number) for number in range(3000)]
        after = [edited(f"Another {number}!", number) for number in range(3000)]
        assert len(edits(*pair(tmp_path, before, after))) == 3000


class TestCounts:
    def test_are_those_of_the_whole_difference(self, tmp_path: Path) -> None:
        accepted = Provenance("model", 3, accepted_by="review")
        before = [answer("A.", 0), answer("B.", 1), answer("C.", 2), answer("D.", 3), answer("E.", 4), *dog("F.", "G.")]
        after = [answer("A.", 0), edited("Bee.", 1), answer("D.", 3, provenance=accepted), answer("E.", 4, id="e")]
        old, new = pair(tmp_path, before, [*after, *dog("G.", "H."), *fish("I.")])
        counts = count_changes(BundleBlocks(old.path), BundleBlocks(new.path))
        assert counts == sum((change.counts for change in diff_bundles(old.path, new.path)), ChangeCounts())
        assert counts.to_dict() == {
            "added": 2, "removed": 2, "edited": 1, "altered": 2, "accepted": 1, "otherwise": 1, "classes": 3,
        }  # fmt: skip

    def test_of_shipped_bundles_in_another_order_of_classes(self, tmp_path: Path) -> None:
        shipped = read_bundle(data_folder() / "bundles" / "pets-1.0.0.jsonl")
        records = [
            replace(record, text=f"{record.text}!") if number % 7 else record
            for number, record in enumerate(shipped.records())
            if number % 5
        ]
        backwards = LabelSet("pets", tuple(reversed(shipped.header.label_set.classes)))
        new = write_texts(
            tmp_path / "new.jsonl", records, label_set=backwards, generators=list(shipped.header.generators)
        )
        slow = sum((change.counts for change in diff_bundles(shipped.path, new.path)), ChangeCounts())
        assert count_changes(BundleBlocks(shipped.path), BundleBlocks(new.path)) == slow
        assert slow.edited > 100

    def test_the_digest_is_that_of_the_file(self, tmp_path: Path) -> None:
        bundle = write_texts(tmp_path / "a.jsonl", texts("cat", 'A "cat" \\ é.'))
        blocks = BundleBlocks(bundle.path)
        assert (blocks.digest, list(blocks.classes)) == (bundle.digest, ["cat"])
        copy = tmp_path / "b.jsonl"
        copy.write_bytes(bundle.path.read_bytes().replace(b'"kind"', b'"kinb"'))
        broken = BundleBlocks(copy)
        assert broken.digest != bundle.digest
        with pytest.raises(BundleError, match="a record of the class 'cat' is broken"):
            count_changes(blocks, broken)
