"""The grid of `abs eval`: data sets x models x bundles x methods, every image encoded once."""

from __future__ import annotations

import gc
import io
import json
import re
import shutil
import tarfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Abs, Ran, colour, save_small_clip

from abs_classify.datasets import Sample
from abs_classify.encoding.cache import StageCache
from abs_classify.encoding.samples import IdentifiedSample, UnreadableImage
from abs_classify.encoding.stages import SHARD, ModelSettings, Stages, open_stages
from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.metrics import SeedSpread
from abs_classify.evaluation.split import quotas, stratified_positions
from abs_classify.evaluation.sweep import EvaluationResults, Sweep, evaluate
from abs_classify.methods.views import AttentionCrops, FullImage
from abs_core.canonical import sha256_bytes
from abs_core.descriptions import LabelSpace
from abs_core.errors import ImageError, UsageError
from abs_core.home import Home
from abs_descriptions.bundles.lookup import find_bundle
from abs_descriptions.bundles.repository import Repository

PLAIN = ("--threads", "1", "--attention", "self")
FEW = (*PLAIN, "--views", "2")


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Builds an image folder: its name, and class name -> number of images."""

    def build(name: str, **classes: int) -> Path:
        for number, (label, count) in enumerate(classes.items()):
            for at in range(count):
                path = tmp_path / name / label / f"{at:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                colour(1000 * len(name) + 100 * number + at, (24, 20)).save(path)
        return tmp_path / name

    return build


@pytest.fixture
def bundle(abs_command: Abs, tmp_path: Path) -> Callable[..., str]:
    """Imports a bundle: its name, and the classes that it has three sentences for."""

    def build(name: str, *classes: str) -> str:
        lines = [f"{one}\tThe {name} of {one} has mark {n}.\n" for one in classes for n in range(3)]
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
        made = abs_command("bundle", "import", tmp_path / f"{name}.tsv", "--name", name)
        assert made.code == 0, made.err
        return name

    return build


def records(ran: Ran) -> list[dict[str, Any]]:
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)["results"]
    return found


class Bench:
    """Evaluates without the command line, with one cache, and keeps what is told of each evaluation."""

    def __init__(self, home: Path, cache: StageCache) -> None:
        self.home, self.cache = Home.at(home, cache.root), cache
        self.models: list[weakref.ref[Any]] = []
        self.accuracies: list[list[float]] = []
        self.plans: list[Sweep] = []

    def stages(self, model: str) -> Stages:
        return open_stages(self.cache, ModelSettings("self", "cpu"), None, model)

    def label_spaces(self, *names: str) -> list[LabelSpace]:
        return [find_bundle(Repository.local(self.home.bundles), name).label_space() for name in names]

    def run(self, dataset: str, models: Any, methods: Any, **settings: Any) -> EvaluationResults:
        settings = {"attention": "self", "device": "cpu", "views": 2, **settings}
        return evaluate(
            dataset,
            models,
            methods,
            cache=self.cache,
            planned=self.plans.append,
            finished=self._finished,
            **settings,
        )

    def _finished(self, evaluation: Evaluation, records: Any) -> None:
        gc.collect()
        alive = sum(ref() is not None for ref in self.models)
        if "model" in vars(evaluation.stages.models):
            model = evaluation.stages.models.model
            assert alive == sum(ref() is model for ref in self.models), "an earlier model is still in memory"
            if not alive:
                self.models.append(weakref.ref(model))
        self.accuracies.append([result.top1.value for result in evaluation.results])


@pytest.fixture
def bench(abs_command: Abs, tmp_path: Path) -> Bench:
    return Bench(abs_command.home, StageCache(tmp_path / "bench-cache"))


def test_an_image_is_encoded_once_whatever_the_methods_and_bundles(
    bench: Bench, photos: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    data = f"imagefolder:{photos('many', cat=20, car=15)}"
    shards = 2
    names = [bundle("one", "cat", "car"), bundle("two", "cat", "car"), bundle("three", "cat", "car", "dog")]
    methods = ("clip", "cupl", "abs", "abs-pixels", "abs-features", "wca")
    bench.run(data, small_clips, methods, descriptions=bench.label_spaces(*names))
    views = len(["whole", "random crops", "crops", "windows"])
    models = len(small_clips)
    assert bench.cache.misses["view-features"] == shards * views * models
    assert bench.cache.misses["attention"] == shards * models
    stored = list(bench.cache.entries("view-features"))
    assert len(stored) == shards * views * models
    keys = [key for key in bench.cache.missed if key.stage in ("view-features", "attention")]
    assert not any(name in key.text for key in keys for name in names)
    assert [len(values) for values in bench.accuracies] == [len(methods)] * len(names) * models
    assert len(bench.models) == models

    further = bench.label_spaces(bundle("four", "cat", "car"))
    bench.run(data, small_clips, methods, descriptions=further)
    assert bench.cache.misses["view-features"] == shards * views * models
    assert bench.cache.misses["attention"] == shards * models


def test_tables_for_each_data_set_and_one_over_all(
    abs_command: Abs, photos: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    first, second = photos("first", cat=3, car=2), photos("second", cat=2, car=2)
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
    abs_command: Abs, photos: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    animals, vehicles = photos("animals", cat=2, dog=2), photos("vehicles", car=2, bus=2)
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
    abs_command: Abs, photos: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    data = photos("data", cat=2, dog=2)
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


def test_an_empty_class_is_named_and_the_mean_recall_leaves_it_out(
    abs_command: Abs, tmp_path: Path, small_clips: tuple[str, str]
) -> None:
    colour(1).save(tmp_path / "a.png")
    (tmp_path / "photos.csv").write_text("path,label\na.png,cat\n")
    options = ("--labels", "cat,dog,ox", "--method", "clip", "--model", small_clips[0], "--json", *PLAIN)
    (record,) = records(abs_command("eval", "--dataset", f"csv:{tmp_path / 'photos.csv'}", *options))
    assert record["details"]["data"]["classes_with_images"] == 1
    assert record["details"]["classes"]["count"] == 3
    assert record["metrics"]["mean_per_class_recall"] == record["metrics"]["acc1"]


def test_copies_of_one_image_count_and_are_named(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = photos("data", cat=2, car=2)
    shutil.copy(data / "cat" / "00.png", data / "cat" / "again.png")
    shutil.copy(data / "cat" / "00.png", data / "car" / "other.png")
    options = ("--methods", "clip,abs", "--model", small_clips[0], "--json", *FEW)
    record, _ = records(abs_command("eval", "--dataset", f"imagefolder:{data}", *options))
    assert record["details"]["data"]["images"] == 6
    notes = record["details"]["notes"]
    assert any("2 images are copies of another" in note for note in notes)
    assert any("different labels" in note and "'car'" in note and "'cat'" in note for note in notes)


def spreads(results: EvaluationResults) -> dict[str, SeedSpread]:
    return {record.method: record.details.seeds for record in results}


def test_seeds_draw_the_views_anew_and_nothing_else(
    bench: Bench, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = f"imagefolder:{photos('data', cat=3, car=3)}"
    found = spreads(bench.run(data, small_clips[0], ("clip", "abs", "waffle"), seed=5, seeds=3))
    assert [len(found[name].acc1) for name in ("clip", "abs", "waffle")] == [1, 3, 3]
    by_kind: dict[str, list[Any]] = {}
    for key in bench.cache.missed:
        if key.stage == "view-features":
            by_kind.setdefault(key.inputs["view"]["kind"], []).append(key.inputs.get("seed"))
    assert by_kind == {"whole": [None], "box": [5, 6, 7], "window": [5, 6, 7]}
    scored = [key.inputs["matcher"] for key in bench.cache.missed if key.stage == "scores"]
    assert len(scored) == 1 + 3 + 3
    # the second seed of this run is the only seed of another: real draws, not copies of the first
    alone = spreads(bench.run(data, small_clips[0], "abs", seed=6))
    assert alone["abs"].acc1[0] == found["abs"].acc1[1]
    features = {entry.digest for entry in bench.cache.entries("view-features")}
    assert len(features) == 7


def test_a_seed_that_draws_the_texts_of_the_first_counts_all_the_same(
    bench: Bench, abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    data = f"imagefolder:{photos('data', cat=1, car=1, dog=1)}"
    (tmp_path / "own.tsv").write_text("cat\tIt purrs.\ncar\tIt has wheels.\ndog\tIt barks.\n")
    assert abs_command("bundle", "import", tmp_path / "own.tsv", "--name", "own").code == 0
    settings = {"views": None, "control": "swap", "seeds": 4, "descriptions": bench.label_spaces("own")}
    bench.run(data, [small_clips[0]] * 2, ("cupl", "clip"), **settings)
    (sweep,) = bench.plans
    (job,) = sweep.jobs
    # three classes have two cycles: two of four seeds draw the same one
    drawn = [table.digest for plan in job.plans for method, table in plan.methods.items() if method.name == "cupl"]
    assert len(drawn) == 4
    assert len(set(drawn)) == 2
    assert [[method.name for method in plan.methods] for plan in job.plans] == [["cupl", "clip"], *[["cupl"]] * 3]
    assert sweep.combinations == 1, "a model that is named twice runs once"


def test_seeds_in_table_and_records(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = photos("data", cat=4, car=4)
    arguments = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip,abs")
    ran = abs_command(*arguments, "--seeds", "3", *FEW)
    assert ran.code == 0, ran.err
    assert "the views drawn anew with other seeds:" in ran.out
    row = next(line for line in ran.out.splitlines() if line.startswith("abs") and "0 to 2" in line)
    clip, drawn = records(abs_command(*arguments, "--seeds", "3", "--json", *FEW))
    found = drawn["details"]["seeds"]
    assert found["seeds"] == [0, 1, 2]
    assert found["mean"] == pytest.approx(sum(found["acc1"]) / 3)
    assert f"{100 * found['mean']:.2f}" in row
    assert found["acc1"][0] == drawn["metrics"]["acc1"]
    assert clip["details"]["seeds"]["seeds"] == [0]
    assert clip["details"]["seeds"]["deviation"] == 0


def test_a_stratified_sample_says_what_it_is(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = photos("data", ant=2, bee=4, cat=12)
    arguments = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--method", "clip", *PLAIN)
    (record,) = records(abs_command(*arguments, "--limit", "9", "--stratified", "--json"))
    assert record["details"]["data"]["sample"] == (
        "a stratified sample of 9 of 18 images, 1 to 6 of each class, seed 0"
    )
    assert record["details"]["data"]["classes_with_images"] == 3
    first = records(abs_command(*arguments, "--limit", "2", "--json"))[0]
    assert "no random sample" in first["details"]["data"]["sample"]
    assert "cannot hold one of each of the 3 classes" in abs_command.refuses(*arguments, "--limit", "2", "--stratified")
    assert "--limit" in abs_command.refuses(*arguments, "--stratified")


def test_stratified_positions() -> None:
    labels = [label for label, count in (("a", 2), ("b", 4), ("c", 12)) for _ in range(count)]
    chosen = stratified_positions(labels, 9, 0)
    assert chosen == sorted(set(chosen)) == stratified_positions(labels, 9, 0)
    assert [sum(labels[at] == label for at in chosen) for label in "abc"] == [1, 2, 6]
    assert any(stratified_positions(labels, 9, seed) != chosen for seed in range(1, 4))
    assert stratified_positions(labels, 18, 0) == list(range(18))
    with pytest.raises(UsageError, match=r"2 images.*3 classes"):
        stratified_positions(labels, 2, 0)


@pytest.mark.parametrize("limit", range(4, 60))
def test_quotas_sum_up_and_stay_within_what_there_is(limit: int) -> None:
    sizes = {"a": 1, "b": 1, "c": 3, "d": 60}
    given = quotas(sizes, limit)
    assert sum(given.values()) == limit
    assert all(1 <= given[one] <= sizes[one] for one in sizes)


def test_an_image_that_vanishes_in_the_middle_stops_the_run_and_keeps_what_is_done(
    bench: Bench, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    root = photos("data", cat=SHARD + 8)
    victim = root / "cat" / f"{SHARD + 3:02d}.png"
    content = victim.read_bytes()
    data = f"imagefolder:{root}"

    def remove(sweep: Sweep) -> None:
        images, _ = sweep.jobs[0].split.identify(bench.stages(small_clips[0]).models.digests, "stop")
        assert len(images) == SHARD + 8
        victim.unlink()  # it was there when the run began

    with pytest.raises(ImageError, match=re.escape(victim.name)) as refused:
        evaluate(data, small_clips[0], "clip", cache=bench.cache, labels=["cat", "dog"], planned=remove)
    assert "--on-error skip" in refused.value.remedy
    assert bench.cache.misses["view-features"] == 2
    assert len(list(bench.cache.entries("view-features"))) == 1
    victim.write_bytes(content)
    (record,) = bench.run(data, small_clips[0], "clip", labels=["cat", "dog"], views=None)
    assert bench.cache.misses["view-features"] == 3  # only the shard that was not finished
    assert record.details.data.images == SHARD + 8


def test_a_bad_image_is_found_once_and_skipped_by_every_model_and_bundle(
    abs_command: Abs, photos: Callable[..., Path], bundle: Callable[..., str], small_clips: tuple[str, str]
) -> None:
    root = photos("data", cat=3, car=3)
    (root / "car" / "01.png").write_bytes(b"no image")
    arguments = ["eval", "--dataset", f"imagefolder:{root}", "--model", small_clips[0], "--model", small_clips[1]]
    arguments += ["--bundle", bundle("one", "cat", "car"), "--bundle", bundle("two", "cat", "car")]
    found = records(abs_command(*arguments, "--methods", "clip,tda", "--on-error", "skip", "--json", *PLAIN))
    assert len(found) == 8
    for record in found:
        assert record["details"]["data"]["images"] == 5
        assert [Path(one["name"]).name for one in record["details"]["data"]["skipped"]] == ["01.png"]


def test_what_is_done_is_kept_when_a_later_data_set_fails(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    good, bad = photos("good", cat=2, car=2), photos("bad", cat=2, car=2)
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


def test_a_grid_that_cannot_run_is_refused(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = photos("data", cat=1, car=1)
    base = ("eval", "--dataset", f"imagefolder:{data}", *PLAIN)
    wrong = abs_command(*base, "--model", small_clips[0], "--model", "magic", "--method", "clip")
    assert (wrong.code, wrong.out) == (2, "")
    assert "magic" in wrong.err
    assert "loading" not in wrong.err
    assert "no method" in abs_command.refuses(*base, "--methods", ",")
    two = (*base, "--model", small_clips[0], "--model", small_clips[1], "--method", "clip")
    assert "Name a folder" in abs_command.refuses(*two, "--report", "page.html")


def test_a_page_for_each_combination(
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    data = photos("data", cat=1, car=1)
    arguments = ["eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--model", small_clips[1]]
    ran = abs_command(*arguments, "--methods", "clip,abs", "--report", tmp_path / "pages", *FEW)
    assert ran.code == 0, ran.err
    pages = sorted((tmp_path / "pages").iterdir())
    assert [page.name[:3] for page in pages] == ["01-", "02-"]
    assert all("<html" in page.read_text() for page in pages)


def test_a_photo_that_comes_twice_keeps_the_attention_of_the_next_one_in_place(
    bench: Bench, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    paths = sorted(photos("data", cat=4).rglob("*.png"))
    first, second, third, fourth = (
        IdentifiedSample(Sample(path, ""), sha256_bytes(path.read_bytes())) for path in paths
    )
    stages, shard = bench.stages(small_clips[0]), [first, first, second, third, second, fourth]
    expected = stages.views([first, second, third, fourth], [AttentionCrops(3)])[AttentionCrops(3)]
    stages.views(shard, [AttentionCrops(2)])
    assert bench.cache.misses["attention"] == 2
    # other views of the same attention
    found = stages.views(shard, [AttentionCrops(3)])[AttentionCrops(3)]
    assert bench.cache.misses["attention"] == 2
    torch.testing.assert_close(found, expected[[0, 0, 1, 2, 1, 3]], rtol=0, atol=1e-5)
    assert (expected[1] - expected[2]).abs().max() > 1e-3


def test_texts_are_encoded_before_images(
    bench: Bench, photos: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    data = f"imagefolder:{photos('data', cat=2, car=1)}"
    bench.run(data, small_clips[0], ("clip", "wca"), labels=["cat", "car"])
    order = [key.stage for key in bench.cache.missed]
    assert order.index("view-features") > max(at for at, stage in enumerate(order) if stage == "text-features")


@dataclass(frozen=True)
class SlowDamage:
    """What is no image, and takes its time."""

    name: str = "slow.png"

    def read(self) -> bytes:
        time.sleep(0.5)
        return b"no image"


def test_the_time_to_read_a_bad_image_counts_once(bench: Bench, small_clips: tuple[str, str], tmp_path: Path) -> None:
    stages = bench.stages(small_clips[0])
    with pytest.raises(UnreadableImage):
        stages.views([IdentifiedSample(Sample(tmp_path, "", SlowDamage()), "sha256:0")], [FullImage()])
    assert stages.seconds["read"] > 0.45
    assert stages.seconds["encode"] < 0.25


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
    abs_command: Abs, photos: Callable[..., Path], small_clips: tuple[str, str], resnet: str
) -> None:
    arguments = ("eval", "--dataset", f"imagefolder:{photos('data', cat=1, car=1)}", "--model", small_clips[0])
    ran = abs_command(*arguments, "--model", resnet, "--methods", "clip,abs-features", *FEW)
    assert (ran.code, ran.out) == (2, "")
    assert "has no token grid, and the method 'abs-features' needs feature views" in ran.err
    assert "loading" not in ran.err
    assert not list((abs_command.home / "results").rglob("*.json"))


def test_what_no_method_needs_is_no_attention(
    abs_command: Abs,
    photos: Callable[..., Path],
    small_clips: tuple[str, str],
    resnet: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    data = photos("data", cat=1, car=1)
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


def test_chance_is_among_the_classes_that_can_win(
    abs_command: Abs, tmp_path: Path, small_clips: tuple[str, str]
) -> None:
    folder = tmp_path / "imagenet-a" / "n01498041"
    folder.mkdir(parents=True)
    colour(1, (24, 20)).save(folder / "a.jpg")
    model = ("--model", small_clips[0], "--method", "clip", "--json", *PLAIN)
    (found,) = records(abs_command("eval", "--dataset", f"imagenet-a:{tmp_path}?partial&classes=select", *model))
    assert found["details"]["chance"] == 1 / 200
    assert found["details"]["classes"]["count"] == 1000
