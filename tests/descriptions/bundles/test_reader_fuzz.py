"""10,000 hostile inputs to the reader: only clean errors, never a crash, never a hang, never a wrong yes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError
from abs_core.labels import from_names
from abs_core.text import printable
from abs_descriptions.bundles import Description, Generator, Provenance, load_descriptions, read_bundle, write_bundle
from abs_descriptions.bundles.codec import LineError, RecordRules, is_too_deep, serialize_record
from abs_descriptions.bundles.format import RecordModel

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

CLASSES = ["cat", "dog", "été"]
RULES = RecordRules(CLASSES, ["g", "h"])


def cases(count: int) -> Callable[[Any], Any]:
    return settings(max_examples=count, deadline=20_000, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "sound.jsonl"
    write_bundle(
        path,
        name="pets",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=from_names(CLASSES),
        generators=[Generator(id="g", backend="b", model="m", parameters={"t": [0.5, None]})],
        license="CC0-1.0",
        records=[
            Description(
                f'The {name} is "{word}".', class_id=name, provenance=Provenance("g", i, "p"), scores={"s": i / 7}
            )
            for i, word in enumerate(["big", "schön", "速い"])
            for name in CLASSES
        ],
    )
    return path.read_bytes()


def outcome(path: Path) -> BundleError | None:
    """What the two ways of reading, with and without building records, agree on."""
    outcomes: list[BundleError | None] = []
    for reading in (read_bundle, load_descriptions):
        try:
            reading(path)
            outcomes.append(None)
        except BundleError as error:
            outcomes.append(error)
    assert len({str(error) for error in outcomes}) == 1
    return outcomes[0]


def is_clean(error: BundleError, path: Path) -> bool:
    return error.message.startswith(f"{path}, line ") and printable(str(error)) == str(error) and bool(error.remedy)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, float, float, bytes]]:
    """Cuts, copies, insertions and replacements at places that are shares of the length."""
    share = st.floats(0, 1)
    piece = st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"\n", b"\0", b'"', b"\\", b"{", b"}", b"[" * 50, b"\xff", b"\\ud800", b"null", b"1e999", b" ", b"\r",
             b"\xef\xbb\xbf", b"\x1e", b"9" * 4400, b'"class":"dog",', b"\xe2\x80\xae", b"-0", b"true"]),
    )  # fmt: skip
    return draw(
        st.lists(st.tuples(st.sampled_from(["cut", "copy", "insert", "replace"]), share, share, piece), max_size=4)
    )


def edited(data: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    for action, first, second, piece in changes:
        start, end = sorted((int(first * len(data)), int(second * len(data))))
        end = min(end, start + 200) if action != "cut" or len(piece) % 2 else end
        middle = {"cut": b"", "copy": data[start:end] * 2, "insert": piece + data[start:end], "replace": piece}[action]
        data = data[:start] + middle + data[end:]
    return data


@cases(4000)
@given(changes=edits())
@pytest.mark.slow
def test_edited_bundles(sound: bytes, tmp_path_factory: pytest.TempPathFactory, changes: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "edited.jsonl"
    data = edited(sound, changes)
    path.write_bytes(data)
    error = outcome(path)
    if error is None:
        # The header has no digest of its own, so a harmless change in it can be sound; the records are sealed.
        assert data.partition(b"\n")[2] == sound.partition(b"\n")[2]
    else:
        assert is_clean(error, path)


@cases(1500)
@given(data=st.binary(max_size=300))
@pytest.mark.slow
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    error = outcome(path)
    assert error is not None
    assert is_clean(error, path)


ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**20,
    1.5,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    ["a"],
    {},
    {"a": 1},
    {"a": {"b": []}},
]
JSON = st.sampled_from(ODD) | st.text(max_size=5)
TEXT = st.text(st.characters(categories=None), max_size=30) | st.sampled_from(
    ["A cat.", "e\u0301", "x" * 4000, "x" * 4001]
)
NUMBER = st.integers(-(2**54), 2**54) | st.floats() | st.booleans()


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[strategy] * 9, JSON)


GENERATOR = mostly(st.sampled_from(["g", "h", "g", "h", "x"]))
PROVENANCE = st.fixed_dictionaries(
    {"generator": GENERATOR, "sample": mostly(NUMBER)},
    optional={
        "prompt": mostly(TEXT),
        "request": mostly(st.sampled_from(["sha256:" + "0a" * 32, "sha256:0"])),
        "accepted_by": GENERATOR,
        "edited_by": GENERATOR,
    },
)
RECORD = st.fixed_dictionaries(
    {
        "class": mostly(st.sampled_from([*CLASSES, "wolf"])),
        "kind": mostly(st.sampled_from(["sentence", "phrase"])),
        "provenance": mostly(PROVENANCE),
        "text": mostly(TEXT),
    },
    optional={
        "id": mostly(TEXT),
        "scores": mostly(st.dictionaries(st.sampled_from(["a", "b.c", "A", ""]), NUMBER, max_size=3)),
        "more": JSON,
    },
)


def oracle(line: str) -> bool:
    """Whether the models, the second statement of the rules, take a line."""
    try:
        model = RecordModel.model_validate_json(line)
        value = model.model_dump(mode="json", by_alias=True, exclude_none=True)
        same = canonical_json(value) == line
    except ValueError:
        return False
    source = model.provenance
    who = {source.generator, source.accepted_by, source.edited_by} - {None}
    return same and model.class_ in CLASSES and who <= {"g", "h"}


@cases(3000)
@given(value=RECORD, canonical=st.integers(0, 5).map(bool))
@pytest.mark.slow
def test_reader_and_model_of_a_record_agree(value: dict[str, Any], canonical: bool) -> None:
    line = json.dumps(value, sort_keys=canonical, ensure_ascii=not canonical, separators=(",", ":"))
    if oracle(line):
        assert serialize_record(RULES.read(line)) == line
        return
    with pytest.raises(LineError) as caught:
        RULES.read(line)
    assert caught.value.message
    assert printable(caught.value.message) == caught.value.message


@cases(1000)
@given(
    text=st.text(min_size=1, max_size=60),
    scores=st.none() | st.dictionaries(st.sampled_from(["a", "b"]), st.floats() | st.integers(), min_size=1),
    sample=st.integers(0, 2**53),
)
@pytest.mark.slow
def test_serialized_records_are_canonical_json(text: str, scores: dict[str, float] | None, sample: int) -> None:
    record = Description(text, class_id="été", provenance=Provenance("g", sample, "p"), scores=scores)
    line = serialize_record(record)
    if RULES.problem(record) is None:
        assert canonical_json(json.loads(line)) == line
        assert RULES.read(line) == record
    else:
        with pytest.raises(LineError):
            RULES.read(line)


PIECES = st.sampled_from(["g", "h", "x", "p", "\u00e9", "e\u0301", "", "\ud800", None, True, 1])


@cases(2000)
@given(
    record=st.builds(
        Description,
        class_id=st.sampled_from(["cat", "\u00e9t\u00e9", "e\u0301te\u0301", "wolf", 1]),
        text=mostly(TEXT),
        provenance=st.builds(
            Provenance,
            generator=PIECES,
            sample=mostly(NUMBER),
            prompt=PIECES,
            request=st.sampled_from([None, "sha256:" + "0a" * 32, "sha256:0"]),
            accepted_by=st.none() | PIECES,
            edited_by=st.none() | PIECES,
        ),
        kind=st.sampled_from(["sentence", "phrase", "poem"]),
        scores=st.none() | st.dictionaries(st.sampled_from(["a", "b.c", "A"]), NUMBER, max_size=3),
        id=st.none() | TEXT,
    )
)
@pytest.mark.slow
def test_normalized_records_keep_the_rules(record: Description) -> None:
    try:
        line = serialize_record(RULES.normalized(record))
    except (LineError, TypeError, AttributeError):
        return
    assert oracle(line)


@cases(500)
@given(value=JSON | st.text(st.sampled_from('[]{}"\\a'), max_size=12), wraps=st.integers(0, 20))
def test_nesting_is_counted_as_the_parser_counts(value: Any, wraps: int) -> None:
    """Depth is counted before parsing; brackets, quotes and escapes inside strings must not mislead it."""
    for _ in range(wraps):
        value = [value, '"]']
    assert is_too_deep(json.dumps(value)) == (nesting(value) > 16)


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0
