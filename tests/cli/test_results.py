"""Result files: what is in them, that nothing overwrites them, that other tools and later versions can read them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet
import pytest
from support import Abs, colour

from abs_classify.evaluation.records import FORMAT_VERSION, Run, redacted, result_schema, split_model
from abs_classify.evaluation.results_folder import ResultsFolder, read_result
from abs_core.errors import StorageError

ROOT = Path(__file__).parents[2]
PLAIN = ("--threads", "1", "--attention", "self")
FEW = (*PLAIN, "--views", "2")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Seven photos of seven classes, so that top-5 says something."""
    for at, label in enumerate(("ant", "bee", "cat", "dog", "eel", "fox", "gnu")):
        path = tmp_path / "data" / label / "one.png"
        path.parent.mkdir(parents=True)
        colour(at, (24, 20)).save(path)
    return tmp_path / "data"


@pytest.fixture
def run(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> Callable[..., list[Path]]:
    """Evaluates the photos with some options and returns the result files of that run, in name order."""

    def evaluate(*options: str | Path, methods: str = "clip,abs") -> list[Path]:
        before = set((abs_command.home / "results").glob("*"))
        base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", methods)
        ran = abs_command(*base, *options, *(FEW if "abs" in methods.split(",") else PLAIN))
        assert ran.code == 0, ran.err
        (new,) = set((abs_command.home / "results").glob("*")) - before
        return sorted(new.iterdir())

    return evaluate


def test_a_result_file_is_valid_and_holds_what_can_change_a_number(run: Callable[..., list[Path]]) -> None:
    files = run()
    assert len(files) == 2
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text(encoding="utf-8"))
    assert schema == json.loads(json.dumps(result_schema())), (
        "write docs/results.schema.json again from result_schema()"
    )
    for path in files:
        value = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator(schema).validate(value)
        found = value["details"]
        digests = [found["classes"]["digest"], found["texts"]["digest"]]
        digests += [found["data"]["images_digest"], found["data"]["labels_digest"]]
        digests += [found["weights"]["tower"], found["weights"]["attention"]]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in digests)
        assert found["weights"]["device"] == "cpu"
        assert found["weights"]["dtype"] == "float32"
        assert {"python", "torch", "pillow", "abs-toolkit"} <= found["versions"].keys()
        assert {"identify", "load", "read", "encode", "match", "texts"} <= found["run"]["stage_seconds"].keys()
        assert 0 < sum(found["run"]["stage_seconds"].values()) <= found["run"]["seconds"] + 1
    broken = json.loads(files[0].read_text(encoding="utf-8"))
    broken["metrics"]["acc1"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(broken)


def test_clip_benchmark_reads_the_files(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    # what `clip_benchmark build` does with each file: metrics and all other keys become columns
    rows = []
    for path in run():
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        row = {**value["metrics"], **{name: part for name, part in value.items() if name != "metrics"}}
        row["model_fullname"] = value["model"] + " " + value["pretrained"]
        rows.append(row)
    wanted = {"dataset", "model", "pretrained", "task", "language", "acc1", "acc5", "mean_per_class_recall"}
    for row in rows:
        assert wanted <= row.keys()
        assert all(isinstance(row[name], str) for name in ("dataset", "model", "pretrained", "task", "language"))
        assert 0 <= row["acc1"] <= row["acc5"] <= 1
        assert row["task"] == "zeroshot_classification"


def test_the_metrics_are_those_of_the_predictions(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = run("--predictions", tmp_path / "all.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 7
    for path in files:
        record = read_result(path)
        own = [line for line in lines if line["method"] == record.method]
        ranks = np.array([line["rank"] for line in own])
        assert record.metrics.acc1 == pytest.approx((ranks == 1).mean())
        assert record.metrics.acc5 == pytest.approx((ranks <= 5).mean())
        recalls = [
            np.mean([line["correct"] for line in own if line["label"] == label])
            for label in sorted({line["label"] for line in own})
        ]
        assert record.metrics.mean_per_class_recall == pytest.approx(np.mean(recalls))
        for line in own:
            assert line["correct"] == (line["top"][0] == line["label"])
            assert line["scores"] == sorted(line["scores"], reverse=True)
            assert len(line["top"]) == len(line["scores"]) == 5
            assert Path(line["path"]).parent.name == line["label"]
            assert line["image"].startswith("sha256:")


def test_predictions_as_parquet_are_those_of_jsonl(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    run("--predictions", tmp_path / "all.jsonl", "--seeds", "2")
    run("--predictions", tmp_path / "all.parquet", "--seeds", "2")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert rows == lines
    assert {(row["method"], row["seed"]) for row in rows} == {("clip", 0), ("abs", 0), ("abs", 1)}


def test_predictions_go_nowhere_but_to_two_kinds_of_files(abs_command: Abs, data: Path, tmp_path: Path) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--method", "clip")
    assert ".jsonl" in abs_command.refuses(*base, "--predictions", tmp_path / "all.xlsx")


def test_runs_never_overwrite_one_another(run: Callable[..., list[Path]]) -> None:
    first, second = run(), run()
    assert not set(first) & set(second)
    assert all(path.exists() for path in [*first, *second])
    record = read_result(first[0])
    folder = ResultsFolder(first[0].parents[1])
    content = first[0].read_bytes()
    with pytest.raises(StorageError, match="exists"):
        folder.write(record)
    assert first[0].read_bytes() == content
    assert sorted(first[0].parent.iterdir()) == first


def test_runs_of_one_second_stand_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    began = [Run.now().id for _ in range(200)]
    for name in began:
        (tmp_path / name).mkdir()
    assert [path.name for path in ResultsFolder(tmp_path).runs()] == began


def test_a_csv_with_one_row_for_each_result(
    run: Callable[..., list[Path]], abs_command: Abs, tmp_path: Path, small_clips: tuple[str, str]
) -> None:
    files = run("--export-csv", tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == ["clip", "abs"]
    records = {record.method: record for record in map(read_result, files)}
    for row in rows:
        assert float(row["acc1"]) == records[row["method"]].metrics.acc1
        assert row["model_fullname"] == f"{row['model']} {row['pretrained']}"
    shown = abs_command("results", "show", "last", "--export-csv", tmp_path / "again.csv")
    assert shown.code == 0, shown.err
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "all.csv").read_text()


def test_a_csv_runs_no_formula(
    abs_command: Abs, tmp_path: Path, small_clips: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = '=HYPERLINK("http://x")'
    made = tmp_path / "own.tsv"
    made.write_text("cat\tA cat.\ndog\tA dog.\n")
    colour(1).save(tmp_path / "a.png")
    (tmp_path / "photos.csv").write_text("path,label\na.png,cat\n")
    base = ("eval", "--dataset", f"csv:{tmp_path / 'photos.csv'}", "--labels", "cat,dog", "--method", "clip")
    ran = abs_command(*base, "--model", small_clips[0], *PLAIN)
    assert ran.code == 0, ran.err
    (path,) = (abs_command.home / "results").rglob("*.json")
    value = json.loads(path.read_text())
    (tmp_path / "hostile.json").write_text(json.dumps({**value, "dataset": hostile, "bundle": "@SUM(1)"}))
    abs_command("results", "show", tmp_path / "hostile.json", "--export-csv", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["dataset"] == f"'{hostile}"
    assert row["bundle"] == "'@SUM(1)"


def test_every_text_that_was_encoded_can_be_listed(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = run("--texts", tmp_path / "texts.jsonl", methods="clip,cupl")
    lines = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    for path in files:
        found = read_result(path).details.texts
        own = [line for line in lines if line["texts_digest"] == found.digest]
        assert sum(not line["label"] for line in own) == found.count
        assert {line["class"] for line in own} == {"ant", "bee", "cat", "dog", "eel", "fox", "gnu"}
    assert {"a photo of a cat."} <= {line["text"] for line in lines}


def test_show_prints_the_tables_again(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip,abs", *FEW)
    ran = abs_command(*base)
    name = next((abs_command.home / "results").iterdir()).name
    for named in ("last", name, name[:-3], abs_command.home / "results" / name):
        shown = abs_command("results", "show", named)
        assert (shown.code, shown.out) == (0, ran.out)
    listed = abs_command("results", "ls")
    assert name in listed.out
    assert "abs, clip" in listed.out
    (row,) = json.loads(abs_command("results", "ls", "--json").out)
    assert (row["results"], row["unreadable"]) == (2, 0)
    other = abs_command(*base, "--seed", "7")
    assert other.code == 0
    both = abs_command("results", "show", *sorted((abs_command.home / "results").iterdir()))
    rows = [line for line in both.out.splitlines() if re.match(r"20\d{6}T", line)]
    assert len(rows) == 4


def test_two_runs_are_compared_image_by_image(
    abs_command: Abs, data: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--methods", "clip,abs", *FEW)
    ran = [
        abs_command(*base, "--model", model, "--predictions", tmp_path / f"{at}.jsonl")
        for at, model in enumerate(small_clips)
    ]
    assert all(one.code == 0 for one in ran)
    runs = ResultsFolder(abs_command.home / "results").runs()
    by_model = {read_result(next(run.iterdir())).details.weights.name: run for run in runs}
    shown = abs_command("results", "compare", by_model[small_clips[0]], by_model[small_clips[1]])
    assert shown.code == 0, shown.err
    for method in ("clip", "abs"):
        right = []
        for at in range(2):
            lines = map(json.loads, (tmp_path / f"{at}.jsonl").read_text().splitlines())
            right.append([line["correct"] for line in lines if line["method"] == method])
        first_only = sum(a and not b for a, b in zip(*right, strict=True))
        second_only = sum(b and not a for a, b in zip(*right, strict=True))
        row = next(line for line in shown.out.splitlines() if f"  {method}  " in line)
        assert row.split(method)[1].split()[:3] == ["7", str(first_only), str(second_only)]
    told = json.loads(abs_command("results", "compare", *by_model.values(), "--json").out)["comparisons"]
    other = json.loads(abs_command("results", "compare", *reversed(by_model.values()), "--json").out)["comparisons"]
    for ours, theirs, method in zip(told, other, ("clip", "abs"), strict=True):
        first, second = (read_result(next(run.glob(f"*_{method}-*.json"))) for run in by_model.values())
        assert ours["dataset"] == first.dataset
        for side, record in (("first", first), ("second", second)):
            facts = record.details
            assert ours[side] == {
                "run": facts.run.id,
                "model": facts.weights.name,
                "bundle": record.bundle,
                "classes": facts.classes.source,
                "method": method,
            }
        assert ours["images"] == ours["both"] + ours["first_only"] + ours["second_only"] + ours["neither"] == 7
        assert ours["difference"] == pytest.approx(first.metrics.acc1 - second.metrics.acc1, abs=1e-12)
        assert (ours["low"], ours["high"]) == pytest.approx((-theirs["high"], -theirs["low"]), abs=1e-12)
        assert ours["low"] <= ours["difference"] <= ours["high"]
        assert ours["p_value"] == theirs["p_value"] <= 1
        assert not ours["conclusive"]
    assert abs_command(*base, "--model", small_clips[0], "--limit", "5").code == 0
    line = abs_command.refuses("results", "compare", by_model[small_clips[0]], "last")
    assert "no method on the same images" in line


def without_labels_digest(path: Path) -> None:
    """Make a result file as it was before labels had a digest."""
    value = json.loads(path.read_text(encoding="utf-8"))
    del value["details"]["data"]["labels_digest"]
    path.write_text(json.dumps(value), encoding="utf-8")


def test_other_labels_of_the_same_images_are_no_other_method(
    abs_command: Abs, data: Path, small_clips: tuple[str, str]
) -> None:
    files = sorted(data.rglob("*.png"))[2:4]
    listing = data.parent / "photos.csv"
    base = ("eval", "--dataset", f"csv:{listing}", "--labels", "cat,dog", "--model", small_clips[0], "--method", "clip")
    for labels in (("cat", "dog"), ("dog", "cat")):
        rows = [f"{path},{label}" for path, label in zip(files, labels, strict=True)]
        listing.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
        ran = abs_command(*base, *PLAIN)
        assert ran.code == 0, ran.err
    runs = ResultsFolder(abs_command.home / "results").runs()
    first, second = (next(run.iterdir()) for run in runs)
    digests = [read_result(path).details.data.labels_digest for path in (first, second)]
    for pair in ((runs[0], runs[1]), (first, second)):
        assert "are of the same images with other labels" in abs_command.refuses("results", "compare", *pair)
    tables = abs_command("results", "show", *runs).out.split("\n\n2 data sets, top-1 %")[0]
    assert tables.count(f"csv:{listing}: 2 images, 2 classes\n") == 2
    assert [line.rpartition("labels ")[2] for line in tables.splitlines() if "; labels " in line] == digests
    assert "; labels " not in abs_command("results", "show", runs[0]).out
    # an older file says nothing of its labels
    without_labels_digest(first)
    assert abs_command("results", "compare", *runs).code == 0
    shown = abs_command("results", "show", *runs)
    assert shown.code == 0, shown.err
    assert shown.out.count(f"csv:{listing}") == 1


def test_a_heading_counts_one_image_in_the_singular(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--limit", "1", "--method", "clip", "--model", small_clips[0])
    assert f"imagefolder:{data}: 1 image, 7 classes\n" in abs_command(*base, *PLAIN).out


def test_grids_are_compared_bundle_by_bundle(
    abs_command: Abs, data: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    names = ("one", "two")
    for name in names:
        source = tmp_path / f"{name}.tsv"
        source.write_text("".join(f"{each.name}\tA {each.name}, {name}.\n" for each in sorted(data.iterdir())))
        assert abs_command("bundle", "import", source, "--name", name).code == 0
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip,cupl", *PLAIN)
    assert abs_command(*base, "--bundle", "one", "--bundle", "two").code == 0
    shown = abs_command("results", "compare", "last", "last")
    assert shown.code == 0, shown.err
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("imagefolder:")]
    assert [(row[1].partition("@")[0], row[2]) for row in rows] == [(n, m) for m in ("clip", "cupl") for n in names]
    assert all(row[4:6] == ["0", "0"] for row in rows), "a run does not differ from itself"
    told = json.loads(abs_command("results", "compare", "last", "last", "--json").out)["comparisons"]
    assert [one["first"]["bundle"].partition("@")[0] for one in told if one["first"]["method"] == "cupl"] == list(names)
    assert all(re.fullmatch(r"\w+@1\.0\.0#sha256:[0-9a-f]{64}", one["second"]["classes"]) for one in told)
    head = shown.out.splitlines()[0]
    assert all(f"{name}@1.0.0#sha256:" in head for name in names)
    assert abs_command(*base, "--bundle", "one").code == 0
    grid, single = ResultsFolder(abs_command.home / "results").runs()
    shown = abs_command("results", "compare", single, grid)
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("imagefolder:")]
    assert len(rows) == 4
    assert sum(row[1].startswith("one@") and row[2] == "/" and row[3].startswith("two@") for row in rows) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format_version": FORMAT_VERSION + 1}, r"version 2.*this is version 1.*Update abs-toolkit.*docs/results\.md"),
        ({"format_version": 0}, r"version 0.*Run the evaluation again.*docs/results\.md"),
        ({"format_version": "x"}, r"version 'x'"),
        ({"format": "other"}, r"is no result file of abs"),
        ({"metrics": {"acc1": 2.0, "acc5": None, "mean_per_class_recall": 0.0}}, r"damaged at metrics\.acc1"),
        ({"surplus": 1}, r"damaged at surplus"),
    ],
)
def test_files_of_other_versions_and_damaged_ones_are_refused(
    run: Callable[..., list[Path]], abs_command: Abs, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    path = run(methods="clip")[0]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    line = abs_command.refuses("results", "show", changed)
    assert "changed.json" in line
    assert re.search(expected, line), line
    path.write_text(changed.read_text())
    listed = abs_command("results", "ls")
    assert listed.code == 0
    assert "1 files cannot be read" in listed.out


@pytest.mark.parametrize(
    ("part", "change", "expected"),
    [
        ("seeds", {"seeds": []}, r"damaged at details\.seeds\.seeds"),
        ("seeds", {"acc1": []}, r"damaged at details\.seeds\.acc1"),
        ("top1", {"successes": 99}, r"damaged at details\.top1: .*99 successes in 7 trials"),
        ("top5", {"successes": -1}, r"damaged at details\.top5\.successes"),
        ("top1", {"trials": 0, "successes": 0}, r"damaged at details\.top1\.trials"),
    ],
)
def test_details_that_cannot_be_are_refused_by_file_name(
    run: Callable[..., list[Path]], abs_command: Abs, part: str, change: dict[str, Any], expected: str
) -> None:
    path = run(methods="clip")[0]
    value = json.loads(path.read_text(encoding="utf-8"))
    value["details"][part] |= change
    path.write_text(json.dumps(value), encoding="utf-8")
    line = abs_command.refuses("results", "show", path)
    assert path.name in line
    assert re.search(expected, line), line


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '{"dataset": "x", "metrics": {"acc1": 1}}'])
def test_what_is_no_result_is_refused(abs_command: Abs, tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert "x.json" in abs_command.refuses("results", "show", tmp_path / "x.json")


def test_results_that_are_not_there(abs_command: Abs, tmp_path: Path) -> None:
    assert abs_command("results", "ls").out == ""
    assert "unknown result" in abs_command.refuses("results", "show", "last")
    assert "holds no result files" in abs_command.refuses("results", "show", tmp_path)


def test_damaged_bits_are_named(run: Callable[..., list[Path]], abs_command: Abs) -> None:
    path = run(methods="clip")[0]
    value = json.loads(path.read_text())
    value["details"]["right"] = "AAAA"
    path.write_text(json.dumps(value))
    assert "damaged bits" in abs_command.refuses("results", "compare", path, path)


def test_results_go_where_they_are_sent(
    abs_command: Abs, data: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--method", "clip", *PLAIN)
    assert abs_command(*base, "--results", tmp_path / "here").code == 0
    assert len(list((tmp_path / "here").rglob("*.json"))) == 1
    assert not (abs_command.home / "results").exists()
    (tmp_path / "file").write_text("")
    assert "--results DIR" in abs_command.refuses(*base, "--results", tmp_path / "file" / "here")


def test_a_command_line_keeps_no_credentials() -> None:
    given = [
        "abs",
        "eval",
        "--dataset",
        "wds:https://me:pass@host/x?token=abc&to=y",
        "--api-key",
        "k1",
        "--hf-token=k2",
    ]
    given += ["hf_abcdefghijklmnopq", "imagefolder:./a@b", "--methods", "clip"]
    assert redacted(given) == [
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
