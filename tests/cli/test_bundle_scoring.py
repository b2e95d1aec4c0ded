"""`abs bundle score`: tables, JSON, CSV and a folder; what it keeps, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_samples import import_texts
from support import Abs

from abs_core.bundle_scores import BundleScores

TEXTS = [f"{name}\tA {name} has {part}." for name in ("ant", "bee") for part in ("legs", "eyes", "=HYPERLINK(1)")]


@pytest.fixture
def small(abs_command: Abs, small_clips: tuple[str, str]) -> Callable[..., tuple[str, ...]]:
    """The words of a command that scores a bundle of two classes with a small model."""
    import_texts(abs_command, "pets", *TEXTS)

    def words(*more: str | Path) -> tuple[str, ...]:
        settings = ("--model", small_clips[0], "--attention", "self", "--views", "2")
        return ("bundle", "score", "pets", *settings, *map(str, more))

    return words


def test_scores_of_a_data_set_in_every_form(
    abs_command: Abs, small: Callable[..., tuple[str, ...]], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = f"imagefolder:{image_folder('two', ant=3, bee=3)}"
    ran = abs_command(*small("--dataset", dataset, "--out", tmp_path / "out", "--export-csv", tmp_path / "a.csv"))
    assert ran.code == 0, ran
    assert "6 images, " in ran.out
    assert f" and {tmp_path / 'a.csv'} and {tmp_path / 'out'}\n" in ran.err
    assert "sentences that cost most (points of top-1, 95 % interval; images won and lost)" in ran.out
    assert "classes that do worse than by their name alone" in ran.out
    scores = BundleScores.read(tmp_path / "out" / "scores.json")
    assert scores.source == dataset
    assert scores == BundleScores.read(BundleScores.path_in(abs_command.home / "scores", scores.bundle))
    assert (tmp_path / "out" / "scores.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert "HYPERLINK" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["class_id"] for row in rows] == ["ant"] * 3 + ["bee"] * 3
    gain = scores.sentences[0].gain
    assert gain is not None
    assert (rows[0]["won"], rows[0]["lost"]) == (str(gain.won), str(gain.lost))
    again = abs_command(*small("--dataset", dataset, "--json"))
    assert "everything came from the cache" in again.err
    repeated = BundleScores.model_validate_json(again.out)
    assert repeated.model_copy(update={"created": scores.created}) == scores


def test_images_without_labels(
    abs_command: Abs, small: Callable[..., tuple[str, ...]], image_folder: Callable[..., Path]
) -> None:
    folder = image_folder("two", ant=3, bee=3)
    ran = abs_command(*small("--images", folder, "--limit", "4", "--examples", "0"))
    assert "sentences that images use most" in ran.out
    assert "labels and the class that comes second most often" in ran.out
    assert "cost most" not in ran.out
    assert "note: the first 4 of 6 images: no random sample" in ran.out


def test_what_cannot_be_scored_is_refused(
    abs_command: Abs, small: Callable[..., tuple[str, ...]], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    others = f"imagefolder:{image_folder('other', ant=1, cow=1)}"
    assert "the class 'cow' of the data set" in abs_command.refuses(*small("--dataset", others))
    assert "the images are not given" in abs_command.refuses(*small())
    assert "both given" in abs_command.refuses(*small("--dataset", others, "--images", others))
    assert "no images in" in abs_command.refuses(*small("--images", abs_command.home / "bundles"))
    adaptive = small("--dataset", others)[:-4]
    assert "views must be a number" in abs_command.refuses(*adaptive, "--views", "adaptive", "--dataset", others)
    refused = abs_command.refuses(*small("--dataset", others, "--method", "clip-e"))
    assert "the method 'clip-e' cannot score the sentences of a bundle: it does not look at descriptions" in refused
    assert "Choose one of clip-d, clip-d-wca, cupl, wca, abs" in refused
    (tmp_path / "file").write_text("")
    assert "cannot write in" in abs_command.refuses(*small("--dataset", others, "--out", tmp_path / "file" / "out"))
    assert not list((abs_command.home / "scores").iterdir())
    assert "'pest'" in abs_command.refuses("bundle", "score", "pest", "--dataset", others)


def test_json_is_the_file(
    abs_command: Abs, small: Callable[..., tuple[str, ...]], image_folder: Callable[..., Path]
) -> None:
    ran = abs_command(*small("--dataset", f"imagefolder:{image_folder('two', ant=1, bee=1)}", "--json"))
    assert json.loads(ran.out)["format"] == "abs-bundle-scores"
