"""Lint: each rule on what breaks it and on what does not, and its time on a large set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from abs_core.descriptions import DescriptionKind
from abs_core.errors import LabelError, UsageError
from abs_core.labels import ClassLabel, from_names, read_labels, shipped_label_sets
from abs_descriptions.bundles import Description, Provenance, read_bundle
from abs_descriptions.linting import (
    RULES,
    LintFinding,
    LintOptions,
    ambiguous_names,
    lint_bundle,
    lint_descriptions,
    lint_labels,
    report_refused_labels,
)

ROOT = Path(__file__).parents[2]
AMBIGUOUS = ambiguous_names()


def classes(*names: str) -> list[ClassLabel]:
    return [ClassLabel(str(at), name) for at, name in enumerate(names)]


def described(
    texts: Mapping[str, Sequence[str]], options: LintOptions | None = None, kind: DescriptionKind = "sentence"
) -> list[LintFinding]:
    """Findings for classes by name; counts are left aside unless options ask for them."""
    own = classes(*texts)
    records = {
        one.id: [Description(text, kind, class_id=one.id, provenance=Provenance("g")) for text in texts[one.name]]
        for one in own
    }
    return lint_descriptions(own, records, AMBIGUOUS, options or LintOptions(1, 1000))


def rules(findings: Sequence[LintFinding]) -> list[str]:
    return [finding.rule for finding in findings]


def test_the_table_of_ambiguous_names() -> None:
    assert len(AMBIGUOUS) >= 150
    for word, senses in AMBIGUOUS.items():
        assert word == word.casefold().strip()
        assert len([sense for sense in senses.split(";") if sense.strip()]) >= 2, word
    assert {"crane", "mouse", "kite", "bat", "jaguar", "seal", "nail"} <= AMBIGUOUS.keys()


def test_ambiguous_names_are_found_unless_something_says_which() -> None:
    names = classes("crane", "Mouse", "kites", "crane (bird)", "crane, a bird", "crane bird", "horse")
    names += [ClassLabel("n", "bat", note="the animal"), ClassLabel("g", "seal", group="animals")]
    found = lint_descriptions(names, None, AMBIGUOUS)
    assert [(one.rule, one.class_id) for one in found if one.rule == "ambiguous-name"] == [
        ("ambiguous-name", "0"), ("ambiguous-name", "1"), ("ambiguous-name", "2")
    ]  # fmt: skip
    assert "construction machine" in found[-3].message
    assert {one.severity for one in found} == {"warning"}


def test_names_that_are_the_same() -> None:
    found = lint_descriptions(
        classes("T-shirt", "t shirt", "Brick wall", "brick_wall", "cats", "cat", "glass", "bus"), None, {}
    )
    assert [(one.rule, one.class_id, one.other) for one in found] == [
        ("duplicate-name", "3", "2"),
        ("similar-name", "1", "0"),
        ("similar-name", "5", "4"),
    ]
    noted = [ClassLabel("a", "missile", note="weapon"), ClassLabel("b", "missile", note="projectile")]
    assert rules(lint_descriptions(noted, None, {})) == ["similar-name"]
    assert rules(lint_descriptions([noted[0], ClassLabel("b", "missile")], None, {})) == ["duplicate-name"]


def test_counts() -> None:
    texts = {"horse": ["A horse runs."] * 1, "donkey": [f"A donkey eats thistle number {at}." for at in range(9)]}
    found = described(texts, LintOptions())
    assert rules(found) == ["too-few", "unequal-counts"]
    assert "1 of at least 5" in found[0].message
    assert (found[1].class_id, found[1].other) == ("1", "0")
    assert rules(described({"horse": ["A horse runs."], "donkey": []})) == ["no-descriptions"]
    assert rules(described({"horse": [], "donkey": []})) == ["no-descriptions"] * 2
    even = {"horse": [f"A horse runs to tree {at}." for at in range(10)], "donkey": texts["donkey"][:5]}
    assert described(even, LintOptions()) == []


def test_a_text_of_two_classes() -> None:
    found = described({"horse": ["It has four legs."], "donkey": ["it has FOUR legs"], "mare": ["Other words here."]})
    assert [(one.rule, one.severity, one.class_id, one.other) for one in found] == [("shared-text", "error", "1", "0")]
    found = described({"horse": ["four legs"], "donkey": ["four legs"]}, kind="phrase")
    assert [(one.rule, one.severity) for one in found] == [("shared-phrase", "warning")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A horse is larger than a donkey.", ["1"]),
        ("Unlike donkeys and POLKA-DOTTED ponies, horses are large.", ["1", "3"]),
        ("A horse with polka dotted or polkadotted saddle cloth.", ["3"]),
        ("The donkeyish horse donkeyed along.", []),
        ("A sea horse is no horse of the land.", ["4"]),
        ("You can see a horse.", []),
        ("The horse beside 東京タワー stands still.", ["6"]),
    ],
)
def test_texts_that_name_another_class(text: str, named: list[str]) -> None:
    names = ["horse", "donkey", "dotted", "polka-dotted", "sea horse", "can", "東京タワー"]
    texts = {name: [f"Words of {at} alone."] for at, name in enumerate(names)} | {"horse": [text]}
    found = [one for one in described(texts) if one.rule == "names-other-class"]
    assert [one.other for one in found] == named
    assert all(one.class_id == "0" and one.text == text for one in found)


def test_the_own_name_may_hold_another_name() -> None:
    found = described({"dotted": ["A dotted cloth."], "polka-dotted": ["A polka-dotted cloth.", "A dotted cloth too."]})
    assert [(one.class_id, one.other, one.text) for one in found] == [("1", "0", "A dotted cloth too.")]
    both = described({"crane (bird)": ["A crane wades here."], "crane (machine)": ["A crane lifts steel."]})
    assert both == []


@pytest.mark.parametrize(
    ("name", "text", "is_named"),
    [
        ("acorn", "A corn looks like a long yellow cylinder.", False),
        ("cabin", "The cab in front is yellow.", False),
        ("hot dog", "A plate holds a hotdog.", True),
        ("tights", "A lid that is tight.", False),
        ("shorts", "A short tail.", False),
        ("orange", "An orange beak and orange feet.", False),
        ("orange", "A bowl with an orange in it.", True),
        ("swing", "Loose lips swing from side to side.", False),
        ("lion", "A lion-like ruff frames the head.", False),
        ("lion", "It looks like a lion.", True),
        ("crème brûlée", "A creme brulee stands on it.", True),
        ("grey whale", "A gray whale swims by.", True),
    ],
)
def test_a_word_is_a_mention_only_where_it_stands_for_the_thing(name: str, text: str, is_named: bool) -> None:
    found = [one.rule for one in described({"horse": [text], name: ["Words of their own."]})]
    assert found.count("names-other-class") == is_named


def test_rules_and_names_can_be_silenced_and_are_counted() -> None:
    (path,) = (ROOT / "data" / "bundles").glob("pets-*.jsonl")
    bundle = read_bundle(path)
    options = LintOptions(min_descriptions=22)
    assert (lint_bundle(bundle, options).warnings, lint_bundle(bundle, options).silenced) == (37, 0)
    report = lint_bundle(bundle, LintOptions(min_descriptions=22, ignored=frozenset(("too-few",))))
    assert (report.warnings, report.silenced, report.to_dict()["silenced"]) == (0, 37, 37)
    with pytest.raises(UsageError, match=r"unknown lint rule 'to-few' \(did you mean 'too-few'\?\)"):
        LintOptions(ignored=frozenset(("to-few",)))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Horse now.", "near-empty"),
        ("A horse has <b>four</b> legs.", "markup"),
        ("A horse &amp; its rider are here.", "markup"),
        ("A horse is shown here.\u202e", "control-character"),
        ("A horse is\x1b[31m shown here.", "control-character"),
        ("A horse with \u200bhidden space.", "control-character"),
        ("A horse with\ufe01 a selector.", "control-character"),
        ("A horse with\u3164a filler.", "control-character"),
        ("A horse < 2 m & > 1 m tall is small.", None),
        ("A horse 🐎\u200d is shown here.", None),
    ],
)
def test_odd_texts(text: str, rule: str | None) -> None:
    assert rules(described({"horse": [text]})) == ([] if rule is None else [rule])


def test_tokens_are_counted_by_the_model_and_only_where_they_may_matter() -> None:
    asked = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text.split()) + 2

    texts = ["A horse " + "runs " * 10, "A horse runs far.", "A horse " + "eats " * 5 + "hay."]
    found = described({"horse": texts}, LintOptions(1, 1000, count, 10))
    assert [(one.rule, one.text) for one in found] == [("over-token-limit", texts[0])]
    assert "14 tokens, the limit is 10" in found[0].message
    asked.clear()
    assert described({"horse": texts}, LintOptions(1, 1000, count, 77)) == []
    assert asked == []


def test_errors_come_first_and_every_rule_has_a_severity() -> None:
    found = described({"crane": ["It flies over there."], "horse": ["It flies over there."]}, LintOptions())
    assert [one.severity for one in found] == ["error", "warning", "warning", "warning"]
    assert {severity for severity, _ in RULES.values()} == {"error", "warning"}


@pytest.mark.parametrize("wrong", [(0, 2.0), (1, 0.5), (1, float("nan"))])
def test_limits_out_of_range(wrong: tuple[int, float]) -> None:
    with pytest.raises(UsageError):
        LintOptions(*wrong)


@pytest.mark.parametrize("name", ["textures", "pets"])
def test_the_shipped_bundles_are_clean(name: str) -> None:
    (path,) = (ROOT / "data" / "bundles").glob(f"{name}-*.jsonl")
    bundle = read_bundle(path)
    assert lint_descriptions(bundle.header.label_set.classes, bundle.descriptions(), AMBIGUOUS) == []


@pytest.mark.parametrize("name", shipped_label_sets())
def test_the_shipped_label_sets_have_no_error(name: str) -> None:
    assert [
        one for one in lint_descriptions(read_labels(name).classes, None, AMBIGUOUS) if one.severity == "error"
    ] == []


def test_a_thousand_classes_of_fifty_sentences_take_seconds() -> None:
    """Four times the classes take about four times the time: no text meets every class."""
    words = [
        "grey",
        "long",
        "thin",
        "round",
        "wooden",
        "shiny",
        "narrow",
        "striped",
        "painted",
        "folded",
        "heavy",
        "pale",
        "bent",
    ]

    def measure(count: int) -> float:
        own = from_names([f"thing {at} of {words[at % 13]}" for at in range(count)]).classes
        records = {
            one.id: [
                Description(
                    f"A {one.name} is {words[at % 13]}, {words[at // 13]} and number {at}.",
                    class_id=one.id,
                    provenance=Provenance("g"),
                )
                for at in range(50)
            ]
            for one in own
        }
        start = time.process_time()
        lint_descriptions(own, records, AMBIGUOUS)
        return time.process_time() - start

    measure(50)
    small, large = measure(250), measure(1000)
    assert large < 8
    assert large < 10 * small


def test_reports_count_what_they_checked() -> None:
    (path,) = (ROOT / "data" / "bundles").glob("pets-*.jsonl")
    bundle = read_bundle(path)
    report = lint_bundle(bundle)
    assert (report.source, report.classes, report.descriptions) == (bundle.reference, 37, 777)
    assert (report.errors, report.warnings, report.failed(strict=True)) == (0, 0, False)
    labels = from_names(["crane", "cat", "Cat box"])
    report = lint_labels(labels)
    assert report.source == f"labels {labels.name}#{labels.digest}"
    assert (report.classes, report.descriptions, report.errors, report.warnings) == (3, None, 0, 1)
    assert (report.failed(), report.failed(strict=True)) == (False, True)
    assert report.to_dict()["findings"][0]["rule"] == "ambiguous-name"
    refused = report_refused_labels("labels.txt", LabelError("labels.txt, line 3: 'cat' appears twice"))
    assert (refused.source, refused.classes, refused.errors, refused.failed()) == ("labels.txt", 0, 1, True)
