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
    first, *lines = ran.out.splitlines()
    assert re.fullmatch("classes from labels .*#sha256:[0-9a-f]+", first)
    blocks = re.split(r"^(?=/)", "\n".join(lines), flags=re.MULTILINE)[1:]
    assert [block.splitlines()[0] for block in blocks] == [str(path) for path in photos]
    for block in blocks:
        _, best, second, why, *sentences = block.splitlines()
        winner, runner_up = best.split()[1], second.split()[1]
        assert float(best.split()[0]) >= float(second.split()[0])
        assert why.strip() == f"why {winner}, not {runner_up}:"
        assert len(sentences) == 3
        assert all(re.match(r" +[+-]", sentence) for sentence in sentences)


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
        (photos[:2], "2 of 2 images, 12 of 12 views, 24 of 24 class texts"),
        (photos, "1 of 3 images, 6 of 18 views; the rest came from the cache"),
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
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["0001-c.png", "0002-a.png", "0003-b.png"]
    with Image.open(tmp_path / "pictures" / pictures[0]) as picture:
        assert min(picture.size) > 100
