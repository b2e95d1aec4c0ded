"""`abs classify`: what it prints and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support import Abs

QUICK = ("--labels", "cat,car,dog", "--threads", "1")


@pytest.fixture
def photos(folder: Callable[..., Path]) -> list[Path]:
    return sorted(folder(cat=["a.png", "b.png"], car=["c.png"]).rglob("*.png"))


@pytest.fixture
def small(small_clips: tuple[str, str]) -> tuple[str, ...]:
    """Options for a model that is loaded in no time."""
    return (*QUICK, "--model", small_clips[0], "--attention", "self", "--views", "3")


def test_each_photo_with_its_classes_and_the_sentences_that_decided(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...]
) -> None:
    ran = abs_command("classify", *photos, *small, "--top", "2")
    assert ran.code == 0, ran.err
    first, header, *lines = ran.out.splitlines()
    assert re.fullmatch("classes from labels .*#sha256:[0-9a-f]+", first)
    assert header.split() == ["confidence", "score", "class", "image"]
    assert len(lines) == 6 * len(photos)
    for path, start in zip(photos, range(0, len(lines), 6), strict=True):
        best, second, why, *sentences = lines[start : start + 6]
        for row in (best, second):
            assert row.index(row.split()[2]) == header.index("class")
            assert row[header.index("image") :] == str(path)
            assert 0 < float(row.split()[0]) < 1
        (_, score, winner, _), (_, lower, runner_up, _) = best.split(), second.split()
        assert float(score) >= float(lower)
        assert why.strip() == f"why {winner}, not {runner_up}:"
        assert all(re.match(r" +[+-]", sentence) for sentence in sentences)


def test_a_folder_is_taken_apart_as_abs_label_does_it(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photos[0].parents[1]
    (root / "notes.txt").write_text("no image")
    (root / "Thumbs.db").write_bytes(b"junk")
    monkeypatch.chdir(root)
    ran = abs_command("classify", "cat", "car/c.png", ".", *small, "--json")
    assert [json.loads(line)["path"] for line in ran.out.splitlines()] == [
        "cat/a.png",
        "cat/b.png",
        "car/c.png",
        "car/c.png",
    ]
    for left_out in ("not an image (./notes.txt)", "is listed already (./cat)", "(./Thumbs.db)"):
        assert left_out in ran.err
    assert "hint" not in ran.err


def test_many_images_are_hinted_at_another_command(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_cli.commands.classify._MANY", 3)
    hint = "hint: for 3 images, `abs label` writes"
    assert hint in abs_command("classify", *photos, *small).err
    assert hint not in abs_command("classify", *photos[:2], *small).err


def test_a_hostile_name_stays_in_its_row(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], tmp_path: Path
) -> None:
    hostile = tmp_path / "evil\x1b[31m\nrow.png"
    photos[0].rename(hostile)
    ran = abs_command("classify", hostile.parent, *small, "--top", "1")
    assert "\x1b" not in ran.out
    assert sum(line.endswith("evil\\x1b[31m\\nrow.png") for line in ran.out.splitlines()) == 1


@pytest.mark.parametrize("method", ["abs", "clip", "cupl"])
def test_the_confidence_is_that_of_abs_label(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], tmp_path: Path, method: str
) -> None:
    options = [*small, "--method", method]
    if method != "abs":
        options = [option for option in options if option not in ("--views", "3")]
    else:
        options[options.index("3")] = "adaptive"
    assert (
        abs_command("label", photos[0].parents[1], *options, "--out", tmp_path / "out", "--format", "jsonl").code == 0
    )
    labelled = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    classified = [
        json.loads(line) for line in abs_command("classify", photos[0].parents[1], *options, "--json").out.splitlines()
    ]
    assert [row["path"] for row in classified] == [row["path"] for row in labelled]
    for ours, theirs in zip(classified, labelled, strict=True):
        assert ours["ranking"][0]["name"] == theirs["label"]
        assert ours["confidence"] == ours["ranking"][0]["confidence"] == pytest.approx(theirs["confidence"], abs=2e-6)
        assert sum(ranked["confidence"] for ranked in ours["ranking"]) == pytest.approx(1, abs=1e-5)


def test_json_has_one_line_for_each_photo(abs_command: Abs, photos: list[Path], small: tuple[str, ...]) -> None:
    rows = [json.loads(line) for line in abs_command("classify", *photos, *small, "--json").out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in photos]
    for row in rows:
        assert set(row) == {
            "path",
            "image",
            "method",
            "classes_from",
            "model",
            "confidence",
            "ranking",
            "views",
            "remarks",
            "explanation",
        }
        assert row["image"].startswith("sha256:")
        assert {ranked["class"] for ranked in row["ranking"]} == {"cat", "car", "dog"}
        assert row["explanation"]["winner"] == row["ranking"][0]["class"]
        assert row["explanation"]["winner_score"] == pytest.approx(row["ranking"][0]["score"])


def test_the_last_line_says_what_was_computed(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], tmp_path: Path
) -> None:
    cache = tmp_path / "own cache"
    for paths, computed in (
        (photos[:2], "2 of 2 images, 14 of 14 views, 24 of 24 class texts"),
        (photos, "1 of 3 images, 7 of 21 views; the rest came from the cache"),
        (photos, "nothing; everything came from the cache"),
    ):
        ran = abs_command("classify", *paths, *small, cache=cache)
        assert re.fullmatch(f"computed: {computed}; [0-9.]+ s", ran.err.splitlines()[-1])


def test_a_stream_method_has_no_explanation(abs_command: Abs, photos: list[Path], small: tuple[str, ...]) -> None:
    options = [option for option in small if option not in ("--views", "3")]
    ran = abs_command("classify", *photos, *options, "--method", "onzeta", "--json")
    assert [json.loads(line)["explanation"] for line in ran.out.splitlines()] == [None] * 3
    assert "scores depend on the order of the images" in ran.err


def test_a_photo_that_cannot_be_read_stops_the_run_or_is_named(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], tmp_path: Path
) -> None:
    bad, gone = tmp_path / "bad.png", tmp_path / "gone.png"
    bad.write_bytes(b"no image")
    arguments = [photos[0], bad, gone, photos[1], *small]
    for path, place in ((bad, [photos[0], bad]), (gone, [photos[0], gone])):
        line = abs_command.refuses("classify", *place, *small)
        assert path.name in line
        assert "--on-error skip" in line
    ran = abs_command("classify", *arguments, "--on-error", "skip", "--json")
    assert [json.loads(line)["path"] for line in ran.out.splitlines()] == [str(photos[0]), str(photos[1])]
    skipped = [line for line in ran.err.splitlines() if line.startswith("skipped ")]
    assert [line.split(":")[0] for line in skipped] == [f"skipped {bad}", f"skipped {gone}"]
    for nothing in ([bad], [gone, gone]):
        line = abs_command.refuses("classify", *nothing, *small, "--on-error", "skip")
        assert "none of the images could be read" in line


@pytest.mark.slow
def test_a_page_and_a_picture_for_each_photo(
    abs_command: Abs, photos: list[Path], small: tuple[str, ...], tmp_path: Path
) -> None:
    ran = abs_command("classify", *photos, *small, "--report", tmp_path / "out", "--png", tmp_path / "pictures")
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for path in photos:
        assert path.name in page
    assert "3 images, 3 classes" in page
    assert page.count('<script type="text/plain" id="picture-') == 3
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["0001-c.png", "0002-a.png", "0003-b.png"]
    with Image.open(tmp_path / "pictures" / pictures[0]) as picture:
        assert min(picture.size) > 100
