"""The spaces of the stages: all that each of them depends on, besides the image or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import lt
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.spaces import FeatureStore, Space

if TYPE_CHECKING:
    from abs_classify.methods.views import ViewSource
    from abs_classify.models.deferred import DeferredModel

__all__ = ["StageSpaces"]

# Raised when the code of a stage changes its result.
_VERSIONS = {"text-features": 1, "images": 1, "attention": 3, "view-features": 4}


@dataclass(frozen=True)
class StageSpaces:
    """The spaces of a run.

    Args:
        models: the model and the attention backend, known by digest.
        seed: of all random numbers.
    """

    models: DeferredModel
    seed: int

    @property
    def texts(self) -> Space:
        """Unit features of texts."""
        return self._space("text-features", {"model": self.models.facts.model})

    @property
    def facts(self) -> Space:
        """What is known of an image that was decoded."""
        return self._space("images", {"pillow": self.models.pillow})

    @property
    def attention(self) -> Space:
        """Attention maps."""
        return self._space("attention", {"backend": self.models.facts.attention, "pillow": self.models.pillow})

    def view(self, view: ViewSource) -> Space:
        """Unit features of the views of a source, whatever their number: the first n of N views are those of n."""
        key = {name: value for name, value in view.key().items() if name != "count"}
        # what decodes and resizes: a release of Pillow changed how it rounds
        inputs: dict[str, Any] = {"model": self.models.facts.model, "view": key, "pillow": self.models.pillow}
        if view.kind != "whole":
            inputs["seed"] = self.seed
        if view.needs_attention:
            inputs["attention"] = self.models.facts.attention
        return self._space("view-features", inputs)

    def largest(self, views: Sequence[ViewSource]) -> dict[str, ViewSource]:
        """Of the view sources of each space the one with most views, by the digest of the space."""
        largest: dict[str, ViewSource] = {}
        for view in views:
            space = self.view(view).digest
            largest[space] = max(largest.get(space, view), view, key=lambda source: source.count)
        return largest

    def lacking(self, store: FeatureStore, ids: Sequence[str], wanted: Mapping[ViewSource, int]) -> set[str]:
        """The images of which a store has no facts, or fewer views of a source than are wanted."""
        needed = [(self.facts, 1), *((self.view(view), count) for view, count in wanted.items())]
        counts = [store.counts(space, ids) for space, _ in needed]
        least = [count for _, count in needed]
        return {item for item, *known in zip(ids, *counts, strict=True) if any(map(lt, known, least))}

    def _space(self, stage: str, inputs: Mapping[str, Any]) -> Space:
        names = {"model": f"{self.models.label}, {self.models.dtype}", "backend": self.models.attention_label}
        about = next((name for part, name in names.items() if part in inputs), "")
        return Space(stage, _VERSIONS[stage], inputs, about)
