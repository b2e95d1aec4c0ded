"""Data sets x models x label spaces x methods through the library: every image encoded once, every seed a draw."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench, described
from support import colour

from abs_classify import evaluate
from abs_classify.datasets import open_dataset
from abs_classify.encoding.stages import SHARD
from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.evaluation.metrics import SeedSpread
from abs_classify.evaluation.results_folder import read_results
from abs_classify.evaluation.sweep import EvaluationObserver, Sweep
from abs_core.errors import DatasetError, ImageError, UsageError

Folder = Callable[..., Path]


@pytest.mark.slow
def test_an_image_is_encoded_once_whatever_the_methods_and_label_spaces(
    bench: Bench, image_folder: Folder, small_clips: tuple[str, str]
) -> None:
    data = image_folder("many", cat=20, car=15)
    images = 35
    spaces = [described("one", "cat", "car"), described("two", "cat", "car"), described("three", "cat", "car", "dog")]
    methods = "clip,cupl,abs,abs-pixels,abs-features,wca"
    work = bench.run(data, methods, models=small_clips, descriptions=spaces).work
    views = len(["full image", *["crop", "random crop", "window"] * 2])
    models = len(small_clips)
    assert (work.images, work.images_computed) == (images * models, images * models)
    assert (work.views, work.views_computed) == (images * models * views, images * models * views)
    attention = [use for use in work.spaces.values() if use.space.stage == "attention"]
    assert [use.rows_computed for use in attention] == [images] * models
    of_images = [use for use in work.spaces.values() if use.space.stage in ("view-features", "attention")]
    assert not any(space.source in use.space.text for use in of_images for space in spaces)
    assert [len(values) for values in bench.accuracies] == [len(methods.split(","))] * len(spaces) * models
    assert len(bench.models) == models

    work = bench.run(data, methods, models=small_clips, descriptions=described("four", "cat", "car")).work
    assert (work.views, work.views_computed) == (images * models * views, 0)
    assert work.texts_computed > 0


@pytest.mark.slow
def test_results_are_a_sequence_with_tables_and_files(bench: Bench, image_folder: Folder) -> None:
    dataset = open_dataset(f"imagefolder:{image_folder('data', cat=2, car=1)}")
    results = evaluate(dataset, bench.model, "clip", device="cpu", cache=bench.store, results=bench.results)
    (record,) = results
    assert (len(results), results[0], list(results[:1])) == (1, record, [record])
    assert str(results).splitlines()[0] == f"{dataset.name}: 3 images, 2 classes"
    assert results.folder is not None
    assert read_results(results.folder) == [record]
    assert results.to_dict() == {"results": [record.model_dump(mode="json")], "left_out": []}
    again = evaluate(dataset, bench.model, "clip", device="cpu", cache=bench.store)
    assert again.folder is None
    assert again.work.nothing
    assert (again.work.images, again.work.views) == (3, 3)
    assert again[0].metrics == record.metrics


def test_without_a_cache_nothing_is_kept(bench: Bench, image_folder: Folder, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    results = evaluate(f"imagefolder:{image_folder('data', cat=1, car=1)}", bench.model, "clip", device="cpu")
    assert (results.work.views, results.work.views_computed) == (2, 2)
    assert list((tmp_path / "tmp").iterdir()) == []


def spreads(results: EvaluationResults) -> dict[str, SeedSpread]:
    return {record.method: record.details.seeds for record in results}


@pytest.mark.slow
def test_seeds_draw_the_views_anew_and_nothing_else(bench: Bench, image_folder: Folder) -> None:
    data = image_folder("data", cat=3, car=3)
    results = bench.run(data, "clip,abs,waffle", seed=5, seeds=3)
    by_method = spreads(results)
    assert [by_method[name].seeds for name in ("clip", "abs", "waffle")] == [[5], [5, 6, 7], [5, 6, 7]]
    seeds_by_kind: dict[str, list[Any]] = {}
    for use in results.work.spaces.values():
        if use.space.stage == "view-features":
            seeds_by_kind.setdefault(use.space.inputs["view"]["kind"], []).append(use.space.inputs.get("seed"))
    assert seeds_by_kind == {"whole": [None], "box": [5, 6, 7], "window": [5, 6, 7]}
    assert results.work.views_computed == 6 * (1 + 3 * 2 + 3 * 2)
    assert (results.work.images, results.work.images_computed) == (6, 6)
    # the second seed of this run is the only seed of another: real draws, not copies of the first
    again = bench.run(data, "abs", seed=6)
    assert spreads(again)["abs"].acc1[0] == by_method["abs"].acc1[1]
    assert again.work.nothing


@pytest.mark.slow
def test_a_seed_that_draws_the_texts_of_the_first_counts_all_the_same(bench: Bench, image_folder: Folder) -> None:
    data = image_folder("data", cat=1, car=1, dog=1)
    space = described("own", "cat", "car", "dog")
    bench.run(data, "cupl,clip", models=[bench.model] * 2, control="swap", seeds=6, descriptions=space)
    (sweep,) = bench.sweeps
    (job,) = sweep.jobs
    # three classes have two cycles, so several of six seeds draw the same one
    drawn = [texts.digest for plan in job.plans for method, texts in plan.methods.items() if method.name == "cupl"]
    assert len(drawn) == 6
    assert len(set(drawn)) == 2
    assert [[method.name for method in plan.methods] for plan in job.plans] == [["cupl", "clip"], *[["cupl"]] * 5]
    assert sweep.combinations == 1, "a model that is named twice runs once"


@pytest.mark.slow
def test_a_label_space_that_does_not_fit_stops_the_run_or_is_left_out(bench: Bench, image_folder: Folder) -> None:
    specs = [
        f"imagefolder:{image_folder('animals', cat=1, dog=1)}",
        f"imagefolder:{image_folder('cars', car=1, bus=1)}",
    ]
    spaces = [described("pets", "cat", "dog"), described("wheels", "car", "bus")]
    with pytest.raises(DatasetError, match=r"wheels@1\.0\.0") as refused:
        bench.run(specs, "clip", descriptions=spaces)
    assert "--on-error skip" in refused.value.remedy
    results = bench.run(specs, "clip", descriptions=spaces, on_error="skip")
    assert [record.bundle for record in results] == [space.source for space in spaces]
    assert len(results.left_out) == 2
    with pytest.raises(UsageError, match="no bundle fits"):
        bench.run(specs[0], "clip", descriptions=[spaces[1]] * 2, on_error="skip")
    with pytest.raises(UsageError, match="both give the candidate classes"):
        bench.run(specs[0], "clip", descriptions=spaces, labels=["cat", "dog"])
    for names in ("pets", ["pets"]):
        with pytest.raises(UsageError, match="must be label spaces, or sentences by class id, got 'pets'"):
            evaluate(specs[0], bench.model, "clip", descriptions=names)  # type: ignore[arg-type]


@pytest.mark.slow
def test_methods_as_on_the_command_line_and_the_texts_that_they_had(bench: Bench, image_folder: Folder) -> None:
    spec = f"imagefolder:{image_folder('data', cat=1, dog=1)}"
    plain = bench.run(spec, "clip, cupl")
    assert [(record.method, record.texts) for record in plain] == [("clip", "template"), ("cupl", "template")]
    (record,) = bench.run(spec, "cupl", descriptions=described("pets", "cat", "dog"))
    assert record.texts == "sentences"


@pytest.mark.slow
def test_an_image_that_vanishes_in_the_middle_stops_the_run_and_keeps_what_is_done(
    bench: Bench, image_folder: Folder
) -> None:
    data = image_folder("data", cat=SHARD + 8)
    victim = data / "cat" / f"{SHARD + 3:02d}.png"
    content = victim.read_bytes()

    class Remover(EvaluationObserver):
        def planned(self, sweep: Sweep) -> None:
            images, _ = sweep.jobs[0].split.identify(bench.stages().models.digests, "stop")
            assert len(images) == SHARD + 8
            victim.unlink()  # it was there when the run began

    with pytest.raises(ImageError, match=re.escape(victim.name)) as refused:
        bench.run(data, "clip", labels=["cat", "dog"], observer=Remover())
    assert "--on-error skip" in refused.value.remedy
    victim.write_bytes(content)
    results = bench.run(data, "clip", labels=["cat", "dog"])
    assert results.work.views_computed == 5  # the one that was gone and those after it
    assert results[0].details.data.images == SHARD + 8


def test_what_was_finished_before_an_error_is_kept(bench: Bench, image_folder: Folder) -> None:
    specs = [f"imagefolder:{image_folder(name, cat=2, car=2)}" for name in ("good", "bad")]
    (Path(specs[1].partition(":")[2]) / "car" / "01.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"01\.png"):
        bench.run(specs, "clip,cupl", results=bench.results)
    (run,) = bench.results.iterdir()
    assert {record.method for record in read_results(run)} == {"clip", "cupl"}
    assert len(bench.accuracies) == 1


@pytest.mark.slow
def test_texts_are_encoded_before_images(bench: Bench, image_folder: Folder) -> None:
    results = bench.run(image_folder("data", cat=2, car=1), "clip,wca", labels=["cat", "car"])
    stages = [use.space.stage for use in results.work.spaces.values()]
    assert stages.index("text-features") < stages.index("view-features")


@pytest.mark.slow
def test_chance_is_among_the_classes_that_can_win(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "imagenet-a" / "n01498041"
    folder.mkdir(parents=True)
    colour(1, (24, 20)).save(folder / "a.jpg")
    (record,) = bench.run(f"imagenet-a:{tmp_path}?partial&classes=select", "clip")
    assert record.details.chance == 1 / 200
    assert record.details.classes.count == 1000
