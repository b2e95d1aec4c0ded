"""Result records as files hold them: the schema, other tools, and no credentials."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from evaluations import Bench
from support import ROOT

from abs_classify.evaluation.records import redacted, result_schema, split_model

SCHEMA = ROOT / "docs" / "results.schema.json"


@pytest.mark.slow
def test_a_result_file_is_valid_and_holds_what_can_change_a_number(bench: Bench, seven: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema == result_schema(), "write docs/results.schema.json again from result_schema()"
    files = bench.files(seven)
    assert len(files) == 2
    for path in files:
        value = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator(schema).validate(value)
        details = value["details"]
        digests = [details["classes"]["digest"], details["texts"]["digest"]]
        digests += [details["data"]["images_digest"], details["data"]["labels_digest"]]
        digests += [details["weights"]["tower"], details["weights"]["attention"]]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in digests)
        assert details["weights"]["device"] == "cpu"
        assert details["weights"]["dtype"] == "float32"
        assert {"python", "torch", "pillow", "abs-toolkit"} <= details["versions"].keys()
        assert {"identify", "load", "read", "encode", "match", "texts"} <= details["run"]["stage_seconds"].keys()
        assert 0 < sum(details["run"]["stage_seconds"].values()) <= details["run"]["seconds"] + 1
    broken = json.loads(files[0].read_text(encoding="utf-8"))
    broken["metrics"]["acc1"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(broken)


@pytest.mark.slow
def test_clip_benchmark_reads_the_files(bench: Bench, seven: Path) -> None:
    # what `clip_benchmark build` does with each file: metrics and all other keys become columns
    columns = {"dataset", "model", "pretrained", "task", "language", "acc1", "acc5", "mean_per_class_recall"}
    for path in bench.files(seven):
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        row = {**value["metrics"], **{name: part for name, part in value.items() if name != "metrics"}}
        assert columns <= row.keys()
        assert all(isinstance(row[name], str) for name in ("dataset", "model", "pretrained", "task", "language"))
        assert 0 <= row["acc1"] <= row["acc5"] <= 1
        assert row["task"] == "zeroshot_classification"


@pytest.mark.slow
def test_the_base_of_a_run_is_clip_or_else_the_first_method(bench: Bench, seven: Path) -> None:
    for methods, base in (("abs,clip", "clip"), ("cupl,abs", "cupl")):
        differences = {record.method: record.details.difference for record in bench.run(seven, methods)}
        assert differences.pop(base) is None
        (difference,) = differences.values()
        assert difference is not None
        assert difference.second == base


@pytest.mark.slow
def test_a_name_that_is_no_unicode_is_written_as_an_escape(bench: Bench, seven: Path) -> None:
    broken = seven / "cat" / "b\udcff.png"
    broken.write_bytes(b"no image")
    (path,) = bench.files(seven, "clip", on_error="skip")
    (skipped,) = json.loads(path.read_text(encoding="utf-8"))["details"]["data"]["skipped"]
    assert skipped["name"].endswith("b\\udcff.png")


def test_a_command_line_keeps_no_credentials() -> None:
    arguments = ["abs", "eval", "--dataset", "wds:https://me:pass@host/x?token=abc&to=y", "--api-key", "k1"]
    arguments += ["--hf-token=k2", "hf_abcdefghijklmnopq", "imagefolder:./a@b", "--methods", "clip"]
    assert redacted(arguments) == [
        "abs", "eval", "--dataset", "wds:https://***@host/x?token=***&to=y", "--api-key", "***", "--hf-token=***",
        "***", "imagefolder:./a@b", "--methods", "clip",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-16-quickgelu/openai", ("ViT-B-16-quickgelu", "openai")),
        ("ViT-B-16/openai@/a/b.pt", ("ViT-B-16", "openai@/a/b.pt")),
        ("ViT-B-16@/a/b.pt", ("ViT-B-16", "@/a/b.pt")),
        ("embedded", ("embedded", "")),
        ("hf-hub:org/repo", ("hf-hub:org/repo", "")),
    ],
)
def test_the_two_names_of_a_model(name: str, expected: tuple[str, str]) -> None:
    assert split_model(name) == expected
