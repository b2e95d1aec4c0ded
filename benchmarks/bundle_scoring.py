"""What `abs bundle score` costs from cached features, against soft matching of the same features.

    python benchmarks/bundle_scoring.py --classes 1000 --sentences 50 --images 32 --threads 2

A shard of images goes through soft matching (what an evaluation does with it) and through what `abs bundle score` does:
the effect of leaving out each sentence, with the bounds, and the counts over images. Both run in turn in one process,
and of ``--repeats`` rounds the least processor time and the least wall time count. A run repeats this by shards, so
``--total`` images take as many times the shard's: by processor time over threads, which is what an idle machine would
come near to, and by the wall, which other work on the machine lengthens. Reading features from the store is not in it.

The vectors look like CLIP's: image and text vectors around two different means (so cosines lie between about 0.15 and
0.4); classes in groups of ten that are ``--near`` each other, as breeds are; sentences around their class, at a
distance of ``--spread``; crops around their image and, with ``--signal``, around its class. Every tenth image is
labelled with another class than it was made of. Names are a text of their own near their class.

``exact`` counts, of all images and classes, those whose sentences the bounds did not skip whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from abs_classify.evaluation.bundle_tally import BundleTally, Sentence
from abs_classify.methods import soft_leave_one_out
from abs_classify.methods.leave_one_out import prepare_effects
from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch
from abs_classify.methods.similarity import unit


@dataclass(frozen=True)
class Result:
    """One measurement: seconds for a shard, by processor and on the wall; peak memory in megabytes."""

    images: int
    threads: int
    soft_cpu: float
    score_cpu: float
    cpu_ratio: float
    soft_wall: float
    score_wall: float
    wall_ratio: float
    cpu_minutes: float
    wall_minutes: float
    exact: float
    label_changes: int
    peak_megabytes: float


def make_features(arguments: argparse.Namespace) -> tuple[Tensor, ClassTextFeatures, list[int]]:
    """Views [images, views, dims], texts and true classes."""
    generator = torch.Generator().manual_seed(arguments.seed)
    classes, dims, images = arguments.classes, arguments.dims, arguments.images

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dims, generator=generator) / dims**0.5

    image_mean = unit(noise())
    text_mean = unit(0.35 * image_mean + noise())
    groups = noise(-(-classes // 10)).repeat_interleave(10, dim=0)[:classes]
    centres = (1 - arguments.near**2) ** 0.5 * groups + arguments.near * noise(classes)
    sentences = unit(text_mean + 0.5 * centres[:, None] + arguments.spread * noise(classes, arguments.sentences))
    names = unit(text_mean + 0.5 * centres + 0.35 * noise(classes))
    truth = torch.randint(classes, (images,), generator=generator)
    crops = arguments.signal * centres[truth][:, None] + 0.3 * noise(images, 1) + 0.6 * noise(images, arguments.views)
    truth[::10] = torch.randint(classes, (len(truth[::10]),), generator=generator)
    index = torch.arange(classes).repeat_interleave(arguments.sentences)
    return unit(1.2 * image_mean + crops), ClassTextFeatures(sentences.flatten(0, 1), index, names), truth.tolist()


def timed(run: Callable[[], object]) -> Tensor:
    """Processor and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return torch.tensor([time.process_time() - cpu, time.perf_counter() - wall])


def measure(arguments: argparse.Namespace) -> Result:
    """Run both in turn."""
    torch.set_num_threads(arguments.threads)
    views, texts, truth = make_features(arguments)
    scorer = SoftMatch()
    scoring = prepare_effects(scorer, texts, range(arguments.classes))
    sentences = [Sentence(int(position), "", is_only=False) for position in texts.class_index.tolist()]
    tally = BundleTally[int]([(str(c), str(c)) for c in range(arguments.classes)], sentences, has_truth=True)
    looked: list[int] = []
    doubtful = soft_leave_one_out._Case._doubtful

    def counted(case: soft_leave_one_out._Case, true: int | None) -> Tensor:
        classes = doubtful(case, true)
        looked.append(len(classes))
        return classes

    soft_leave_one_out._Case._doubtful = counted  # type: ignore[method-assign]
    changes = 0

    def score() -> None:
        nonlocal changes
        effects = scoring.effects({"box": views}, truth)
        changes = len(effects.changes)
        tally.add(range(len(views)), effects, truth)

    least = torch.full((2, 2), torch.inf)
    for _ in range(arguments.repeats):
        pair = [timed(lambda: scorer.scores({"box": views}, texts)), timed(score)]
        least = torch.minimum(least, torch.stack(pair))
    (soft_cpu, soft_wall), (score_cpu, score_wall) = least.tolist()
    exact = sum(looked) / len(looked) / arguments.classes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    per_image = arguments.total / arguments.images / 60
    return Result(
        arguments.images, arguments.threads, soft_cpu, score_cpu, score_cpu / soft_cpu, soft_wall, score_wall,
        score_wall / soft_wall, score_cpu * per_image / arguments.threads, score_wall * per_image, exact, changes, peak,
    )  # fmt: skip


def main() -> None:
    """Parse the options, measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("classes", 1000), ("sentences", 50), ("views", 100), ("dims", 512), ("images", 32),
                          ("threads", 2), ("repeats", 5), ("total", 10_000), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--signal", type=float, default=0.3, help="default 0.3")
    parser.add_argument("--near", type=float, default=0.3, help="of classes in a group of ten, default 0.3")
    parser.add_argument("--spread", type=float, default=0.35, help="of sentences around their class, default 0.35")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(f"soft matching        {result.soft_cpu:.2f} s processor, {result.soft_wall:.2f} s wall")
    print(f"abs bundle score     {result.score_cpu:.2f} s processor, {result.score_wall:.2f} s wall")
    print(f"ratio                {result.cpu_ratio:.2f} processor, {result.wall_ratio:.2f} wall")
    print(
        f"{arguments.total} images         {result.cpu_minutes:.1f} minutes by processor time over threads (goal: 15)"
    )
    print(f"                     {result.wall_minutes:.1f} minutes by the wall, with whatever else the machine does")
    print(f"classes looked at    {100 * result.exact:.2f} %; {result.label_changes} labels would change")
    print(f"peak memory          {result.peak_megabytes:.0f} MB")


if __name__ == "__main__":
    main()
