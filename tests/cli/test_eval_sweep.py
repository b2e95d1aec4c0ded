"""`abs eval` on several data sets, models, bundles and seeds: tables, pages and what is left out."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Abs, Ran, colour, save_small_clip

PLAIN = ("--threads", "1", "--attention", "self")
FEW = (*PLAIN, "--views", "2")


@pytest.fixture
def bundle(abs_command: Abs, tmp_path: Path) -> Callable[..., str]:
    """Imports a bundle: its name, and the classes that it has three sentences for."""

    def build(name: str, *classes: str) -> str:
        lines = [f"{label}\tThe {name} of {label} has mark {n}.\n" for label in classes for n in range(3)]
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
        made = abs_command("bundle", "import", tmp_path / f"{name}.tsv", "--name", name)
        assert made.code == 0, made.err
        return name

    return build


def records(ran: Ran) -> list[dict[str, Any]]:
    assert ran.code == 0, ran.err
    results: list[dict[str, Any]] = json.loads(ran.out)["results"]
    return results


@pytest.mark.slow
def test_tables_for_each_data_set_and_one_over_all(
    abs_command: Abs, image_folder: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    first, second = image_folder("first", cat=3, car=2), image_folder("second", cat=2, car=2)
    arguments = ["eval", "--dataset", f"imagefolder:{first}", "--dataset", f"imagefolder:{second}"]
    for model in small_clips:
        arguments += ["--model", model]
    for name in ("one", "two"):
        arguments += ["--bundle", bundle(name, "cat", "car")]
    ran = abs_command(*arguments, "--methods", "clip,abs", *FEW)
    assert ran.code == 0, ran.err
    head_first, head_second, head_all = (
        ran.out.index(text) for text in (f"imagefolder:{first}: 5", f"imagefolder:{second}: 4", "2 data sets, top-1 %")
    )
    assert head_first < head_second < head_all
    parts = ran.out[head_first:head_second], ran.out[head_second:head_all], ran.out[head_all:]
    for part in parts:
        rows = [line for line in part.splitlines() if line.startswith("local-dir:")]
        assert len(rows) == len(small_clips) * 2 * 2
    header = next(line for line in parts[2].splitlines() if line.startswith("model"))
    assert header.split()[:3] == ["model", "bundle", "method"]
    assert header.split()[-1] == "mean"
    row = next(line for line in parts[2].splitlines() if line.startswith("local-dir:"))
    a, b, mean = (float(number) for number in row.split()[-3:])
    assert mean == pytest.approx((a + b) / 2, abs=0.1)
    files = list((abs_command.home / "results").rglob("*.json"))
    assert len(files) == 2 * 2 * 2 * 2
    assert "16 files" in ran.err


def test_a_bundle_for_other_classes_stops_before_any_work_or_is_left_out(
    abs_command: Abs, image_folder: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    animals, vehicles = image_folder("animals", cat=2, dog=2), image_folder("vehicles", car=2, bus=2)
    arguments = ["eval", "--dataset", f"imagefolder:{animals}", "--dataset", f"imagefolder:{vehicles}"]
    arguments += ["--bundle", bundle("pets", "cat", "dog"), "--bundle", bundle("wheels", "car", "bus")]
    arguments += ["--model", small_clips[0], "--methods", "clip,cupl", *PLAIN]
    line = abs_command.refuses(*arguments)
    assert "animals" in line
    assert "wheels@1.0.0" in line
    assert "--on-error skip" in line
    assert not (abs_command.home / "results").exists()
    ran = abs_command(*arguments, "--on-error", "skip")
    assert ran.code == 0, ran.err
    left_out = [line for line in ran.err.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 2
    overall = ran.out[ran.out.index("2 data sets") :]
    assert "each with its own bundle" in overall
    # one row for each method, with a number for both data sets and so a mean
    assert [len(line.split()) for line in overall.splitlines() if line.startswith(("clip", "cupl"))] == [4, 4]
    only = ["eval", "--dataset", f"imagefolder:{animals}", "--bundle", "wheels", "--bundle", "wheels@1.0.0"]
    line = abs_command.refuses(*only, "--on-error", "skip", "--method", "clip", *PLAIN)
    assert "no bundle fits" in line


def test_a_class_only_in_the_bundle_and_one_only_in_the_data(
    abs_command: Abs, image_folder: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    data = image_folder("data", cat=2, dog=2)
    (data / "eel").mkdir()
    model = ("--model", small_clips[0], "--method", "clip", *PLAIN)
    wide = abs_command(
        "eval", "--dataset", f"imagefolder:{data}", "--bundle", bundle("wide", "cat", "dog", "ox"), *model
    )
    assert wide.code == 0, wide.err
    assert "4 images, 3 classes" in wide.out
    assert re.search(r"note: the data set lacks 1 class of wide@1\.0\.0#\S+, such as 'ox'; they compete", wide.out)
    narrow = bundle("narrow", "cat", "ox")
    line = abs_command.refuses("eval", "--dataset", f"imagefolder:{data}", "--bundle", narrow, *model)
    assert "'dog'" in line
    assert "narrow@1.0.0" in line


@pytest.mark.slow
def test_seeds_in_table_and_records(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = image_folder("data", cat=4, car=4)
    arguments = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip,abs")
    ran = abs_command(*arguments, "--seeds", "3", *FEW)
    assert ran.code == 0, ran.err
    assert "over several seeds:" in ran.out
    row = next(line for line in ran.out.splitlines() if line.startswith("abs") and "0 to 2" in line)
    clip, drawn = records(abs_command(*arguments, "--seeds", "3", "--json", *FEW))
    found = drawn["details"]["seeds"]
    assert found["seeds"] == [0, 1, 2]
    assert found["mean"] == pytest.approx(sum(found["acc1"]) / 3)
    assert f"{100 * found['mean']:.2f}" in row
    assert found["acc1"][0] == drawn["metrics"]["acc1"]
    assert clip["details"]["seeds"]["seeds"] == [0]
    assert clip["details"]["seeds"]["deviation"] == 0


@pytest.mark.slow
def test_a_bad_image_is_found_once_and_skipped_by_every_model_and_bundle(
    abs_command: Abs, image_folder: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    root = image_folder("data", cat=3, car=3)
    (root / "car" / "01.png").write_bytes(b"no image")
    arguments = ["eval", "--dataset", f"imagefolder:{root}", "--model", small_clips[0], "--model", small_clips[1]]
    arguments += ["--bundle", bundle("one", "cat", "car"), "--bundle", bundle("two", "cat", "car")]
    found = records(abs_command(*arguments, "--methods", "clip,tda", "--on-error", "skip", "--json", *PLAIN))
    assert len(found) == 8
    for record in found:
        assert record["details"]["data"]["images"] == 5
        assert [Path(one["name"]).name for one in record["details"]["data"]["skipped"]] == ["01.png"]


def test_what_is_done_is_kept_when_a_later_data_set_fails(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    good, bad = image_folder("good", cat=2, car=2), image_folder("bad", cat=2, car=2)
    (bad / "car" / "01.png").write_bytes(b"no image")
    arguments = ["eval", "--dataset", f"imagefolder:{good}", "--dataset", f"imagefolder:{bad}"]
    ran = abs_command(*arguments, "--model", small_clips[0], "--methods", "clip,cupl", *PLAIN)
    assert ran.code == 2
    assert ran.out == ""
    assert "results: 2 files in " in ran.err
    assert "01.png" in ran.err.splitlines()[-1]
    shown = abs_command("results", "show", "last")
    assert shown.code == 0, shown.err
    assert f"imagefolder:{good}: 4 images" in shown.out


@pytest.mark.parametrize("label", ["7", "-1"])
def test_a_label_out_of_range_is_refused(
    abs_command: Abs, tmp_path: Path, small_clips: tuple[str, str], label: str
) -> None:
    stream = io.BytesIO()
    colour(1, (24, 20)).save(stream, "PNG")
    (tmp_path / "shards" / "test").mkdir(parents=True)
    (tmp_path / "shards" / "classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "shards" / "test" / "nshards.txt").write_text("1")
    with tarfile.open(tmp_path / "shards" / "test" / "0.tar", "w") as tar:
        for name, content in (("s0.png", stream.getvalue()), ("s0.cls", label.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    model = ("--model", small_clips[0], "--method", "clip", *PLAIN)
    line = abs_command.refuses("eval", "--dataset", f"wds:{tmp_path / 'shards'}", *model)
    assert label in line
    assert "s0" in line or "0.tar" in line or "shards" in line


def test_a_sweep_that_cannot_run_is_refused(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = image_folder("data", cat=1, car=1)
    base = ("eval", "--dataset", f"imagefolder:{data}", *PLAIN)
    wrong = abs_command(*base, "--model", small_clips[0], "--model", "magic", "--method", "clip")
    assert (wrong.code, wrong.out) == (2, "")
    assert "magic" in wrong.err
    assert "loading" not in wrong.err
    assert "at least one method must be given" in abs_command.refuses(*base, "--methods", ",")
    two = (*base, "--model", small_clips[0], "--model", small_clips[1], "--method", "clip")
    assert "Name a folder" in abs_command.refuses(*two, "--report", "page.html")


@pytest.mark.slow
def test_a_page_for_each_combination(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    data = image_folder("data", cat=1, car=1)
    arguments = ["eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--model", small_clips[1]]
    ran = abs_command(*arguments, "--methods", "clip,abs", "--report", tmp_path / "pages", *FEW)
    assert ran.code == 0, ran.err
    pages = sorted((tmp_path / "pages").iterdir())
    assert [page.name[:3] for page in pages] == ["01-", "02-", "ind"]
    assert all("<html" in page.read_text() for page in pages)


@pytest.fixture
def resnet(tmp_path: Path) -> str:
    """A small open_clip model without token grid."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = save_small_clip(tmp_path / "resnet")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    state = {name: each.contiguous() for name, each in CLIP(**config["model_cfg"]).state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def test_a_later_model_without_grid_is_found_before_any_work(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str], resnet: str
) -> None:
    arguments = ("eval", "--dataset", f"imagefolder:{image_folder('data', cat=1, car=1)}", "--model", small_clips[0])
    ran = abs_command(*arguments, "--model", resnet, "--methods", "clip,abs-features", *FEW)
    assert (ran.code, ran.out) == (2, "")
    assert "has no token grid, and the method 'abs-features' needs feature windows" in ran.err
    assert "loading" not in ran.err
    assert not list((abs_command.home / "results").rglob("*.json"))


