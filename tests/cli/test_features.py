"""`abs features`: what it writes and prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import Abs

from abs_classify import encode


@pytest.fixture
def photos(folder: Callable[..., Path]) -> Path:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def small(small_clips: tuple[str, str]) -> tuple[str, ...]:
    """Options for a model that is loaded in no time."""
    return ("--model", small_clips[0], "--attention", "self", "--threads", "1")


def test_a_file_of_features_of_images_and_classes(
    abs_command: Abs, photos: Path, small: tuple[str, ...], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "photos.npz"
    ran = abs_command("features", photos, "--out", out, "--labels", "cat,car", *small, cache=tmp_path / "cache")
    assert ran.code == 0, ran.err
    assert ran.out == f"3 images and 2 classes, 16 numbers an image: {out}\n"
    assert "note: 1 left out: not an image (notes.txt)" in ran.err.splitlines()
    assert ran.err.splitlines()[-1].startswith("computed: 3 of 3 images, 3 of 3 views, 16 of 16 class texts; ")
    encoded = encode(photos, ["cat", "car"], small_clips[0])
    assert encoded.classes is not None
    with np.load(out, allow_pickle=False) as file:
        np.testing.assert_allclose(file["features"], encoded.features, atol=1e-6)
        np.testing.assert_allclose(file["class_features"], encoded.classes.features, atol=1e-6)
        assert file["names"].tolist() == [str(photos / place) for place in ("car/c.png", "cat/a.png", "cat/b.png")]
    again = abs_command("features", photos, "--out", out, "--labels", "cat,car", *small, cache=tmp_path / "cache")
    assert again.err.splitlines()[-1].startswith("computed: nothing; everything came from the cache; ")


def test_the_options_reach_the_library(
    abs_command: Abs, photos: Path, small: tuple[str, ...], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "views.parquet"
    arguments = ("--of", "views", "--views", "2", "--method", "abs-pixels", "--seed", "3", "--labels", "cat,car")
    ran = abs_command("features", f"imagefolder:{photos}", "--out", out, *arguments, "--class-rows", "each", *small)
    assert ran.code == 0, ran.err
    classes = tmp_path / "views.classes.parquet"
    assert ran.out == f"3 images and 16 class texts, 2 x 16 numbers an image: {out}, {classes}\n"
    table = pq.read_table(out)
    assert table["label"].to_pylist() == ["car"] * 2 + ["cat"] * 4
    options: dict[str, Any] = {"of": "views", "views": 2, "method": "abs-pixels", "seed": 3, "attention": "self"}
    expected = encode(photos, model=small_clips[0], **options).features
    np.testing.assert_allclose(np.array(table["features"].to_pylist()).reshape(3, 2, 16), expected, atol=1e-6)
    prompts = ("--labels", "cat,car", "--method", "clip-e", "--templates", "dtd")
    ran = abs_command("features", photos, "--out", tmp_path / "t.npz", *prompts, *small)
    assert ran.out.startswith("3 images and 2 classes, 16 numbers")
    with np.load(tmp_path / "t.npz") as file:
        assert json.loads(str(file["info"]))["classes"]["method"] == "clip-e"


def test_json_says_what_was_written_and_an_image_that_cannot_be_read_is_named(
    abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    bad, out = photos / "cat" / "bad.png", tmp_path / "photos.safetensors"
    bad.write_bytes(b"no image")
    line = abs_command.refuses("features", photos, "--out", out, *small)
    assert "bad.png" in line
    assert "--on-error skip" in line
    assert not out.exists()
    ran = abs_command("features", photos, "--out", out, "--on-error", "skip", "--json", *small)
    assert ran.code == 0, ran.err
    value = json.loads(ran.out)
    assert (value["files"], value["images"], value["shape"], value["class_rows"]) == ([str(out)], 3, [16], 0)
    assert [image["path"] for image in value["skipped"]] == [str(bad)]
    assert value["info"]["of"] == "full-image"
    assert value["remarks"][0]["count"] == 1
    assert any(line.startswith(f"skipped {bad}: ") for line in ran.err.splitlines())
    bad.write_bytes((photos / "cat" / "a.png").read_bytes()[:-50])
    ran = abs_command("features", photos, "--out", out, "--truncated", "accept", "--json", *small)
    assert json.loads(ran.out)["images"] == 4


def test_a_wrong_file_or_option_is_found_before_any_work(
    abs_command: Abs, photos: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["--out", tmp_path / "photos.csv"], "ends in .parquet, .npz or .safetensors"),
        (["--out", tmp_path / "file" / "photos.npz"], "cannot write in"),
        (["--out", tmp_path], "is a directory"),
        (["--out", tmp_path / "a.npz", "--views", "2"], "views has no effect"),
        (["--out", tmp_path / "a.npz", "--labels", "cat,car", "--bundle", "pets"], "both give the candidate classes"),
        (["--out", tmp_path / "a.npz", "--bundle", "birdz"], "birdz"),
    ):
        ran = abs_command("features", photos, *arguments, *small)
        assert ran.code == 2
        assert message in ran.err
        assert "loading" not in ran.err
