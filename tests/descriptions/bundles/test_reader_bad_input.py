"""Broken bundles: every one gets a clean error that names the file, the line and the remedy."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError, StorageError
from abs_core.labels import from_names
from abs_core.text import printable
from abs_descriptions.bundles import (
    Description,
    Generator,
    Provenance,
    Rejection,
    iter_records,
    load_descriptions,
    read_bundle,
    read_header,
    write_bundle,
)

Lines = list[bytes]


def good_lines(folder: Path) -> Lines:
    """A sound bundle of two classes and four records, as lines without their line feeds."""
    path = folder / "good.jsonl"
    write_bundle(
        path,
        name="pets",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=from_names(["cat", "dog"], name="pets"),
        generators=[Generator(id="g", backend="local", model="m", parameters={"temperature": 0.7})],
        license="CC0-1.0",
        records=[
            Description("A cat has whiskers.", class_id="cat", provenance=Provenance("g", 0, "p1"), id="c1"),
            Description("A cat has a tail.", class_id="cat", provenance=Provenance("g", 1, "p1"), id="c2"),
            Description("A dog barks.", class_id="dog", provenance=Provenance("g", 0, "p1")),
            Description(
                "a wet nose", "phrase", class_id="dog", provenance=Provenance("g", 1, "p2"), scores={"clip": 0.25}
            ),
        ],
    )
    return path.read_bytes().split(b"\n")[:-1]


def sealed(lines: Lines, **header_changes: Any) -> bytes:
    """The file of these lines with a header whose digest and counts are true, but for the changes."""
    header = json.loads(lines[0])
    body = b"".join(line + b"\n" for line in lines[1:])
    header["records_digest"] = "sha256:" + hashlib.sha256(body).hexdigest()
    header["counts"]["records"] = len(lines) - 1
    for key, value in header_changes.items():
        if value is ...:
            del header[key]
        else:
            header[key] = value
    return canonical_json(header).encode("utf-8", "surrogatepass") + b"\n" + body


def record(**changes: Any) -> bytes:
    """A sound fifth record, but for the changes."""
    value = {"class": "dog", "kind": "sentence", "provenance": {"generator": "g", "sample": 2}, "text": "A dog runs."}
    return canonical_json(value | changes).encode()


def with_record(line: bytes) -> Callable[[Lines], bytes]:
    return lambda lines: sealed([*lines, line])


def with_header(**changes: Any) -> Callable[[Lines], bytes]:
    return lambda lines: sealed(lines, **changes)


def with_counts(**changes: int) -> Callable[[Lines], bytes]:
    return lambda lines: sealed(lines, counts=json.loads(lines[0])["counts"] | changes)


def with_label_set(classes: list[dict[str, Any]]) -> Callable[[Lines], bytes]:
    return lambda lines: sealed(lines, label_set=json.loads(lines[0])["label_set"] | {"classes": classes})


def with_generator(**changes: Any) -> Callable[[Lines], bytes]:
    return lambda lines: sealed(lines, generators=[json.loads(lines[0])["generators"][0] | changes])


def joined(lines: Lines) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def swapped(lines: Lines, old: bytes, new: bytes) -> bytes:
    return joined(lines).replace(old, new, 1)


PROVENANCE = {"generator": "g", "sample": 2}
SOME_DIGEST = "sha256:" + "0" * 64

# what is broken -> (how, the line that the message must name, what it must say)
BROKEN: dict[str, tuple[Callable[[Lines], bytes], int, str]] = {
    "empty file": (lambda lines: b"", 1, "the file is empty"),
    "truncated in the header": (lambda lines: lines[0][:100], 1, "truncated"),
    "truncated in a record": (lambda lines: joined(lines)[:-20], 5, "truncated"),
    "truncated before the last line feed": (lambda lines: joined(lines)[:-1], 5, "truncated"),
    "truncated between two records": (lambda lines: joined(lines[:4]), 4, "ends after 3 of the header's 4 records"),
    "only a header": (lambda lines: joined(lines[:1]), 1, "ends after 0 of the header's 4 records"),
    "a record too many": (lambda lines: joined([*lines, record()]), 6, "more records than the header's 4"),
    "a changed letter": (lambda lines: swapped(lines, b"whiskers", b"whiskerz"), 5, "records have the digest"),
    "wrong records digest": (with_header(records_digest=SOME_DIGEST), 5, "records have the digest"),
    "another format": (with_header(format="safetensors"), 1, "not a description bundle"),
    "no format": (with_header(format=...), 1, "not a description bundle"),
    "a newer format version": (with_header(format_version=2), 1, "format version 2 is not known"),
    "format version 0": (with_header(format_version=0), 1, "format version 0 never existed"),
    "a format version in words": (with_header(format_version="1"), 1, "not a whole number"),
    "an absurd format version": (with_header(format_version=10**400), 1, "of an absurd size"),
    "a version that is none": (with_header(version="1.0"), 1, "not a semantic version"),
    "a version with a path": (with_header(version="1.0.0-../../x"), 1, "not a semantic version"),
    "a name that climbs": (with_header(name="../../etc/passwd"), 1, "leading dot"),
    "a name with a separator": (with_header(name="a\\b"), 1, "a-z"),
    "a Windows device as name": (with_header(name="con.birds"), 1, "Windows device"),
    "not a UTC time": (with_header(created="31.1.2025"), 1, "not a UTC time"),
    "a day that never was": (with_header(created="2025-02-30T12:00:00Z"), 1, "not a UTC time"),
    "an unknown header key": (with_header(surprise=1), 1, "surprise: an unknown key"),
    "a missing header key": (with_header(licence=...), 1, "licence: missing"),
    "null in the header": (with_generator(prompts=None), 1, "null is not allowed"),
    "a number as licence": (with_header(licence=7), 1, "licence: Input should be a valid string"),
    "a parent without digest": (with_header(parents=["pets@0.9.0"]), 1, "names no digest"),
    "no classes": (with_label_set([]), 1, "label_set.classes: empty"),
    "a class id twice": (
        with_label_set([{"id": "cat", "name": "cat"}, {"id": "cat", "name": "dog"}]), 1, "'cat' appears twice"),
    "a renamed class": (
        with_label_set([{"id": "cat", "name": "cat"}, {"id": "dog", "name": "wolf"}]), 1, "digest of the label set"),
    "lying count of records": (with_counts(records=5), 5, "ends after 4 of the header's 5 records"),
    "lying count of classes": (with_counts(records=4, classes=1), 1, "describes 1 of 2 classes"),
    "impossible counts": (with_counts(records=4, classes=3), 1, "counts are impossible"),
    "a negative count": (with_counts(rejected=-1), 1, "counts.rejected"),
    "complete without a class": (lambda lines: sealed(lines[:3]), 3, "counts 2 classes with records, the file has 1"),
    "credentials in a parameter": (
        with_generator(parameters={"base_url": "https://me:secret@host/v1"}), 1, "URL with credentials"),
    "deep nesting in the header": (
        lambda lines: lines[0].replace(b'"temperature":0.7', b'"t":' + b"[" * 100 + b"]" * 100) + b"\n",
        1, "nested deeper"),
    "a very deep record": (lambda lines: joined([*lines, b'{"a":' + b"[" * 200_000]), 6, "nested deeper"),
    "a header that is a list": (lambda lines: joined([b"[1]", *lines[1:]]), 1, "not a JSON object"),
    "a header over the limit": (lambda lines: b"{" + b" " * (17 * 1024 * 1024), 1, "longer than the 16 MiB"),
    "spaces in the header": (
        lambda lines: swapped(lines, b'{"complete":', b'{ "complete":'), 1, "not in canonical form"),
    "an unknown class": (with_record(record(**{"class": "wolf"})), 6, "class 'wolf' is not in the label set"),
    "an unknown generator": (
        with_record(record(provenance={"generator": "x", "sample": 0})), 6, "generator 'x' is not in the header"),
    "a class that comes again": (
        with_record(record(**{"class": "cat"})), 6, "'cat' comes after a class that follows it"),
    "a text twice": (
        with_record(record(text="A dog barks.")), 6, "has the text 'A dog barks.' already on line 4"),
    "an id twice": (
        lambda lines: sealed([*lines[:3], lines[2].replace(b"tail", b"nose"), *lines[3:]]),
        4, "has the id 'c2' already on line 3"),
    "a line of 50 MB": (lambda lines: joined([*lines, b"{" + b" " * 50_000_000 + b"}"]), 6, "longer than the 1 MiB"),
    "50 MB without a line feed": (lambda lines: joined(lines) + b"x" * 50_000_000, 6, "longer than the 1 MiB"),
    "a line just over the limit": (
        lambda lines: joined([*lines[:2], b"{" + b" " * 1024 * 1024 + b"}", *lines[2:]]), 3, "longer than the 1 MiB"),
    "invalid UTF-8": (lambda lines: swapped(lines, b"barks", b"b\xffrks"), 4, "byte 0xff in column"),
    "invalid UTF-8 in the header": (lambda lines: swapped(lines, b"pets", b"p\xc0ts"), 1, "byte 0xc0"),
    "an encoded surrogate": (lambda lines: swapped(lines, b"barks", b"b\xed\xa0\x80rks"), 4, "not valid UTF-8"),
    "an escaped lone surrogate": (lambda lines: swapped(lines, b"barks", b"b\\ud800rks"), 4, "lone surrogate"),
    "a lone surrogate in the header": (lambda lines: swapped(lines, b"CC0", b"\\ud800"), 1, "a lone surrogate"),
    "a key twice in the header": (
        lambda lines: swapped(lines, b'"licence":"CC0-1.0"', b'"licence":"x","licence":"CC0-1.0"'), 1, "appears twice"),
    "NaN in the header": (lambda lines: swapped(lines, b"0.7", b"NaN"), 1, "not finite"),
    "a parameter of 5,000 digits": (lambda lines: swapped(lines, b"0.7", b"9" * 5000), 1, "too many digits"),
    "a raw NUL": (lambda lines: swapped(lines, b"barks", b"b\0rks"), 4, "JSON: invalid control character, column"),
    "an escaped NUL": (with_record(record(text="A dog\0 runs.")), 6, "NUL character"),
    "a line feed in a text": (with_record(record(text="A dog\nruns.")), 6, "line break"),
    "a number for a text": (with_record(record(text=7)), 6, "the text must be a string, got a number"),
    "null for a text": (with_record(record(text=None)), 6, "'text' is null"),
    "a list for a text": (with_record(record(text=["a"])), 6, "the text must be a string, got a list"),
    "an empty text": (with_record(record(text="")), 6, "the text is empty"),
    "a text of spaces": (with_record(record(text="  ")), 6, "the text is empty"),
    "a text with a space before": (with_record(record(text=" A dog.")), 6, "begins or ends with a space"),
    "a text too long": (with_record(record(text="x" * 4001)), 6, "longer than 4000 characters"),
    "a text not in NFC": (
        with_record(record().replace(b"runs", "re\u0301st".encode())), 6, "not in Unicode form NFC"),
    "an unknown kind": (with_record(record(kind="poem")), 6, "must be 'sentence' or 'phrase', got 'poem'"),
    "an unknown key": (with_record(record(colour="red")), 6, "unknown key 'colour'"),
    "a missing key": (with_record(canonical_json({"class": "dog"}).encode()), 6, "lacks 'kind'"),
    "no provenance": (with_record(record(provenance="g")), 6, "the provenance must be an object, got a string"),
    "an unknown provenance key": (
        with_record(record(provenance=PROVENANCE | {"url": "x"})), 6, "provenance has an unknown key 'url'"),
    "a fraction as sample": (
        with_record(record(provenance=PROVENANCE | {"sample": 1.5})), 6, "sample must be a whole number, got a number"),
    "a truth value as sample": (
        with_record(record(provenance=PROVENANCE | {"sample": True})), 6, "must be a whole number, got a truth"),
    "a negative sample": (with_record(record(provenance=PROVENANCE | {"sample": -1})), 6, "from 0 to"),
    "an unknown reviewer": (
        with_record(record(provenance=PROVENANCE | {"accepted_by": "x"})), 6, "the reviewer 'x' is not in the header"),
    "a number as reviewer": (
        with_record(record(provenance=PROVENANCE | {"edited_by": 7})), 6, "edited_by must be a string, got a number"),
    "a request that is no digest": (
        with_record(record(provenance=PROVENANCE | {"request": "sha256:1"})), 6, "64 hexadecimal digits"),
    "scores that are no numbers": (with_record(record(scores={"a": "1"})), 6, "must be an object of numbers"),
    "no scores in scores": (with_record(record(scores={})), 6, "there must be 1 to 64 scores, got 0"),
    "a score name": (with_record(record(scores={"A B": 1.0})), 6, "got 'A B'"),
    "NaN as score": (with_record(record(scores={"a": 7.0}).replace(b"7.0", b"NaN")), 6, "must be a finite number"),
    "infinity as score": (with_record(record(scores={"a": 7.0}).replace(b"7.0", b"1e999")), 6, "a finite number"),
    "a score of 5,000 digits": (
        with_record(record(scores={"a": 7.0}).replace(b"7.0", b"9" * 5000)), 6, "too many digits"),
    "another spelling of a number": (
        with_record(record(scores={"a": 0.5}).replace(b"0.5", b"5e-1")), 6, "not in canonical form"),
    "a key twice": (
        with_record(record().replace(b'{"class":"dog",', b'{"class":"cat","class":"dog",')), 6, "appears twice"),
    "keys in another order": (
        with_record(b'{"kind":"sentence","class":"dog",' + record()[len(b'{"class":"dog","kind":"sentence",') :]),
        6, "not in canonical form"),
    "a needless escape": (with_record(record().replace(b"A dog", b"\\u0041 dog")), 6, "not in canonical form"),
    "carriage returns": (lambda lines: sealed([lines[0], *(line + b"\r" for line in lines[1:])]), 2,
                         "the lines end in CR LF"),
    "an empty line": (with_record(b""), 6, "the line is empty"),
    "two objects on a line": (with_record(record() + b" {}"), 6, "there is more after the JSON object"),
    "no JSON": (with_record(b"{dog}"), 6, "invalid JSON"),
    "a byte order mark": (lambda lines: b"\xef\xbb\xbf" + joined(lines), 1, "byte order mark"),
    "a byte order mark within": (lambda lines: swapped(lines, b'{"class":"dog"', b'\xef\xbb\xbf{"class":"dog"'), 4,
                                 "byte order mark"),
    "a record separator": (lambda lines: swapped(lines, b'{"class":"dog"', b'\x1e{"class":"dog"'), 4,
                           "record separator"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bundle_gets_a_clean_error(tmp_path: Path, case: str) -> None:
    breaking, line, words = BROKEN[case]
    path = tmp_path / "pets.jsonl"
    path.write_bytes(breaking(good_lines(tmp_path)))
    started = time.process_time()
    for reading in (read_bundle, load_descriptions, lambda p: [*iter_records(p)]):
        with pytest.raises(BundleError) as caught:
            reading(path)
        assert caught.value.message.startswith(f"{path}, line {line}: ")
        assert words in caught.value.message
        assert caught.value.remedy
        assert printable(str(caught.value)) == str(caught.value)
        assert len(caught.value.message) < 500 + len(str(path))
    assert time.process_time() - started < 20


def test_table_in_the_docs_is_what_is_said(tmp_path: Path) -> None:
    """docs/broken-bundles.md shows every case with its message; on a change write its rows again from here."""
    path = tmp_path / "birds.jsonl"
    rows = []
    for case, (breaking, _, _) in BROKEN.items():
        path.write_bytes(breaking(good_lines(tmp_path)))
        with pytest.raises(BundleError) as caught:
            read_bundle(path)
        rows.append(f"| {case} | `{str(caught.value).replace(str(tmp_path) + '/', '')}` |\n")
    assert "".join(rows) in (ROOT / "docs" / "broken-bundles.md").read_text(encoding="utf-8")


def test_what_the_table_breaks_is_sound_without_the_breaking(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    lines = good_lines(tmp_path)
    path.write_bytes(sealed([*lines, record()]))
    assert read_bundle(path).header.counts.records == 5
    assert path.read_bytes() != joined(lines)


def test_header_is_readable_without_the_records(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    path.write_bytes(joined(good_lines(tmp_path)[:1]))
    assert read_header(path).name == "pets"


def test_pinned_digest_is_compared(tmp_path: Path) -> None:
    good_lines(tmp_path)
    path = tmp_path / "good.jsonl"
    true = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_bundle(path, digest=true).header.name == "pets"
    with pytest.raises(BundleError, match="not the expected sha256:0000"):
        read_bundle(path, digest=SOME_DIGEST)


def test_header_changes_are_seen_by_the_bundle_digest_only(tmp_path: Path) -> None:
    """What docs/bundle-format.md says is not checked: the header has no digest of its own inside the file."""
    path = tmp_path / "pets.jsonl"
    lines = good_lines(tmp_path)
    path.write_bytes(swapped(lines, b"CC0-1.0", b"CC0-1.1"))
    assert read_bundle(path).header.license == "CC0-1.1"
    with pytest.raises(BundleError):
        read_bundle(path, digest="sha256:" + hashlib.sha256(joined(lines)).hexdigest())


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device"])
def test_what_is_no_file_neither_hangs_nor_crashes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pets.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(StorageError if kind == "missing" else BundleError) as caught:
        read_bundle(path)
    assert str(path) in str(caught.value)


def test_hostile_names_are_shown_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    lines = good_lines(tmp_path)
    path.write_bytes(sealed([*lines, record(**{"class": "\x1b[2J\u202egod\u200b" + "x" * 10_000})]))
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert "\\x1b[2J\\u202egod\\u200b" in caught.value.message
    assert str(caught.value).isprintable()
    assert len(caught.value.message) < 500 + len(str(path))


class TestRejected:
    """The file of rejected completions beside a bundle."""

    def make(self, folder: Path) -> tuple[Path, Path]:
        path = folder / "pets.jsonl"
        write_bundle(
            path,
            name="pets",
            version="1.0.0",
            created="2025-01-31T12:00:00Z",
            label_set=from_names(["cat", "dog"]),
            generators=[Generator(id="g", backend="local", model="m", parameters={})],
            license="CC0-1.0",
            records=[
                Description("A cat.", class_id="cat", provenance=Provenance("g")),
                Description("A dog.", class_id="dog", provenance=Provenance("g")),
            ],
            rejected=[
                Rejection("cat", "A c", "cut-off", Provenance("g", 1, "p")),
                Rejection("dog", "Sure! Here", "chatty", Provenance("g", 2, "p"), "begins with 'Sure'"),
            ],
        )
        return path, folder / "pets.rejected.jsonl"

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (b"cut-off", b"cut-out", "the bundle's header says 2"),
            (b'"class":"dog"', b'"class":"god"', "line 2: the class 'god' is not in the label set"),
            (b'"generator":"g"', b'"generator":"h"', "line 1: the generator 'h' is not in the header"),
            (b'"reason":"chatty"', b'"reason":7', "line 2: reason: Input should be a valid string"),
            (b'"reason":"chatty",', b"", "line 2: reason: missing"),
            (b'"reason":"chatty",', b'"reason":"chatty","rejected_by":"x",', "line 2: the reviewer 'x' is not in"),
            (b'"reason"', b'"raison"', "line 1: "),
            (b"Here", b"H\xffre", "line 2: byte 0xff"),
            (b'"sample":1', b'"sample":1 ', "line 1: not in canonical form"),
            (b'"detail":"begins with \'Sure\'"', b'"detail":null', "line 2: null is not allowed"),
            (b"\n", b"", "line 1: there is more after the JSON object"),
        ],
    )
    def test_broken_file_is_refused(self, tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
        path, rejected = self.make(tmp_path)
        data = rejected.read_bytes()
        assert old in data
        rejected.write_bytes(data.replace(old, new, 1))
        with pytest.raises(BundleError) as caught:
            read_bundle(path)
        assert str(rejected) in caught.value.message
        assert words in caught.value.message
        assert caught.value.remedy

    def test_torn_file_is_refused(self, tmp_path: Path) -> None:
        path, rejected = self.make(tmp_path)
        rejected.write_bytes(rejected.read_bytes()[:-5])
        with pytest.raises(BundleError, match=r"line 2: .*truncated"):
            read_bundle(path)

    def test_bundle_alone_is_sound(self, tmp_path: Path) -> None:
        path, rejected = self.make(tmp_path)
        rejected.unlink()
        assert read_bundle(path).header.counts.rejected == 2
