"""What a result is stored under: each part of a run, changed alone, changes the spaces of the stages that it enters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from evaluations import Bench

from abs_classify.datasets import Sample
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.encoder import encode_texts
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.samples import IdentifiedSample, UnreadableImage
from abs_classify.encoding.spaces import Segment, Space
from abs_classify.encoding.stages import ModelSettings, Stages, open_stages
from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts, Sentences
from abs_classify.methods.scoring import SoftMatch
from abs_classify.methods.table import Method
from abs_classify.methods.views import AttentionCrops, FeatureWindows, FullImage, RandomCrops, ViewSource
from abs_classify.models.deferred import DeferredModel, ModelFacts
from abs_core.canonical import sha256_bytes
from abs_core.descriptions import Description

FACTS = ModelFacts(
    "sha256:m",
    "sha256:a",
    grid=7,
    crop_fraction=1.0,
    context_length=77,
    input_size=224,
    embed_dim=8,
    attention_grid=14,
    cheap_windows=False,
    logit_scale=100.0,
)


@dataclass(frozen=True)
class KnownModel:
    """What stages ask of a model before they load it."""

    facts: ModelFacts = FACTS
    pillow: str = "12.0.0"
    label: str = "ViT-B-16/openai"
    dtype: str = "float32"
    attention_label: str = "dino"


class FullStore:
    """A store that has every row of everything, and notes in which spaces it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Space] = {}

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        view = space.inputs.get("view", {}).get("kind", "")
        self.asked[view or space.stage] = space
        if space.stage == "images":
            return [np.frombuffer(b"[8, 8, []]", dtype=np.uint8) for _ in ids]
        return [np.full((count or 1, 8), 8**-0.5, dtype=np.float32) for _ in ids]

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        return [1000] * len(ids)

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        raise AssertionError("everything is there already")

    def require_writable(self) -> None:
        raise AssertionError("nothing is to be computed")

    def claim(self, work: str) -> AbstractContextManager[bool]:
        raise AssertionError("nothing is to be computed")

    def wait_for(self, work: str, timeout: float) -> bool:
        raise AssertionError("nothing is to be computed")

    def announce(self, required: int) -> None:
        self.announced = required


def class_texts(**descriptions: str) -> ClassTexts:
    names = {name: name for name in descriptions}
    return Sentences().build(ClassTextInputs(names, {name: [Description(text)] for name, text in descriptions.items()}))


@dataclass(frozen=True)
class Run:
    """All parts of a run that can change a result."""

    model: KnownModel = KnownModel()
    seed: int = 0
    texts: ClassTexts = field(default_factory=lambda: class_texts(cat="A cat purrs.", dog="A dog barks."))
    images: tuple[str, ...] = ("sha256:1", "sha256:2")
    crops: ViewSource = field(default_factory=lambda: AttentionCrops(5))
    temperature: float = 0.03
    batch_size: int = 64

    def spaces(self) -> dict[str, str]:
        """The digest of the space of each stage; of views by their kind, guided ones as "guided"."""
        store = FullStore()
        stages = Stages(store, cast("DeferredModel", self.model), self.seed, self.batch_size)
        images = [IdentifiedSample(Sample(Path("image.png"), ""), image_id) for image_id in self.images]
        views = (FullImage(), RandomCrops(3), self.crops)
        method = Method("m", "", views, Sentences(), SoftMatch(self.temperature))
        stages.known_facts(images)
        stages.attention(images)
        stages.scores(images, {method: self.texts})
        guided = {"box": "guided", "window": "guided"}
        return {guided.get(name, name): space.digest for name, space in store.asked.items()}


FREE_CROPS = AttentionCrops(5, guided=False)
IMAGE_STAGES = {"images", "attention", "whole", "random", "guided"}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (
            {"model": KnownModel(replace(FACTS, model="sha256:other"))},
            {"text-features", "whole", "random", "guided"},
        ),
        ({"model": KnownModel(replace(FACTS, attention="sha256:other"))}, {"attention", "guided"}),
        ({"model": KnownModel(pillow="12.0.1")}, IMAGE_STAGES),
        ({"seed": 1}, {"random", "guided"}),
        ({"crops": FeatureWindows(5)}, {"guided"}),
        ({"crops": AttentionCrops(5, top_k=7)}, {"guided"}),
        ({"crops": AttentionCrops(5, temperature=0.04)}, {"guided"}),
        # a number of views is a prefix of a larger one
        ({"crops": AttentionCrops(6)}, set()),
        ({"temperature": 0.02}, set()),
        ({"texts": class_texts(cat="A cat purrs.", dog="A dog sits.")}, set()),
        ({"images": ("sha256:2", "sha256:3", "sha256:1")}, set()),
        # speed and memory, and facts that the model's digest stands for
        ({"batch_size": 2}, set()),
        ({"model": KnownModel(replace(FACTS, context_length=78))}, set()),
    ],
)
def test_each_part_of_a_run_changes_the_spaces_that_it_enters(change: dict[str, Any], stages: set[str]) -> None:
    before, after = Run().spaces(), replace(Run(), **change).spaces()
    assert before.keys() == after.keys() == {"text-features", *IMAGE_STAGES}
    assert {name for name in before if before[name] != after[name]} == stages


