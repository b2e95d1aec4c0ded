"""What 0.1.0 wrote is read, resumed and named by the commands of today; `from_0_1_0/README.md` says what there is."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from servers import BatchServer, ChatServer, Server, completion_body, serving
from support import Abs

from abs_core.extras import installed_version
from abs_descriptions.bundles.repository import Repository

WRITTEN = Path(__file__).parent / "from_0_1_0" / "written"
RUNS = sorted(folder.name for folder in (WRITTEN / "home" / "results").iterdir())
LANGUAGE_MODEL = ("--model", "m", "--base-url", "http://models.example/v1")
VOLES = ("gen-descriptions", "labels.txt", "--name", "voles", "--per-class", "4", "--prompts", "prompts.yaml")


@pytest.fixture
def old(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Abs:
    """Today's command line with a copy of the home of 0.1.0, in the folder in which that was used."""
    folder = tmp_path / "written"
    shutil.copytree(WRITTEN, folder)
    monkeypatch.chdir(folder)
    return Abs(folder / "home", folder / "home" / "cache", capsys)


@contextmanager
def reached_as_models_example(server: Server, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever its port, a server answers for the host that is in the journals."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        patch.delenv(name, raising=False)
    with serving(server):
        patch.setenv("HTTP_PROXY", f"http://{urlsplit(server.url).netloc}")
        patch.setenv("OPENAI_API_KEY", "k")
        yield


def versions() -> dict[str, str]:
    """The digests of all versions in the store, as 0.1.0 recorded them."""
    paths = (WRITTEN / "home" / "bundles" / "versions").glob("*/*.json")
    return {f"{path.parent.name}@{path.stem}": json.loads(path.read_text(encoding="utf-8"))["digest"] for path in paths}


def reply(body: dict[str, Any]) -> str:
    """A sentence about the class that a prompt ends with."""
    name = body["messages"][-1]["content"].partition(" ")[2]
    return f"A {name} with soft ears and number {body['seed']} on its tail."


def test_bundles_keep_their_digests_and_their_history(old: Abs) -> None:
    listed = json.loads(old("bundle", "ls", "--json").out.splitlines()[0])
    known = {entry["reference"].partition("#")[0]: entry for entry in listed}
    recorded = versions()
    assert len(recorded) == 5
    for name, digest in recorded.items():
        assert known[name]["reference"] == f"{name}#{digest}"
        assert old("bundle", "validate", f"{name}#{digest}").code == 0
    assert known["birds@1.0.0"]["yanked"] == "too short"
    assert old("bundle", "verify", "--local").code == 0
    history = old("bundle", "log", "both").out
    for step in ("by filter all-MiniLM-L6-v2", "by an import", "by Ada (review)", "by openai m", "YANKED: too short"):
        assert step in history


def test_a_bundle_reads_as_it_was_written(old: Abs) -> None:
    store = Repository.local(old.home / "bundles")
    bundle = store.read("birds@1.1.0")
    counts = {name: len(descriptions) for name, descriptions in bundle.descriptions().items()}
    assert counts == {"cat": 2, "dog": 3, "field_vole": 3}
    shown = old("bundle", "show", "birds@1.1.0").out
    assert "records    8 (1 accepted, 0 edited), rejected 1" in shown
    assert "license    CC0-1.0" in shown


def test_a_store_of_then_is_pulled_from_and_pushed_to(
    old: Abs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = old.home / "bundles"
    new = Abs(tmp_path / "new", old.cache, capsys)
    pulled = new("bundle", "pull", "both", there, "--with-parents")
    assert pulled.code == 0, pulled.err
    assert set(pulled.out.splitlines()) == {f"{name}#{digest}" for name, digest in versions().items()}
    imported = new("bundle", "import", "cupl.json", "--name", "more")
    assert imported.code == 0, imported.err
    assert new("bundle", "push", "more", there).code == 0
    assert "more@1.0.0" in old("bundle", "ls").out


def test_a_review_file_of_then_makes_a_child(old: Abs) -> None:
    (path,) = Path("review").glob("*.csv")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[-1]["decision"] = "reject"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    read = old("bundle", "review", "birds@1.0.0", "--read", path, "--reviewer", "Bob", "--fork")
    assert read.code == 0, read.err
    assert read.out.startswith("birds@1.2.0#sha256:")
    assert "records    8, rejected 1" in old("bundle", "show", "birds@1.2.0").out


def test_results_are_listed_shown_and_compared(old: Abs) -> None:
    assert [line.split()[0] for line in old("results", "ls").out.splitlines()] == RUNS
    shown = old("results", "show", *RUNS)
    assert shown.code == 0, shown.err
    assert "66.7 [30.0, 90.3]" in shown.out
    compared = old("results", "compare", *RUNS)
    assert compared.code == 0, compared.err
    assert any(line.split()[:5] == ["imagefolder:./images", "abs", "6", "2", "1"] for line in compared.out.splitlines())
    assert "the changelog says what changed" not in compared.out
    refused = old.refuses("results", "classes", RUNS[0])
    assert "has no predictions of each image. Run the evaluation again" in refused


@pytest.mark.slow
def test_the_cache_of_then_is_left_alone_and_a_new_run_is_compared_with_an_old_one(
    old: Abs, small_clips: tuple[str, str]
) -> None:
    former = {path: path.read_bytes() for path in (old.cache / "v1").rglob("*") if path.is_file()}
    assert len(former) == 6
    run = ("eval", "--dataset", "imagefolder:./images", "--bundle", "both", "--methods", "clip,abs")
    run += ("--views", "2", "--attention", "self")
    done = old(*run, "--model", small_clips[0])
    assert done.code == 0, done.err
    assert "computed: 6 of 6 images" in done.err
    assert "computed: nothing" in old(*run, "--model", small_clips[0]).err
    compared = old("results", "compare", RUNS[0], "last")
    assert compared.code == 0, compared.err
    assert sum(line.startswith("imagefolder:./images") for line in compared.out.splitlines()) == 2
    assert {path: path.read_bytes() for path in former} == former
    assert "of a former version, which nothing uses; `abs cache prune --former` removes it" in old("cache", "ls").out
    assert old("cache", "verify").code == 0
    assert old("cache", "prune", "--former").out.startswith(f"removed {old.cache / 'v1'}")
    assert not (old.cache / "v1").exists()
    assert "computed: nothing" in old(*run, "--model", small_clips[0]).err


def test_the_record_of_a_run_of_then_is_none_of_today(old: Abs) -> None:
    explained = old("cache", "explain")
    assert (explained.code, explained.out) == (0, "no run has used this cache yet\n")


def test_a_killed_generation_asks_for_the_rest_only(old: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    server = ChatServer(behave=lambda number, body: reply(body))
    with reached_as_models_example(server, monkeypatch):
        done = old(*VOLES, "--backend", "openai", *LANGUAGE_MODEL)
        assert done.code == 0, done.err
        assert "12 replies, 5 of them from the journal" in done.out
        assert len(server.seen) == 7
        again = old(*VOLES, "--backend", "openai", *LANGUAGE_MODEL)
        assert "unchanged: the store has this version already" in again.out
        assert len(server.seen) == 7


def test_a_batch_that_was_under_way_is_collected_and_not_paid_again(old: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    (record,) = (old.home / "journals" / "openai-batch").glob("*.json")
    # servers forget a batch after weeks, and so do records
    record.write_text(json.dumps(json.loads(record.read_text()) | {"created": time.time() - 3600}), encoding="utf-8")
    server = BatchServer(execute=lambda bodies: [(200, completion_body(reply(body))) for body in bodies])
    batch = {"id": "batch_0", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-0"}
    server.batches["batch_0"] = batch | {"completion_window": "24h", "created_at": 0, "status": "in_progress"}
    server.batches["batch_0"] |= {"looks": 0, "fate": "completed"}
    server.files["file-0"] = Path("batch-input.jsonl").read_bytes()
    (old.home / "journals" / "voles.jsonl").unlink()  # its replies would be found for these classes, too
    mice = [argument.replace("voles", "mice") for argument in VOLES]
    with reached_as_models_example(server, monkeypatch):
        done = old(*mice, "--backend", "openai-batch", *LANGUAGE_MODEL, "--poll-interval", "0.01")
    assert done.code == 0, done.err
    assert "12 sentences of 3 classes" in done.out
    assert {seen.method for seen in server.seen} == {"GET"}
    assert list(server.paid.values()) == [1] * 12
    assert not record.exists()


def test_a_finished_generation_is_the_same_bundle(old: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    server = ChatServer()
    command = ("gen-descriptions", "labels.txt", "--name", "birds", "--per-class", "3", "--license", "CC0-1.0")
    with reached_as_models_example(server, monkeypatch):
        done = old(*command, "--backend", "openai", *LANGUAGE_MODEL)
    assert done.out.startswith(f"birds@1.0.0#{versions()['birds@1.0.0']}"), done.err
    assert server.seen == []


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes this code another version of the toolkit."""

    def become(version: str) -> None:
        folder = tmp_path / "site" / f"abs_toolkit-{version}.dist-info"
        folder.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.4\nName: abs-toolkit\nVersion: {version}\n"
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
        monkeypatch.syspath_prepend(folder.parent)
        installed_version.cache_clear()
        assert installed_version("abs-toolkit") == version

    yield become
    monkeypatch.undo()
    installed_version.cache_clear()


@pytest.mark.slow
def test_another_version_alone_computes_no_feature_and_labels_nothing_again(
    old: Abs, small_clips: tuple[str, str], upgrade: Callable[[str], None]
) -> None:
    shared = ("--bundle", "both", "--model", small_clips[0], "--attention", "self", "--views", "2")
    evaluate = ("eval", "--dataset", "imagefolder:./images", "--methods", "clip,abs", *shared)
    label = ("label", "images", "--out", "labelled", "--method", "abs", *shared)
    for command in (evaluate, label):
        assert old(*command).code == 0
    before = Path("labelled/labels.csv").read_bytes()
    upgrade("99.0.0")
    assert "computed: nothing" in old(*evaluate).err
    assert "99.0.0" in old("results", "show", "last", "--json").out
    compared = old("results", "compare", RUNS[0], "last").out
    assert "the first run is of abs-toolkit 0.1.0, the second of 99.0.0: the changelog says what changed" in compared
    resumed = old(*label)
    assert resumed.code == 0, resumed.err
    assert Path("labelled/labels.csv").read_bytes() == before
    shutil.copy("images/dog/0.png", "images/dog/2.png")
    assert old(*label).code == 0
    assert len(Path("labelled/labels.csv").read_bytes().splitlines()) == len(before.splitlines()) + 1


@pytest.mark.parametrize(
    ("command", "option", "renamed"),
    [
        (("gen-descriptions", "labels.txt", "--name", "x"), ("--licence", "MIT"), "--license"),
        (("bundle", "import", "cupl.json", "--name", "x"), ("--licence=MIT",), "--license"),
        (("bundle", "merge", "birds", "pets"), ("--licence", "MIT"), "--license"),
        (("bundle", "export", "birds", "x.csv", "--format", "csv"), ("--key", "id"), "--keys"),
        (("eval", "--dataset", "imagefolder:./images"), ("--report-photos", "3"), "--report-images"),
        (("lint", "birds"), ("--labels",), "--label-set"),
    ],
)
def test_an_option_of_then_is_answered_with_its_name_of_today(
    old: Abs, command: tuple[str, ...], option: tuple[str, ...], renamed: str
) -> None:
    name = option[0].partition("=")[0]
    assert f"the option {name!r} is called {renamed!r} now. See `abs {command[0]}" in old.refuses(*command, *option)


def test_the_method_option_of_then_still_works(old: Abs, small_clips: tuple[str, str]) -> None:
    done = old(
        "eval", "--dataset", "imagefolder:./images", "--bundle", "both", "--method", "clip", "--model", small_clips[0]
    )
    assert done.code == 0, done.err
