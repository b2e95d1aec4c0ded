"""The small files of a repository: exact bytes, exact paths, and nothing that a hostile place could add."""

from __future__ import annotations

import json

import pytest

from abs_descriptions.bundles.format import Counts
from abs_descriptions.bundles.manifest import Manifest, Yank, manifest_path, parse_manifest, parse_yank, yank_path

DIGEST = "sha256:" + "ab" * 32
MANIFEST = Manifest(
    name="pets",
    version="1.0.0",
    digest=DIGEST,
    size=806,
    created="2025-01-31T12:00:00Z",
    complete=True,
    counts=Counts(classes=1, records=1, rejected=1),
)
YANK = Yank(name="pets", version="1.0.0", digest=DIGEST, reason="wrong cats")


def test_bytes_and_paths_are_exactly_these() -> None:
    """Places of many users hold such files, so neither ever changes."""
    assert MANIFEST.serialize() == (
        b'{"complete":true,"counts":{"classes":1,"records":1,"rejected":1},"created":"2025-01-31T12:00:00Z",'
        b'"digest":"sha256:' + b"ab" * 32 + b'","format":"abs-bundle-manifest","format_version":1,"name":"pets",'
        b'"size":806,"version":"1.0.0"}\n'
    )
    assert MANIFEST.object_path == f"objects/sha256/ab/{'ab' * 32}.jsonl"
    assert MANIFEST.rejected_path == f"objects/sha256/ab/{'ab' * 32}.rejected.jsonl"
    assert (manifest_path("pets", "1.0.0"), yank_path("pets", "1.0.0")) == (
        "versions/pets/1.0.0.json",
        "versions/pets/1.0.0.yank",
    )
    assert str(MANIFEST) == str(MANIFEST.reference) == f"pets@1.0.0#{DIGEST}"


def test_what_was_serialized_is_parsed() -> None:
    assert parse_manifest(MANIFEST.serialize(), "pets", "1.0.0") == MANIFEST
    assert parse_yank(YANK.serialize(), MANIFEST) == YANK


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "cats"},
        {"version": "1.0.1"},
        {"digest": "sha256:../../x"},
        {"digest": DIGEST + "\n"},
        {"size": -1},
        {"size": "806"},
        {"complete": 1},
        {"format_version": 2},
        {"path": "/etc/passwd"},
    ],
)
def test_a_manifest_that_says_anything_else_is_none(changes: dict[str, object]) -> None:
    value = json.loads(MANIFEST.serialize()) | changes
    assert parse_manifest(json.dumps(value).encode(), "pets", "1.0.0") is None


@pytest.mark.parametrize(
    "changes", [{"name": "cats"}, {"digest": "sha256:" + "0" * 64}, {"reason": ""}, {"reason": "a\nb"}, {"until": 1}]
)
def test_a_yank_that_says_anything_else_is_none(changes: dict[str, object]) -> None:
    value = json.loads(YANK.serialize()) | changes
    assert parse_yank(json.dumps(value).encode(), MANIFEST) is None
