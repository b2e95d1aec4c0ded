"""In which order stream methods see the images of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluations import Bench
from torch import Tensor

from abs_classify import evaluate
from abs_classify.evaluation.job import RankedPass
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.sweep import EvaluationObserver
from abs_classify.methods.class_texts import Template
from abs_classify.methods.random import shuffled_order
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.table import Method
from abs_classify.methods.views import FullImage

CLASSES = ("car", "cat", "dog", "eel")


class Place:
    """A stream scorer whose class for an image says where the image stands in the stream: at its number modulo C."""

    def key(self) -> dict[str, Any]:
        return {"matcher": "place"}

    def start(self, texts: ClassTextFeatures, total: int) -> list[int]:
        return [texts.classes, 0]

    def step(self, state: list[int], views: Mapping[str, Tensor]) -> Tensor:
        state[1] += 1
        return torch.eye(state[0])[(state[1] - 1) % state[0]]


PLACE = Method("place", "the place in the stream", (FullImage(),), Template(), Place())


class Passes(EvaluationObserver):
    """The place modulo C of each image by seed."""

    def __init__(self) -> None:
        self.places: dict[int, dict[str, int]] = {}

    def ranked(self, ranked: RankedPass) -> None:
        images, top = ranked.scored.images, ranked.scored.methods["place"].top[:, 0]
        self.places[ranked.seed] = {image.id: int(place) for image, place in zip(images, top, strict=True)}


def run(bench: Bench, data: Path, **options: Any) -> tuple[dict[int, dict[str, int]], ResultRecord]:
    passes = Passes()
    settings: dict[str, Any] = {"device": "cpu", "cache": bench.store, "observer": passes}
    (record,) = evaluate(f"imagefolder:{data}", bench.model, PLACE, **(settings | options))
    return passes.places, record


@pytest.mark.slow
def test_seeds_shuffle_the_images_by_their_contents_alone(
    bench: Bench, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = image_folder("data", **dict.fromkeys(CLASSES, 3))
    places, record = run(bench, data, seeds=3, seed=4)
    assert record.details.method.order == "shuffled"
    assert record.details.seeds.seeds == [4, 5, 6]
    assert "place: scores depend on the order of the images, which the seed shuffles" in record.details.notes
    listed = list(places[4])
    for seed in (4, 5, 6):
        order = [listed[position] for position in shuffled_order(seed, listed)]
        assert places[seed] == {image: place % 4 for place, image in enumerate(order)}
    assert places[4] != places[5] != places[6]

    # other names, another order of the data set, a limit that takes all
    moved = tmp_path / "moved"
    for number, path in enumerate(sorted(data.rglob("*.png"), reverse=True)):
        target = moved / path.parent.name / f"{number:03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    again, _ = run(bench, moved, seed=5, limit=12)
    assert list(again[5]) != listed
    assert again[5] == places[5]


@pytest.mark.slow
def test_the_order_of_the_data_set_is_one_order_whatever_the_seeds(
    bench: Bench, image_folder: Callable[..., Path]
) -> None:
    data = image_folder("data", **dict.fromkeys(CLASSES, 3))
    places, record = run(bench, data, seeds=3, seed=4, stream_order="dataset")
    assert list(places) == [4]
    assert list(places[4].values()) == [0, 1, 2, 3] * 3
    assert (record.details.method.order, record.details.seeds.seeds) == ("dataset", [4])
    assert "place: scores depend on the order of the images, seen as they are listed" in record.details.notes
