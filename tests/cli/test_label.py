"""`abs label`: what it writes and prints, its exit codes, and what a killed run leaves."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Abs, colour

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(folder: Callable[..., Path]) -> Path:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def small(small_clips: tuple[str, str]) -> tuple[str, ...]:
    """Options for a model that is loaded in no time."""
    return ("--model", small_clips[0], "--attention", "self", "--threads", "1", "--views", "3")


def test_a_folder_is_opened_again_from_any_working_directory(
    abs_command: Abs, photos: Path, small_clips: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, _, place = small_clips[0].partition(":")
    (tmp_path / "texts.txt").write_text("a photo of a {}.\n")
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    model = ("--model", f"{kind}:{os.path.relpath(place)}")
    options = ("--method", "clip-e", "--templates", "texts.txt", "--labels", "cat,car", "--out", "out")
    assert abs_command("label", photos, *options, *model, cache=cache).code == 0
    monkeypatch.chdir("/")
    ran = abs_command("label", "export", tmp_path / "out", "cleanlab", cache=cache)  # needs all probabilities
    assert ran.code == 0, ran.err


def table(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_is_labelled(abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = abs_command("label", photos, "--labels", "cat,car", "--out", out, *small, cache=tmp_path / "cache")
    assert ran.code == 0, ran.err
    rows = table(out)
    assert [row["path"] for row in rows] == [f"{photos}/{name}" for name in ("car/c.png", "cat/a.png", "cat/b.png")]
    assert {row["label"] for row in rows} <= {"cat", "car"}
    *counts, summary, labels = ran.out.splitlines()
    assert sum(int(line.split()[0]) for line in counts) == 3
    assert summary.startswith("3 images: ")
    assert labels == f"labels: {out / 'labels.csv'}"
    assert "note: 1 left out: not an image (" in ran.err
    assert ran.err.splitlines()[-1].startswith("computed: 3 of 3 images")
    again = abs_command("label", photos, "--labels", "cat,car", "--out", out, *small, cache=tmp_path / "cache")
    assert again.code == 0
    assert again.err.splitlines()[-1].startswith("computed: nothing")
    assert table(out) == rows


def test_an_image_that_cannot_be_read_is_exit_code_3(
    abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    (photos / "damaged.JPG").write_bytes(b"\xff\xd8 no image")
    ran = abs_command("label", photos, "--labels", "cat,car", "--out", tmp_path / "out", "--json", *small)
    assert ran.code == 3
    summary = json.loads(ran.out)
    assert summary["statuses"]["failed"] == 1
    assert summary["images"] == 4
    assert summary["labelled_now"] == 4
    assert summary["folder"] == str(tmp_path / "out")


def test_the_options_reach_the_library(abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    formats = ("--format", "jsonl", "--format", "parquet", "--doubtful-first")
    rejected = ("--none", "--negatives", "dog,house", "--threshold", "1", "--method", "abs-pixels")
    ran = abs_command("label", photos, "--labels", "cat,car", "--out", out, *small, *formats, *rejected)
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert (out / "labels.parquet").is_file()
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)
    assert {row["status"] for row in rows} <= {"doubtful", "rejected"}
    assert all(row["known"] is not None for row in rows)
    run = json.loads((out / "run.json").read_text())
    assert run["identity"]["negatives"] == ["dog", "house"]
    assert run["identity"]["method"] == "abs-pixels"
    assert run["settings"]["attention"] == "self"


def test_labels_are_exported_after_the_run_and_by_a_command_of_its_own(
    abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    arguments = ("label", photos, "--labels", "cat,car", "--out", out, "--threshold", "0", *small)
    for _ in range(2):  # the second one replaces the first
        ran = abs_command(*arguments, "--export", "cleanlab", "--export", "imagefolder", cache=cache)
        assert ran.code == 0, ran.err
        assert f"3 labels exported to {out / 'exports' / 'cleanlab'} (0 reviewed)" in ran.out
    probabilities = np.load(out / "exports" / "cleanlab" / "pred_probs.npy")
    labels = np.load(out / "exports" / "cleanlab" / "labels.npy")
    confidences = probabilities[np.arange(3), labels]
    np.testing.assert_allclose(confidences, [float(row["confidence"]) for row in table(out)], atol=1e-5)
    sure = [Path(row["path"]).name for row in table(out) if row["status"] == "labelled"]
    assert sorted(path.name for path in (out / "exports" / "imagefolder").rglob("*.png")) == sorted(sure)
    again = abs_command("label", "export", out, "cleanlab", cache=cache)
    assert again.code == 2
    assert "--replace" in again.err
    ran = abs_command(*arguments, "--export", "coco", "--json", cache=cache)
    assert json.loads(ran.out)["exports"] == [str(out / "exports" / "coco")]


def test_bad_input(abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("cat\n")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("label", tmp_path / "nowhere", "--labels", "cat,car"), "does not exist"),
        (("label", photos, "--labels", tmp_path / "one.txt"), "one class leaves nothing to choose"),
        (("label", photos), "candidate classes are not given"),
        (("label", photos, "--labels", "cat,car", "--negatives", "dog,house"), "negatives have no effect without none"),
        (("label", photos, "--labels", "cat,car", "--method", "tda", "--templates", "plain"), "depend on the images"),
    ]
    for arguments, message in cases:
        options = small[:-2] if "tda" in arguments else small
        ran = abs_command(*arguments, "--out", tmp_path / "out", *options)
        assert ran.code == 2, ran.err
        assert message in ran.err
        assert not (tmp_path / "out").exists()


def test_a_folder_called_as_a_sub_command_is_written_with_its_place(
    abs_command: Abs, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("review").mkdir()
    colour(1).save("review/a.png")
    ran = abs_command("label", "./review", "--labels", "cat,car", "--out", "out", *small)
    assert ran.code == 0, ran.err
    assert [row["path"] for row in table(Path("out"))] == ["./review/a.png"]


def test_the_help_names_the_sub_commands(abs_command: Abs) -> None:
    ran = abs_command("label", "--help")
    for name in ("review", "merge", "learn", "export"):
        assert f"abs label {name}" in ran.out
        assert f"abs label {name} " in abs_command("label", name, "--help").out
