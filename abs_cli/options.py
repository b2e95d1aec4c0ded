"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from abs_classify.encoding.cache import DERIVED, StageCache
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.stages import Stages
from abs_classify.models.deferred import DeferredModel
from abs_core.home import Home

__all__ = ["ModelOptions", "class_options", "compute_options", "model_options"]


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelOptions:
    """Which models see the images, where and how."""

    model: str
    attention: str
    device: str
    dtype: str
    batch_size: int
    seed: int
    threads: int | None

    def stages(self, home: Home) -> Stages:
        """The cached stages for these options."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        model, attention = self.model, self.attention
        if model != "embedded" or attention not in ("auto", "self", "norm", "none"):
            from abs_classify.models.registry import local_names
            from abs_classify.models.store import WeightsStore

            model, attention = local_names(WeightsStore(home.models), model, attention)
        memo = DigestCache(home.cache)
        models = DeferredModel(model, attention, self.device, self.dtype, memo, home.cache / DERIVED)
        return Stages(StageCache(home.cache), models, self.seed, self.batch_size)


def model_options(function: F) -> F:
    """Add the options that make ``ModelOptions``."""
    model = click.option("--model", default="embedded", show_default=True, help="Image-text model; see `abs models`.")
    return model(compute_options(function))


def compute_options(function: F) -> F:
    """Add the options that make ``ModelOptions`` of any model."""
    for option in reversed(
        [
            click.option(
                "--attention",
                default="auto",
                show_default=True,
                help="Where attention comes from: auto, dino, dino:NAME, self, norm, none.",
            ),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
            click.option(
                "--dtype",
                type=click.Choice(["float32", "bfloat16", "float16"]),
                default="float32",
                show_default=True,
                help="Of the weights; scores are float32.",
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(min=1),
                default=64,
                show_default=True,
                help="Crops encoded together.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Of every random draw."),
            click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]"),
        ]
    ):
        function = option(function)
    return function


def class_options(function: F) -> F:
    """Add ``--bundle`` and ``--labels``."""
    bundle = click.option(
        "--bundle", metavar="REF", help="Descriptions: NAME, NAME@VERSION, NAME@VERSION#sha256:... or a file."
    )
    labels = click.option(
        "--labels", metavar="NAMES", help="Class names without descriptions: 'cat,dog,car', a file, or a shipped set."
    )
    return bundle(labels(function))
