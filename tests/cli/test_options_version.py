"""`--version`: the number of the bundle that a command makes, chosen by the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import import_texts
from gen_descriptions_command import Generate
from support import Abs

from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.filtering.bundle_filters import FilteredBundle, FilterOutput, filter_bundle, filter_by_weight

TEXTS = ("cat\tA cat purrs.", "cat\tA cat has a long tail.", "dog\tA dog barks.")


@pytest.fixture
def own(abs_command: Abs) -> Abs:
    """With own@1.0.0 and other@1.0.0 in the store."""
    import_texts(abs_command, "own", *TEXTS)
    import_texts(abs_command, "other", *TEXTS[:2], "dog\tA dog runs.")
    return abs_command


def accepted(own: Abs, tmp_path: Path) -> Path:
    """A review file of own@1.0.0 with a decision."""
    written = Path(own("bundle", "review", "own@1.0.0", "--out", tmp_path / "reviews").out.split()[0])
    written.write_bytes(written.read_bytes().removesuffix(b",,,\r\n") + b",accept,,\r\n")
    return written


def test_every_command_that_makes_a_child_takes_it(own: Abs, tmp_path: Path) -> None:
    changed = tmp_path / "changed.csv"
    own("bundle", "export", "own", changed, "--format", "csv")
    changed.write_text(changed.read_text(encoding="utf-8-sig").replace("purrs", "meows"))
    review = ("bundle", "review", "own@1.0.0", "--read", accepted(own, tmp_path), "--reviewer", "Jane", "--fork")
    for command, chosen, version in (
        (("bundle", "import", changed, "--name", "own"), "major", "2.0.0"),
        (review, "1.0.1", "1.0.1"),
        (("bundle", "merge", "own@1.0.0", "other"), "patch", "2.0.1"),
        (
            ("bundle", "import", tmp_path.parent / changed, "--name", "fresh", "--format", "csv"),
            "0.1.0-rc.1",
            "0.1.0-rc.1",
        ),
    ):
        made = own(*command, "--version", chosen)
        assert f"@{version}#" in made.out, made
        assert "own@1.0.0 exists already" in own.refuses(*review, "--version", "1.0.0")
    assert "own@1.0.1 exists already" in own.refuses(*review, "--version", "1.0.1")
    assert "must be above that of its parent own@1.0.0, got 0.9.0" in own.refuses(*review, "--version", "0.9.0")
    assert "major, minor or patch, got 'next'" in own.refuses(*review, "--version", "next")


def test_it_is_refused_where_no_bundle_is_made(own: Abs, tmp_path: Path) -> None:
    message = own.refuses("bundle", "review", "own", "--out", tmp_path, "--version", "major")
    assert "--version needs --read" in message
    stored = next((own.home / "bundles").rglob("*.jsonl"))
    assert "holds bundles, which have" in own.refuses("bundle", "import", stored, "--version", "2.0.0")


def test_a_filtered_bundle_has_it_in_the_store_and_in_a_file(own: Abs, tmp_path: Path) -> None:
    assert "own@1.0.0 exists already" in own.refuses("filter-descriptions", "own", "--version", "1.0.0")
    store = Repository.local(own.home / "bundles")

    def keep_first(bundle: Bundle) -> FilteredBundle:
        weights = [float(position == 0) for position in range(bundle.header.counts.records)]
        return filter_by_weight(bundle, weights, keep=1, share=None, model="none", parameters={})

    for output, version in (
        (FilterOutput(store, version="1.0.1"), "1.0.1"),
        (FilterOutput(store, file=tmp_path / "own.jsonl", version="major"), "2.0.0"),
    ):
        assert f"@{version}#" in str(filter_bundle(store.read("own@1.0.0"), keep_first, output).reference)


def test_generated_descriptions_have_it_and_nothing_is_asked_in_vain(generate: Generate) -> None:
    pytest.importorskip("openai")
    assert generate(["cat"], "--per-class", "2", "--version", "0.3.0").out.partition("@")[2].startswith("0.3.0#")
    asked = len(generate.server.asked)
    assert "@0.3.0 exists already" in generate.refuses(["cat", "dog"], "--per-class", "2", "--version", "0.3.0")
    assert len(generate.server.asked) == asked
    short = generate(
        ["cat", "dog"],
        "--per-class",
        "2",
        "--version",
        "0.4.0",
        "--max-cost",
        "0.000001",
        "--price-in",
        "1",
        "--price-out",
        "1",
    )
    assert "the command with another --version resumes from here" in short.out, short
