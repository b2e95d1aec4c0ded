"""Names that cannot climb, semantic versions, and references that mean one bundle."""

from __future__ import annotations

import pytest

from abs_core.errors import UsageError
from abs_descriptions.bundles import Version, parse_reference, parse_version
from abs_descriptions.bundles.references import name_problem


@pytest.mark.parametrize("name", ["birds", "a", "0", "my_birds-2.v1", "_x", "-x", "x" * 100, "concert", "auxiliary"])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None


def test_semantic_order() -> None:
    ordered = ["0.9.0", "1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
               "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "10.0.0"]  # fmt: skip
    versions = [parse_version(text) for text in ordered]
    assert all(isinstance(version, Version) for version in versions)
    assert sorted(v for v in reversed(versions) if v) == versions
    assert [str(version) for version in versions] == ordered


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "01.0.0", "1.0.0+build", "1.0.0-", "1.0.0-01", "1.0.0-RC", "1.0.0-a..b", "1.0.0\n", "v1.0.0",
     "1.0.0-../x", "1.0.0-a/b", "9999999999.0.0", "1.0.0-" + "a" * 200, "１.0.0", "-1.0.0"],
)  # fmt: skip
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


DIGEST = "sha256:" + "ab" * 32


def test_references_are_read_and_written() -> None:
    for text in ("birds", "birds@1.2.0", f"birds@1.2.0#{DIGEST}", "birds@2.0.0-rc.1"):
        assert str(parse_reference(text)) == text
    assert parse_reference(f"birds@1.2.0#{DIGEST}").pinned
    assert not parse_reference("birds@1.2.0").pinned


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("birds@^1.2.0", "names a range"),
        ("birds@>=1.2.0", "names a range"),
        ("birds@1.x", "names a range"),
        ("birds@1.2.x", "names a range"),
        ("birds@*", "names a range"),
        ("birds@latest", "names a range"),
        ("birds@1.2", "names a range"),
        ("birds@", "names a range"),
        ("birds@1.2.0.0", "not a semantic version"),
        ("birds@1.2.0+x", "not a semantic version"),
        (f"birds#{DIGEST}", "not pinned correctly"),
        ("birds@1.2.0#sha256:12", "not pinned correctly"),
        (f"birds@1.2.0#{DIGEST.upper()}", "not pinned correctly"),
        (f"birds@1.2.0#{DIGEST}#", "not pinned correctly"),
        ("../birds@1.2.0", "the name must be"),
        ("\x1b[2J", "\\x1b[2J"),
    ],
)
def test_bad_references_say_why(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert words in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()
