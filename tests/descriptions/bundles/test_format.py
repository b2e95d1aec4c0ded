"""The format's schema, its examples and its limits: the documentation and the models say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bundle_samples import write_cat
from support import ROOT

from abs_descriptions.bundles import format as limits
from abs_descriptions.bundles.codec import RecordRules
from abs_descriptions.bundles.format import bundle_schema
from abs_descriptions.bundles.repository import Repository

STORED = Path(__file__).parent / "stored"


def test_schema_in_the_docs_is_that_of_the_models() -> None:
    stored = json.loads((ROOT / "docs" / "bundle.schema.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(bundle_schema())), "write docs/bundle.schema.json again from bundle_schema()"


def test_schema_names_every_key_of_a_real_bundle() -> None:
    definitions = bundle_schema()["$defs"]
    header, *records = [json.loads(line) for line in (STORED / "format-1.jsonl").read_text("utf-8").splitlines()]
    assert set(definitions["BundleHeader"]["required"]) == set(header)
    for record in records:
        assert (
            set(definitions["RecordModel"]["required"]) <= set(record) <= set(definitions["RecordModel"]["properties"])
        )


def test_example_in_the_docs_is_sound() -> None:
    page = (ROOT / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith('{"class"')]
    rules = RecordRules(["cat", "dog"], ["model"])
    assert [rules.read(line).kind for line in lines] == ["sentence", "phrase", "sentence"]


def test_limits_in_the_docs_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    for words in (
        f"longer than {limits.MAX_HEADER_BYTES // 2**20} MiB, any other line than {limits.MAX_LINE_BYTES // 2**20} MiB",
        f"deeper than {limits.MAX_DEPTH} levels",
        f"1 to {limits.MAX_TEXT:,} characters",
        f"at most {limits.MAX_REJECTED_TEXT:,} characters",
        f"1 to {limits.MAX_TOKEN} characters",
        f"1 to {limits.MAX_CLASS_NAME:,})",
        f"1 to {limits.MAX_SCORES} names",
    ):
        assert words in page


@pytest.mark.parametrize("page", ["bundle-format.md", "sharing.md"])
def test_python_in_the_docs_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABS_HOME", str(tmp_path / ".abs"))
    monkeypatch.chdir(tmp_path)
    bundle = write_cat(tmp_path / "birds-1.2.0.jsonl", name="birds", version="1.2.0")
    Repository.local(tmp_path / ".abs" / "bundles").add(bundle.path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("/mnt/team", str(tmp_path))
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert bundle.reference in capsys.readouterr().out
