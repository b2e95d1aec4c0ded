"""One bundle out of several: every conflict is settled by a stated rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import CREATED, THREE_PETS, G, generator, texts, write_texts

from abs_core.errors import BundleError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import (
    Bundle,
    Description,
    Provenance,
    Rejection,
    iter_rejected,
    load_descriptions,
    read_bundle,
)
from abs_descriptions.bundles.merge import Settling, merge_bundles

FIRST = Settling("first")


def merge(folder: Path, *sources: Bundle, **options: Any) -> Bundle:
    fields: dict[str, Any] = {"name": "merged", "version": "2.0.0", "created": CREATED}
    return merge_bundles(folder / "merged.jsonl", [source.path for source in sources], **fields | options)


class TestMerge:
    def test_joins_classes_and_sentences(self, tmp_path: Path) -> None:
        first = write_texts(tmp_path / "a.jsonl", [*texts("cat", "A.", "B."), *texts("fish", "F.")])
        second = write_texts(tmp_path / "b.jsonl", [*texts("cat", "B.", "C."), *texts("dog", "D.")])
        merged = merge(tmp_path, first, second)
        loaded = load_descriptions(merged.path)
        assert {key: [record.text for record in records] for key, records in loaded.items()} == {
            "cat": ["A.", "B.", "C."],
            "dog": ["D."],
            "fish": ["F."],
        }
        assert merged.header.parents == (first.reference, second.reference)
        assert (merged.header.name, merged.header.version, merged.header.license) == ("merged", "2.0.0", "CC0-1.0")
        assert read_bundle(merged.path).header == merged.header

    def test_earlier_record_wins_with_its_provenance(self, tmp_path: Path) -> None:
        earlier = Description("A.", class_id="cat", provenance=Provenance("g", 1), scores={"clip": 0.5})
        later = Description("A.", class_id="cat", provenance=Provenance("g", 9))
        merged = merge(
            tmp_path, write_texts(tmp_path / "a.jsonl", [earlier]), write_texts(tmp_path / "b.jsonl", [later])
        )
        assert list(merged.records()) == [earlier]

    def test_kind_conflict(self, tmp_path: Path) -> None:
        first = write_texts(tmp_path / "a.jsonl", texts("cat", "whiskers"))
        second = write_texts(tmp_path / "b.jsonl", [Description("whiskers", "phrase", class_id="cat", provenance=G)])
        with pytest.raises(
            BundleError, match=r"'cat', 'whiskers': a sentence in a@1.0.0, a phrase in b@1.0.0"
        ) as caught:
            merge(tmp_path, first, second)
        assert caught.value.remedy
        assert not (tmp_path / "merged.jsonl").exists()
        [kept] = merge(tmp_path, first, second, settling=FIRST).records()
        assert kept.kind == "sentence"

    def test_id_conflict(self, tmp_path: Path) -> None:
        first = write_texts(tmp_path / "a.jsonl", [Description("A.", class_id="cat", provenance=G, id="1")])
        second = write_texts(tmp_path / "b.jsonl", [Description("B.", class_id="cat", provenance=G, id="1")])
        with pytest.raises(BundleError, match=r"a sentence with the id '1' in a@1.0.0, a sentence with the id"):
            merge(tmp_path, first, second)
        assert [r.id for r in merge(tmp_path, first, second, settling=FIRST).records()] == ["1", None]

    def test_generators_are_joined_or_renamed(self, tmp_path: Path) -> None:
        other = generator(model="other")
        a = write_texts(tmp_path / "a.jsonl", texts("cat", "A."))
        b = write_texts(tmp_path / "b.jsonl", texts("cat", "B."), generators=[other])
        c = write_texts(tmp_path / "c.jsonl", texts("cat", "C."), generators=[other, generator("h")])
        d = write_texts(tmp_path / "d.jsonl", texts("cat", "D."), generators=[generator(model="third")])
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
        first = write_texts(tmp_path / "a.jsonl", [*texts("cat", "A."), *texts("fish", "F.")])
        second = write_texts(tmp_path / "b.jsonl", [*texts("owl", "O."), *texts("cat", "C.")], label_set=birds)
        with pytest.raises(BundleError, match="different label sets"):
            merge(tmp_path, first, second)
        with pytest.raises(BundleError, match=r"'owl'.* is missing in the label set 'pets'"):
            merge(tmp_path, first, second, label_set=THREE_PETS)
        everything = from_names(["owl", "fish", "dog", "cat"], name="all")
        merged = merge(tmp_path, first, second, label_set=everything)
        assert [(r.class_id, r.text) for r in merged.records()] == [
            ("owl", "O."),
            ("fish", "F."),
            ("cat", "A."),
            ("cat", "C."),
        ]

    def test_id_with_another_name_is_refused(self, tmp_path: Path) -> None:
        renamed = LabelSet("pets", (*THREE_PETS.classes[:2], ClassLabel("fish", "carp")))
        sources = [write_texts(tmp_path / "a.jsonl", []), write_texts(tmp_path / "b.jsonl", [], label_set=renamed)]
        with pytest.raises(BundleError, match=r"'carp' in b@1.0.0, is called 'fish'"):
            merge(tmp_path, *sources, label_set=THREE_PETS)

    def test_notes_must_agree_or_be_given(self, tmp_path: Path) -> None:
        noted = LabelSet("pets", (*THREE_PETS.classes[:2], ClassLabel("fish", "fish", note="the animal")))
        sources = [write_texts(tmp_path / "a.jsonl", []), write_texts(tmp_path / "b.jsonl", [], label_set=noted)]
        with pytest.raises(BundleError, match=r"class 'fish' is none in a@1.0.0 and 'the animal' in b@1.0.0") as caught:
            merge(tmp_path, *sources)
        assert "(--labels)" in caught.value.remedy
        assert merge(tmp_path, *sources, label_set=noted).header.label_set.classes[2].note == "the animal"

    def test_licenses_must_agree_or_be_stated(self, tmp_path: Path) -> None:
        sources = [write_texts(tmp_path / "a.jsonl", []), write_texts(tmp_path / "b.jsonl", [], license="MIT")]
        with pytest.raises(BundleError, match=r"different licenses: 'CC0-1.0', 'MIT'"):
            merge(tmp_path, *sources)
        assert merge(tmp_path, *sources, license="MIT AND CC0-1.0").header.license == "MIT AND CC0-1.0"

    def test_rejected_completions_are_kept(self, tmp_path: Path) -> None:
        rejection = Rejection("cat", "Sure!", "chatty", G)
        first = write_texts(tmp_path / "a.jsonl", [], rejected=[rejection])
        second = write_texts(tmp_path / "b.jsonl", [], rejected=[rejection], generators=[generator(model="other")])
        merged = merge(tmp_path, first, second)
        rejected = list(iter_rejected(merged.path, merged.header))
        assert rejected == [rejection, replace(rejection, provenance=Provenance("g-2"))]

    def test_what_a_reviewer_rejected_stays_away_although_another_bundle_has_it(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        refused = [Rejection("cat", text, "review", G, rejected_by="g") for text in ("A.", "Gone.")]
        ruled = Rejection("cat", "B.", "duplicate", G)
        first = write_texts(tmp_path / "a.jsonl", texts("cat", "B."), rejected=[*refused, ruled])
        second = write_texts(tmp_path / "b.jsonl", [*texts("cat", "A."), *texts("dog", "Gone.")])
        for sources in ((first, second), (second, first)):
            merged = merge(tmp_path, *sources)
            assert [(r.class_id, r.text) for r in merged.records()] == [("cat", "B."), ("dog", "Gone.")]
            assert caplog.messages == [
                "1 description left out: a reviewer rejected or edited them in one bundle, another one has them"
            ]
            caplog.clear()

    def test_accepted_here_and_rejected_there_is_a_conflict(self, tmp_path: Path) -> None:
        first = write_texts(tmp_path / "a.jsonl", [], rejected=[Rejection("cat", "A.", "review", G, rejected_by="g")])
        accepted = Description("A.", class_id="cat", provenance=Provenance("g", accepted_by="g"))
        second = write_texts(tmp_path / "b.jsonl", [accepted])
        with pytest.raises(BundleError, match=r"'A\.': removed in a@1.0.0, accepted in b@1.0.0"):
            merge(tmp_path, first, second)
        assert list(merge(tmp_path, first, second, settling=FIRST).records()) == []
        assert [r.text for r in merge(tmp_path, second, first, settling=FIRST).records()] == ["A."]

    def test_complete_only_if_all_are(self, tmp_path: Path) -> None:
        whole = [record for name in ("cat", "dog", "fish") for record in texts(name, "A.")]
        complete = write_texts(tmp_path / "a.jsonl", whole, complete=True)
        partial = write_texts(tmp_path / "b.jsonl", whole[:1])
        assert merge(tmp_path, complete).header.complete
        assert not merge(tmp_path, complete, partial).header.complete

    def test_nothing_and_broken_sources_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="no bundles to merge"):
            merge(tmp_path)
        bundle = write_texts(tmp_path / "a.jsonl", texts("cat", "A."))
        bundle.path.write_bytes(bundle.path.read_bytes()[:-1])
        with pytest.raises(BundleError, match="truncated"):
            merge(tmp_path, bundle)