@pytest.mark.slow
def test_what_no_method_needs_is_no_attention(
    abs_command: Abs,
    image_folder: Callable[..., Path],
    small_clips: tuple[str, str],
    resnet: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    data = image_folder("data", cat=1, car=1)
    plain = ("eval", "--dataset", f"imagefolder:{data}", "--methods", "clip,wca,abs-random", "--threads", "1")
    report = ("--report", tmp_path / "page.html")
    for found in records(abs_command(*plain, "--views", "2", "--model", small_clips[0], "--json", *report)):
        assert found["details"]["weights"]["attention_source"] == "none"
    assert (tmp_path / "page.html").is_file()
    line = abs_command.refuses(*plain[:3], "--method", "abs", "--model", small_clips[0])
    assert "'vit_base_patch16_224.dino' are not on this machine" in line
    assert "valid: auto, dino" in abs_command.refuses(*plain, "--model", small_clips[0], "--attention", "magic")
    other = ("--method", "clip", "--model", resnet, "--attention", "self", "--threads", "1")
    assert abs_command(*plain[:3], *other).code == 0
    ran = abs_command("classify", data / "cat" / "00.png", "--labels", "cat,car", *other)
    assert ran.code == 0, ran.err
    free = ("--images", data, "--method", "abs-random", "--views", "2", "--model", small_clips[0], "--threads", "1")
    ran = abs_command("filter-descriptions", "textures", *free, "--dry-run")
    assert ran.code == 0, ran.err
