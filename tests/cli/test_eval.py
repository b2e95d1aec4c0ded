"""`abs eval` and `abs classify` on a user's own images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import Abs, colour

from abs_classify.encoding.stages import Stages

PLAIN = ("--threads", "1")
QUICK = (*PLAIN, "--views", "3")


@pytest.mark.slow
def test_a_folder_of_images_gives_one_table(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--methods", "clip,cupl,wca,abs", *QUICK)
    assert ran.code == 0, ran.err
    for method in ("clip", "cupl", "wca", "abs"):
        assert any(line.startswith(method) for line in ran.out.splitlines())
    assert "3 images, 2 classes" in ran.out
    again = abs_command("eval", "--dataset", f"imagefolder:{root}", "--methods", "clip,cupl,wca,abs", *QUICK)
    assert again.out == ran.out
    assert "everything came from the cache" in again.err
    assert "loading" not in again.err


@pytest.mark.slow
def test_the_result_as_json(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--methods", "clip,abs", "--json", *QUICK)
    clip, attended = json.loads(ran.out)["results"]
    assert [clip["method"], attended["method"]] == ["clip", "abs"]
    assert clip["details"]["data"]["images"] == 3
    assert clip["details"]["difference"] is None
    assert attended["details"]["difference"]["first"] == "abs"
    assert all(one["details"]["texts"]["digest"].startswith("sha256:") for one in (clip, attended))
    assert clip["details"]["weights"]["tower"].startswith("sha256:")
    assert clip["details"]["data"]["skipped"] == []


def test_a_table_with_relative_paths_and_free_columns(abs_command: Abs, tmp_path: Path) -> None:
    colour(1).save(tmp_path / "one.png")
    colour(2).save(tmp_path / "two.png")
    with (tmp_path / "photos.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerows([["place", "path", "label"], ["x", "one.png", "cat"], ["y", "two.png", "sports car"]])
    labels = ("--labels", "cat,dog,sports car")
    ran = abs_command("eval", "--dataset", f"csv:{tmp_path / 'photos.csv'}", *labels, "--method", "clip", *PLAIN)
    assert ran.code == 0, ran.err
    assert "2 images, 3 classes" in ran.out


def odd_images(root: Path) -> list[Path]:
    """One file of every odd kind that is to work, under odd names."""
    root.mkdir(parents=True)
    noise = colour(5)
    noise.convert("CMYK").save(root / "with space.jpg")
    noise.convert("P").save(root / "single'quote.png")
    deep = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(deep).save(root / 'double"quote.png')
    noise.save(root / "emoji 🐈.gif", save_all=True, append_images=[colour(6), colour(7)])
    colour(8, (1, 1)).save(root / "new\nline.png")
    colour(9, (20_000, 30)).save(root / "-leading.png")
    return sorted(root.iterdir())


@pytest.mark.slow
def test_odd_images_under_odd_names(abs_command: Abs, tmp_path: Path) -> None:
    odd = odd_images(tmp_path / "photos" / "cat")
    root = tmp_path / "photos"
    ran = abs_command(
        "eval", "--dataset", f"imagefolder:{root}", "--labels", "cat,car", "--methods", "clip,wca,abs", *QUICK
    )
    assert ran.code == 0, ran.err
    assert f"{len(odd)} images" in ran.out
    report = ("--report", tmp_path / "page.html")
    ran = abs_command("classify", *odd, "--labels", "cat,car", "--json", *report, *QUICK)
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in odd]
    assert (tmp_path / "page.html").stat().st_size > 10_000
    ran = abs_command("classify", *odd, "--labels", "cat,car", *QUICK)
    assert "new\\nline.png" in ran.out


@pytest.mark.slow
def test_a_bad_image_stops_the_run_or_is_counted(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    (root / "cat" / "b.png").write_bytes(b"no image")
    spec = f"imagefolder:{root}"
    line = abs_command.refuses("eval", "--dataset", spec, "--method", "clip", *PLAIN)
    assert "b.png" in line
    assert "--on-error skip" in line
    ran = abs_command("eval", "--dataset", spec, "--method", "clip", "--on-error", "skip", "--json", *PLAIN)
    (result,) = json.loads(ran.out)["results"]
    assert result["details"]["data"]["images"] == 2
    assert [Path(one["name"]).name for one in result["details"]["data"]["skipped"]] == ["b.png"]
    assert any("skipped" in line and "b.png" in line for line in result["details"]["warnings"])


@pytest.mark.slow
def test_scores_do_not_depend_on_batches_or_order(abs_command: Abs, tmp_path: Path) -> None:
    for seed in range(5):
        colour(seed, (90, 70)).save(tmp_path / f"{seed}.png")
    photos = sorted(tmp_path.glob("*.png"))

    def scores(order: list[Path], batch: str) -> dict[str, dict[str, float]]:
        cache = tmp_path / f"cache-{batch}"
        options = ("--labels", "cat,car,grass", "--batch-size", batch, "--json", *QUICK)
        ran = abs_command("classify", *order, *options, cache=cache)
        rows = [json.loads(line) for line in ran.out.splitlines()]
        return {row["path"]: {one["class"]: one["score"] for one in row["ranking"]} for row in rows}

    first, second = scores(photos, "64"), scores(photos[::-1], "2")
    for path, row in first.items():
        assert row == pytest.approx(second[path], rel=2e-4, abs=2e-4)


@pytest.mark.slow
def test_a_control_changes_the_texts_and_says_so(abs_command: Abs, folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder(cat=["a.png"], car=["c.png"])
    source = tmp_path / "own.tsv"
    source.write_text("cat\tA cat has whiskers and soft fur.\ncar\tA car has four wheels and doors.\n")
    made = abs_command("bundle", "import", source, "--name", "own")
    assert made.code == 0, made.err
    plain = abs_command(
        "eval", "--dataset", f"imagefolder:{root}", "--bundle", "own", "--method", "cupl", "--json", *PLAIN
    )
    options = ("--bundle", "own", "--method", "cupl", "--control", "swap", "--json")
    swapped = abs_command("eval", "--dataset", f"imagefolder:{root}", *options, *PLAIN)
    before, after = (json.loads(ran.out)["results"][0]["details"] for ran in (plain, swapped))
    assert before["texts"]["digest"] != after["texts"]["digest"]
    assert (before["texts"]["control"], after["texts"]["control"]) == (None, "swap")
    assert any("control swap" in note for note in after["notes"])


def test_a_number_of_views_that_no_method_has_is_refused(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], car=["c.png"])
    for command in (
        ("eval", "--dataset", f"imagefolder:{root}", "--methods", "clip,cupl,tda", *QUICK),
        ("classify", root / "cat" / "a.png", "--labels", "cat,car", "--method", "clip", *QUICK),
    ):
        line = abs_command.refuses(*command)
        assert "views has no effect" in line
        assert ("clip, cupl, tda" if command[0] == "eval" else "only the full image: clip.") in line
        assert "such as abs" in line


@pytest.mark.parametrize("method", ["tda", "dmn", "onzeta"])
def test_a_stream_method_says_that_order_matters(abs_command: Abs, folder: Callable[..., Path], method: str) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--method", method, *PLAIN)
    assert ran.code == 0, ran.err
    assert f"note: {method}: scores depend on the order" in ran.out


def test_the_texts_of_a_stream_method_are_encoded_before_any_image(
    abs_command: Abs, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    colour(990).save(root / "cat" / "a.png")  # so that no other test's cache has this shard
    order = []

    def note(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            order.append(name)
            return work(*args)

        return noted

    monkeypatch.setattr(Stages, "_load_texts", note("texts", Stages._load_texts))
    monkeypatch.setattr(Stages, "_encode", note("images", Stages._encode))
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--method", "tda", *PLAIN)
    assert ran.code == 0, ran.err
    assert order == ["texts", "images"]


def test_a_bad_image_of_a_stream_method_alone(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    (root / "cat" / "b.png").write_bytes(b"no image")
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--method", "tda", *PLAIN)
    assert "b.png" in abs_command.refuses(*arguments)
    ran = abs_command(*arguments, "--on-error", "skip")
    assert ran.code == 0, ran.err
    assert "2 images, 2 classes" in ran.out


def test_an_unknown_bundle_lists_the_store_and_the_shipped(abs_command: Abs, tmp_path: Path) -> None:
    source = tmp_path / "own.tsv"
    source.write_text("cat\tA cat has whiskers and soft fur.\n")
    assert abs_command("bundle", "import", source, "--name", "own").code == 0
    assert "valid: own, pets, textures" in abs_command.refuses("bundle", "show", "magic")
    assert "valid: own@1.0.0" in abs_command.refuses("bundle", "show", "own@2.0.0")
    assert "pets@1.0.0#sha256:" in abs_command.refuses("bundle", "show", "pets@2.0.0")


def test_json_with_a_file_name_that_is_no_unicode(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png", "b.png"])
    broken = root / "cat" / "b\udcff.png"
    (root / "cat" / "b.png").rename(broken)
    broken.write_bytes(b"no image")
    options = ("--labels", "cat,car", "--method", "clip", "--on-error", "skip", "--json")
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", *options, *PLAIN)
    assert ran.code == 0, ran.err
    (result,) = json.loads(ran.out)["results"]
    assert result["details"]["data"]["skipped"][0]["name"].endswith("b\\udcff.png")


def test_too_few_views_for_mta_are_refused_before_any_work(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], car=["c.png"])
    few = ("eval", "--dataset", f"imagefolder:{root}", "--methods", "clip,mta", *PLAIN, "--views")
    ran = abs_command(*few, "3")
    assert ran.code == 2
    assert "'mta' needs at least 5 views, and views=3 gives it 4" in ran.err
    assert "Give 4 or more (--views)" in ran.err
    assert "loading" not in ran.err
    assert abs_command(*few, "4").code == 0


@pytest.mark.parametrize("option", ["--export-csv", "--texts", "--report"])
def test_a_place_that_cannot_be_written_stops_before_any_work(
    abs_command: Abs, folder: Callable[..., Path], tmp_path: Path, option: str
) -> None:
    root = folder(cat=["a.png"], car=["c.png"])
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "x.jsonl"
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--method", "clip", option, place, *PLAIN)
    assert (ran.code, ran.out) == (2, "")
    assert str(tmp_path / "file") in ran.err
    assert not list((abs_command.home / "results").rglob("*.json"))


@pytest.mark.slow
def test_only_classes_of_the_label_space_compete(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "images" / "banded").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    colour(1).save(tmp_path / "images" / "banded" / "a.jpg")
    (tmp_path / "labels" / "test1.txt").write_text("banded/a.jpg\n")
    arguments = ("eval", "--dataset", f"dtd:{tmp_path}?partial", "--method", "clip", "--json", *PLAIN)

    def empty(labels: str) -> list[str]:
        (found,) = json.loads(abs_command(*arguments, "--labels", labels).out)["results"]
        return [note for note in found["details"]["notes"] if "no image here" in note]

    (line,) = empty("banded,Blotchy,car")
    assert line.startswith("1 class has no image here, such as 'blotchy'")
    assert empty("banded,car") == []
