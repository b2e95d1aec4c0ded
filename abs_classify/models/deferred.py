"""The tower and the attention source of a run: known by digest at once, loaded only when something must be computed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from abs_classify.encoding.digest_cache import DigestCache
from abs_core.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from abs_classify.methods.table import Method
    from abs_classify.methods.views import Geometry
    from abs_classify.models.attention import AttentionBackend
    from abs_classify.models.base import Model

__all__ = ["DeferredModel", "ModelFacts", "model_notes"]


_logger = logging.getLogger(__name__)


# packages whose version may change a weight's meaning: architectures, tokenizers, preprocessing
_PACKAGES = ("abs-toolkit", "open_clip_torch", "timm", "torch", "transformers", "pillow", "numpy")


@dataclass(frozen=True)
class ModelFacts:
    """What must be known of the models before, and often instead of, loading them.

    Args:
        tower: digest of the tower.
        attention: digest of the attention source.
        grid: side of the token grid, 0 without feature views.
        crop_fraction: share of the short side that the tower sees of the whole image; None where it stretches it.
        context_length: tokens that a text may have.
    """

    tower: str
    attention: str
    grid: int
    crop_fraction: float | None
    context_length: int

    @property
    def geometry(self) -> Geometry:
        """The part of the facts that places views."""
        from abs_classify.methods.views import Geometry

        return Geometry(self.grid, self.crop_fraction)


class DeferredModel:
    """A tower and an attention source by name.

    Args:
        name: the tower, as `abs models` lists it.
        attention: the attention source, "auto" for the tower's own recommendation.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: of the weights: "float32", "bfloat16", "float16".
        memo: remembers digests between runs.
        derived: folder for what a tower computes from its weights once.
    """

    def __init__(self, name: str, attention: str, device: str, dtype: str, memo: DigestCache, derived: Path) -> None:
        self.name, self.attention, self.device, self.dtype = name, attention, device, dtype
        self.memo, self._derived = memo, derived

    def for_methods(self, methods: Iterable[Method]) -> DeferredModel:
        """These models, without their attention source if no view of the methods is placed by attention.

        Raises:
            UnknownNameError: there is no source of that name, whether one is needed or not.
        """
        from abs_classify.models.attention import attention_files
        from abs_classify.models.embedded_files import EMBEDDED

        if any(view.needs_attention for method in methods for view in method.views):
            return self
        with suppress(ModelError):  # weights that are not used need not be here
            attention_files(self.attention, EMBEDDED)
        return DeferredModel(self.name, "none", self.device, self.dtype, self.memo, self._derived)

    def told_grid(self) -> int | None:
        """The side of the token grid as ``Facts`` has it, told without reading weights; None where that cannot be.

        Raises:
            WeightsError, ModelError: as in ``draw_portrait``.
        """
        from abs_classify.models.info import read_model_info
        from abs_classify.models.registry import entry_of

        portrait = read_model_info(entry_of(self.name), self.name)
        return None if portrait.remark else portrait.grid

    @cached_property
    def facts(self) -> ModelFacts:
        """Digests and geometry: remembered for unchanged weights and packages, else taken from the loaded models."""
        from abs_classify.models.attention import attention_files
        from abs_classify.models.registry import model_files

        what = json.dumps([self.name, self.attention, self.dtype, [_version(package) for package in _PACKAGES]])
        files = [*model_files(self.name), *attention_files(self.attention, self.name)]
        return ModelFacts(**json.loads(self.memo.derived(what, files, self._find_facts)))

    @property
    def pillow(self) -> str:
        """The version of the library that decodes and resizes images."""
        return _version("pillow")

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that take part in a result."""
        return {package: found for package in _PACKAGES if (found := _version(package))}

    @cached_property
    def tower(self) -> Model:
        """The tower, loaded when first asked for."""
        from abs_classify.models.base import DTYPES, emulates
        from abs_classify.models.registry import load_model

        _logger.info("loading %s", self.name)
        tower = load_model(self.name, device=self.device, dtype=self.dtype, derived=self._derived)
        if emulates(tower.device, DTYPES[self.dtype]):
            _logger.info("this %s has no unit for %s and emulates it; float32 is faster", tower.device.type, self.dtype)
        return tower

    @cached_property
    def source(self) -> AttentionBackend:
        """The attention source, loaded when first asked for."""
        from abs_classify.models.attention import load_attention

        return load_attention(self.attention, self.tower)

    def _find_facts(self) -> str:
        tower, source = self.tower, self.source
        facts = ModelFacts(tower.digest, source.digest, tower.grid, tower.crop_fraction, tower.context_length)
        return json.dumps(asdict(facts))


def model_notes(name: str) -> list[str]:
    """What must be said wherever a tower is offered."""
    from abs_classify.models.embedded_files import EMBEDDED

    if name != EMBEDDED:
        return []
    return [
        "the embedded tower knows what ImageNet-1k knows; it serves to try the pipeline, an open_clip model to do work"
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
