"""Locations as users write them: which there are, and that a refused one is not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_core.errors import UsageError
from abs_core.locations import parse_location

# --- locations ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/bundles", "/srv/bundles"),
        ("/srv/a@b?c#d", "/srv/a@b?c#d"),
        ("file:///srv/bundles", "/srv/bundles"),
        ("s3://team/bundles/", "s3://team/bundles"),
        ("S3://team", "s3://team"),
        ("gs://team-1/a/b", "gs://team-1/a/b"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("https://example.org", "https://example.org"),
        ("hf://datasets/org/birds", "hf://datasets/org/birds"),
        ("hf://datasets/org/birds@v1.0", "hf://datasets/org/birds@v1.0"),
        ("hf://datasets/org/birds/sub/folder/", "hf://datasets/org/birds/sub/folder"),
        ("hf://datasets/org/birds/sub@feature%2fx", "hf://datasets/org/birds/sub@feature%2Fx"),
        ("hf://datasets/org/birds@refs/pr/3", "hf://datasets/org/birds@refs/pr/3"),
    ],
)
def test_good_locations(text: str, shown: str) -> None:
    assert str(parse_location(text)) == shown


def test_a_path_without_a_protocol_is_a_folder() -> None:
    assert str(parse_location("shared")) == str(Path.cwd() / "shared")
    assert str(parse_location("~/shared")) == str(Path.home() / "shared")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("file://", "no folder"),
        ("a\0b", "NUL"),
        ("file://SECRET:SECRET@host/x", "'@'"),
        ("https://host/hf_SECRETSECRETSECRETSECRETSECRETSE", "access token"),
        ("memory://x", "unknown protocol 'memory'; valid: file:"),
        ("github://org:repo@main/x", "unknown protocol"),
        ("ssh://SECRET@host/x", "unknown protocol"),
        ("arrow_hdfs://SECRET@host/x", "unknown protocol"),
        ("ftp://SECRET:SECRET@host/x", "unknown protocol"),
        ("simplecache::s3://team/x", "chains"),
        ("zip://x::s3://SECRET:SECRET@team/x", "chains"),
        ("s3:team/x", "lacks '//'"),
        ("s3://SECRET:SECRET@team/x", "'@'"),
        ("s3://SECRET:SEC/RET@team/x", "'@'"),
        ("https://SECRET:SECRET@host/x", "'@'"),
        ("https://host/x?X-Amz-Signature=SECRET", "query"),
        ("https://host/x?access_key=SECRET#SECRET", "query"),
        ("s3://team/x?versionId=1", "query"),
        ("gs://team/../x", "climbs"),
        ("s3://team//x", "empty"),
        ("s3://team/a b", "sign"),
        ("s3://team/*", "sign"),
        ("s3://T/x", "bucket"),
        ("http:///x", "host"),
        ("http://ho st/x", "host"),
        ("hf://models/org/x", "dataset"),
        ("hf://datasets/org", "dataset"),
        ("hf://datasets/org/x@main/deeper", "dataset"),
        ("hf://datasets/../x", "dataset"),
        ("hf://datasets/org/x/./y", "dataset"),
        ("hf://datasets/org/x//y", "dataset"),
        ("hf://datasets/org/x/a b", "dataset"),
        ("hf://datasets/org/x/y@", "dataset"),
        ("hf://SECRET:SECRET@datasets/org/x", "dataset"),
    ],
)  # fmt: skip
def test_refused_locations_are_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        parse_location(text)
    assert "SECRET" not in str(refused.value)
    assert refused.value.remedy or "valid:" in str(refused.value)
