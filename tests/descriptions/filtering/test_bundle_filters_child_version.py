"""A filtered bundle and the child version that is written of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import JsonValue

from abs_core.errors import UsageError
from abs_core.labels import from_names
from abs_descriptions import Repository, read_bundle
from abs_descriptions.bundles import Bundle, Description, Generator, Provenance, Rejection, iter_rejected, write_bundle
from abs_descriptions.filtering.bundle_filters import (
    FilteredBundle,
    FilterOutput,
    SentenceFilter,
    encoded_texts,
    filter_bundle,
    filter_by_weight,
    write_child,
)
from abs_descriptions.filtering.criteria import Criteria
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.generation.cleaning import RejectionReason

CRANES = [
    "A crane is a tall grey bird that wades in shallow water.",
    "The crane has a long neck, a red crown and a sharp bill.",
    "A crane stands on one thin leg in the marsh.",
    "A flock of cranes flies over the wetland with necks stretched out.",
    "Grey feathers cover the body of the crane.",
    "The crane picks frogs and fish out of the reeds.",
    "The crane has a long neck, a red crown and a sharp beak.",
]
CARS = [
    "A car has four wheels, doors and a windscreen.",
    "The car is parked in the street with its headlights on.",
    "A shiny red car shows its grille and number plate.",
    "The car has black tyres and a metal body.",
    "A car drives along the road past other traffic.",
    "The grey bird wades through shallow water in the marsh.",
]


def bundle_of(folder: Path, records: Sequence[Description], rejected: Sequence[Rejection] = ()) -> Bundle:
    return write_bundle(
        folder / "mixed-1.0.0.jsonl",
        name="mixed",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=from_names(["crane", "car"]),
        generators=[
            Generator(id="g", backend="hand", model="none", parameters={}),
            Generator(id="filter", backend="filter", model="another", parameters={}),
        ],
        license="CC0-1.0",
        records=records,
        rejected=rejected,
    )


def mixed(folder: Path) -> Bundle:
    records = [Description(text, class_id="crane", provenance=Provenance("g", at)) for at, text in enumerate(CRANES)]
    records += [
        Description(text, class_id="car", provenance=Provenance("g", at), scores={"old": 1})
        for at, text in enumerate(CARS)
    ]
    return bundle_of(folder, records, [Rejection("car", "Sure!", "chatty", Provenance("g", 9))])


def test_a_filtered_bundle_says_what_went_and_why(tmp_path: Path, encoder: SentenceEncoder) -> None:
    parent = mixed(tmp_path)
    filtered = SentenceFilter(Criteria(near_duplicate=0.9, off_topic=None), encoder)(parent)
    assert {(one.record.text, one.reason) for one in filtered.removed} == {
        (CRANES[1], RejectionReason.NEAR_DUPLICATE),
        (CARS[5], RejectionReason.OTHER_CLASS),
    }
    child = write_child(
        tmp_path / "child.jsonl", parent, filtered, name="mixed", version="1.1.0", created="2025-02-01T12:00:00Z"
    )
    header = child.header
    assert header.parents == (parent.reference,)
    assert (header.label_set, header.license, header.complete) == (parent.header.label_set, "CC0-1.0", True)
    assert [generator.id for generator in header.generators] == ["g", "filter", "filter-2"]
    used = header.generators[-1]
    assert (used.backend, used.model) == ("filter", "all-MiniLM-L6-v2")
    assert used.parameters["encoder_digest"] == encoder.digest
    assert used.parameters["near_duplicate"] == 0.9
    rejected = list(iter_rejected(child.path, header))
    assert [one.reason for one in rejected] == ["chatty", "near duplicate", "nearer to another class"]
    twin, misplaced = (json.loads(one.detail or "") for one in rejected[1:])
    assert twin["neighbour"] == CRANES[6]
    assert twin["cosine"] >= 0.9
    assert misplaced["rival"] == "crane"
    assert misplaced["rival-similarity"] - misplaced["class-similarity"] > 0.1
    records = list(child.records())
    assert len(records) + 2 == parent.header.counts.records
    for record in records:
        assert record.scores is not None
        assert ("old" in record.scores) == (record.class_id == "car")
        assert record.scores["class-similarity"] > record.scores["rival-similarity"]
    again = write_child(
        tmp_path / "again.jsonl", parent, filtered, name="mixed", version="1.1.0", created="2025-02-01T12:00:00Z"
    )
    assert again.digest == child.digest


def test_phrases_are_compared_with_their_class_name(tmp_path: Path, encoder: SentenceEncoder) -> None:
    phrases = {
        "crane": ["long legs", "grey feathers", "a red crown"],
        "car": ["four wheels", "black tyres", "a grille"],
    }
    records = [
        Description(text, "phrase", class_id=one, provenance=Provenance("g", at))
        for one, texts in phrases.items()
        for at, text in enumerate(texts)
    ]
    bundle = bundle_of(tmp_path, records)
    assert encoded_texts(bundle)[::3] == ["crane: long legs", "car: four wheels"]
    filtered = SentenceFilter(Criteria(), encoder)(bundle)
    assert filtered.removed == ()
    assert [record.text for record in filtered.kept] == [record.text for record in records]


def test_weights_become_mass_and_share(tmp_path: Path) -> None:
    parent = mixed(tmp_path)
    weights = [4.0, 3.0, 2.0, 0.5, 0.25, 0.15, 0.1] + [0.0] * 5 + [10.0]
    filtered = filter_by_weight(parent, weights, keep=None, share=0.9, model="tower", parameters={"images": 3})
    assert [record.text for record in filtered.kept] == [*CRANES[:3], CARS[5]]
    assert [(record.scores or {})["mass-share"] for record in filtered.kept] == [0.4, 0.3, 0.2, 1.0]
    assert [(record.scores or {})["mass"] for record in filtered.kept] == [0.2, 0.15, 0.1, 0.5]
    assert {one.reason for one in filtered.removed} == {RejectionReason.UNUSED}
    assert filtered.removed[0].evidence == {"mass": 0.025, "mass-share": 0.05}
    assert filtered.filter.parameters == {"keep": None, "min_mass": 0.9, "images": 3}


class Remembered:
    """An ``EmbeddingCache`` in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], NDArray[np.float32]] = {}
        self.computed = 0

    def embeddings(
        self,
        inputs: Mapping[str, JsonValue],
        texts: Sequence[str],
        compute: Callable[[Sequence[str]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        key = json.dumps(inputs, sort_keys=True)
        missing = [text for text in texts if (key, text) not in self.rows]
        self.computed += len(missing)
        if missing:
            self.rows |= dict(zip([(key, text) for text in missing], compute(missing), strict=True))
        return np.stack([self.rows[key, text] for text in texts])


def test_a_filter_writes_its_child_once_and_leaves_it_alone(tmp_path: Path, encoder: SentenceEncoder) -> None:
    parent, repository, cache = mixed(tmp_path), Repository.local(tmp_path / "bundles"), Remembered()
    judge = SentenceFilter(Criteria(near_duplicate=0.9, off_topic=None), encoder, cache)
    output = FilterOutput(repository)
    dry = filter_bundle(parent, judge, output, dry_run=True)
    assert dry.reference is None
    assert len(dry.filtered.removed) == 2
    assert repository.list() == []
    child = filter_bundle(parent, judge, output)
    assert child.is_new
    assert child.filtered == dry.filtered
    assert cache.computed == len({record.text for record in parent.records()})
    again = filter_bundle(parent, judge, output)
    assert (again.reference, again.is_new) == (child.reference, False)
    assert child.reference is not None
    settled = filter_bundle(repository.read(child.reference), judge, output)
    assert (settled.reference, settled.is_new, settled.filtered.removed) == (child.reference, False, ())


def test_a_child_goes_into_a_file_that_is_not_its_parent(tmp_path: Path) -> None:
    parent, repository = mixed(tmp_path), Repository.local(tmp_path / "bundles")

    def keep_two(bundle: Bundle) -> FilteredBundle:
        weights = [1.0] * bundle.header.counts.records
        return filter_by_weight(bundle, weights, keep=2, share=None, model="none", parameters={})

    result = filter_bundle(parent, keep_two, FilterOutput(repository, "few", tmp_path / "few.jsonl"))
    child = read_bundle(tmp_path / "few.jsonl")
    assert (result.reference, result.is_new) == (child.reference, True)
    assert (child.header.name, child.header.counts.records) == ("few", 4)
    assert repository.list() == []

    def refuse(_: Bundle) -> FilteredBundle:
        raise AssertionError("the output is checked before the work")

    with pytest.raises(UsageError, match="must not be the bundle"):
        filter_bundle(parent, refuse, FilterOutput(repository, None, parent.path))