def test_unguided_views_do_not_depend_on_the_attention_backend() -> None:
    run = Run(crops=FREE_CROPS)
    before = run.spaces()
    after = replace(run, model=KnownModel(replace(FACTS, attention="sha256:other"))).spaces()
    assert {name for name in before if before[name] != after[name]} == {"attention"}


def test_stages_of_a_run_share_texts_and_nothing_that_a_run_changes() -> None:
    texts, first, second = class_texts(cat="A cat purrs."), FullStore(), FullStore()
    stages = Stages(first, cast("DeferredModel", KnownModel()), 3, 64)
    stages.text_features(texts)
    run = stages.for_run(second)
    assert run.text_features(texts) is stages.text_features(texts)
    assert (len(first.asked), len(second.asked)) == (1, 0)
    assert (run.seed, run.models) == (stages.seed, stages.models)
    with run.timed("read"):
        pass
    assert "read" not in stages.seconds
    images = [IdentifiedSample(Sample(Path("image.png"), ""), "sha256:1")]
    assert run.attention(images) is not None
    assert list(second.asked) == ["attention"]
    assert (stages.work.texts, run.work.texts) == (2, 0)


@pytest.fixture
def images(image_folder: Callable[..., Path]) -> list[IdentifiedSample]:
    paths = sorted(image_folder("keys", cat=3).rglob("*.png"))
    return [IdentifiedSample(Sample(path, ""), sha256_bytes(path.read_bytes())) for path in paths]


def stages_of(store: DiskStore, model: str, **settings: Any) -> Stages:
    return open_stages(store, model, ModelSettings(**{"attention": "self", "device": "cpu", **settings}))


@pytest.mark.slow
def test_runs_that_share_a_cache_keep_their_results_apart(
    images: list[IdentifiedSample], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    """Two models of equal width, two attention backends, and two seeds."""
    views: list[ViewSource] = [FullImage(), AttentionCrops(3), FeatureWindows(3)]
    texts = class_texts(cat="A cat purrs.", dog="A dog barks.")
    shared = DiskStore(tmp_path / "shared")
    first, second = small_clips
    runs: list[tuple[str, dict[str, Any]]] = [
        (first, {}),
        (second, {}),
        (first, {"attention": "none"}),
        (first, {"seed": 1}),
    ]
    features = []
    for number, (model, settings) in enumerate(runs):
        got, alone = (
            stages_of(store, model, **settings) for store in (shared, DiskStore(tmp_path / f"alone-{number}"))
        )
        for view, rows in alone.views(images, views).items():
            torch.testing.assert_close(got.views(images, views)[view], rows, rtol=0, atol=1e-5)
        torch.testing.assert_close(got.text_features(texts).features, alone.text_features(texts).features)
        features.append(alone.views(images, views))
    # the comparison says something only where the runs differ
    for other in features[1:]:
        assert (features[0][views[1]] - other[views[1]]).abs().max() > 1e-3


def test_texts_and_labels_have_features_of_their_own(bench: Bench) -> None:
    texts = class_texts(cat="A cat purrs.", dog="A dog barks.")
    stages = bench.stages()
    features, model = stages.text_features(texts), stages.models.model
    assert texts.label_texts == ("a photo of a cat.", "a photo of a dog.")
    torch.testing.assert_close(features.features, encode_texts(model, texts.texts), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.labels, encode_texts(model, texts.label_texts), rtol=0, atol=1e-5)
    assert (features.features - features.labels).abs().max() > 1e-3


def test_an_image_that_changed_after_its_id_was_taken_is_not_used(bench: Bench, images: list[IdentifiedSample]) -> None:
    stages = bench.stages()
    changed, other = images[0].sample, images[1].sample
    assert isinstance(changed, Sample)
    assert isinstance(other, Sample)
    changed.path.write_bytes(other.path.read_bytes())
    with pytest.raises(UnreadableImage, match="changed while it was read") as caught:
        stages.views(images, [FullImage()])
    assert caught.value.image == images[0]
    assert stages.work.views_computed == 0


def test_another_precision_or_package_has_facts_of_its_own(
    small_clips: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, loads = DigestCache(tmp_path), []

    def find_facts(models: DeferredModel) -> ModelFacts:
        loads.append((models.name, models.attention, models.dtype))
        return replace(FACTS, model=f"sha256:{len(loads)}")

    def model_digest(name: str = small_clips[0], attention: str = "self", dtype: str = "float32") -> str:
        return DeferredModel(name, attention, "cpu", dtype, digests, None).facts.model

    monkeypatch.setattr(DeferredModel, "_find_facts", find_facts)
    first = model_digest()
    variants = [{"dtype": "bfloat16"}, {"attention": "none"}, {"name": small_clips[1]}]
    assert len({first, *(model_digest(**variant) for variant in variants)}) == 4
    assert model_digest() == first
    monkeypatch.setattr("abs_classify.models.deferred.installed_version", lambda package: "0.0.0")
    assert model_digest() != first
    assert len(loads) == 5
