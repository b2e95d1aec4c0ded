"""The model and the attention backend of a run: known by digest at once, loaded only when they must compute."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from abs_classify.models.registered import is_registered
from abs_classify.models.runtime_names import machine_key
from abs_classify.models.store import short_name
from abs_core.errors import ModelError
from abs_core.extras import installed_version

if TYPE_CHECKING:
    from pathlib import Path

    from abs_classify.encoding.digest_cache import DigestCache
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import Geometry
    from abs_classify.models.base import AttentionBackend, Model

__all__ = ["DeferredModel", "LoadedModel", "ModelFacts", "model_notes"]

_logger = logging.getLogger(__name__)

# packages whose version may change a weight's meaning: architectures, tokenizers, preprocessing
_PACKAGES = ("abs-toolkit", "open_clip_torch", "timm", "torch", "transformers", "pillow", "numpy")


@dataclass(frozen=True)
class ModelFacts:
    """What must be known of the models before, and often instead of, loading them.

    Args:
        model: digest of the model.
        attention: digest of the attention backend.
        grid: side of the token grid, 0 without feature windows.
        crop_fraction: share of the short side that the model sees of the whole image; None where it stretches it.
        context_length: tokens that a text may have.
        input_size: the shorter side of what the model sees of an image, in pixels.
        embed_dim: size of a feature.
        attention_grid: side of an attention map, in patches.
        cheap_windows: whether feature windows cost nearly nothing.
        logit_scale: see ``Model.logit_scale``.
        remarks: what was assumed or left out when the model was loaded, for people.
        runtime: whose features these are in reduced precision; in float32 any that agrees with torch may run.
    """

    model: str
    attention: str
    grid: int
    crop_fraction: float | None
    context_length: int
    input_size: int
    embed_dim: int
    attention_grid: int
    cheap_windows: bool
    logit_scale: float
    remarks: tuple[str, ...] = ()
    runtime: str = "torch"

    def to_json(self) -> str:
        """The facts as the digest cache remembers them; "tower" is the name of the model there."""
        values = asdict(self)
        return json.dumps({"tower": values.pop("model"), **values})

    @classmethod
    def from_json(cls, text: str) -> ModelFacts:
        """The facts that ``to_json`` wrote."""
        values = json.loads(text)
        return cls(model=values.pop("tower"), remarks=tuple(values.pop("remarks", ())), **values)

    @property
    def geometry(self) -> Geometry:
        """The part of the facts that places views."""
        from abs_classify.methods.views import Geometry

        return Geometry(self.grid, self.crop_fraction, self.input_size)


class DeferredModel:
    """A model and an attention backend by name.

    Args:
        name: the model, as `abs models` lists it.
        attention: the attention backend, "auto" for the model's own recommendation.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: of the weights: "float32", "bfloat16", "float16".
        digests: remembers digests between runs.
        derived: folder for what a model computes from its weights once; None keeps nothing.
        runtime: what runs the blocks of an image encoder on a CPU: "auto", "torch", "onednn", "openvino".
    """

    def __init__(
        self,
        name: str,
        attention: str,
        device: str,
        dtype: str,
        digests: DigestCache,
        derived: Path | None,
        runtime: str = "auto",
    ) -> None:
        self.name, self.attention, self.device, self.dtype, self.runtime = name, attention, device, dtype, runtime
        self.digests, self._derived = digests, derived
        self._unused_attention: str | None = None

    def for_methods(self, methods: Iterable[Method]) -> DeferredModel:
        """These models, without their attention backend if no view of the methods is placed by attention."""
        if any(view.needs_attention for method in methods for view in method.views):
            return self
        return self._without_attention()

    def _without_attention(self) -> DeferredModel:
        models = DeferredModel(self.name, "none", self.device, self.dtype, self.digests, self._derived, self.runtime)
        models._unused_attention = self.attention
        return models

    def on_worker(self, facts: ModelFacts, device: str, digests: DigestCache) -> DeferredModel:
        """These models for another process, perhaps on another machine, which need not find out their facts again.

        Args:
            facts: of these models.
            device: of the other process.
            digests: what it remembers.
        """
        models = DeferredModel(self.name, self.attention, device, self.dtype, digests, self._derived, self.runtime)
        models.__dict__["facts"] = facts
        return models

    def find_files(self) -> Sequence[Path]:
        """The files of the weights, without reading them, so that a wrong name costs nothing.

        Raises:
            UnknownNameError: no such model or attention backend, whether one is needed or not.
            WeightsError, ModelError: the weights are not on this machine, or cannot be used.
        """
        from abs_classify.models.registry import model_files

        files = model_files(self.name)
        if is_registered(self.name) and self.attention == "auto":
            return files  # which it is only the model knows
        if self._unused_attention is None:
            from abs_classify.models.attention import attention_files

            return [*files, *attention_files(self.attention, self.name)]
        if self._unused_attention != "auto":
            self._check_attention_name(self._unused_attention)
        return files

    @staticmethod
    def _check_attention_name(name: str) -> None:
        from abs_classify.models.attention import attention_files
        from abs_classify.models.embedded_files import EMBEDDED

        with suppress(ModelError):  # weights that are not used need not be here
            attention_files(name, EMBEDDED)

    def grid_from_config(self) -> int | None:
        """The side of the token grid, read from the configuration; None where that does not say.

        Raises:
            WeightsError, ModelError: as in ``read_model_info``.
        """
        if is_registered(self.name):
            return None
        from abs_classify.models.info import read_model_info
        from abs_classify.models.registry import entry_of

        info = read_model_info(entry_of(self.name), self.name, remember=self.digests.derived)
        return None if info.remark else info.grid

    @cached_property
    def facts(self) -> ModelFacts:
        """Digests and geometry: remembered for unchanged weights and packages, else taken from the loaded models."""
        if is_registered(self.name):
            return self._find_facts()  # what decides them is the loader's
        inputs = json.dumps(
            [
                "with embedding size, cheap windows and logit scale",
                self.name,
                self.attention,
                self.dtype,
                self._features_depend_on(),
                [installed_version(package) for package in _PACKAGES],
            ]
        )
        return ModelFacts.from_json(
            self.digests.derived(inputs, self.find_files(), lambda: self._find_facts().to_json())
        )

    def _features_depend_on(self) -> list[str]:
        """What of the runtime and the machine decides the features; ``auto`` in float32 agrees with torch."""
        if self.runtime == "torch" or (self.runtime == "auto" and self.dtype == "float32"):
            return []
        return [self.device, *machine_key(self.runtime, self.dtype, threads=None)]

    @property
    def label(self) -> str:
        """The name of the model without the path of its files."""
        return short_name(self.name)

    @property
    def attention_label(self) -> str:
        """The name of the attention backend without the path of its files."""
        return short_name(self.attention)

    @property
    def notes(self) -> list[str]:
        """What must be said of a result of the model; loads it where nothing is remembered of it."""
        return [*model_notes(self.name), *(f"{self.label}: {remark}" for remark in self.facts.remarks)]

    @cached_property
    def pillow(self) -> str:
        """The version of the library that decodes and resizes images."""
        return installed_version("pillow")

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that take part in a result."""
        return {package: installed for package in _PACKAGES if (installed := installed_version(package))}

    @cached_property
    def model(self) -> Model:
        """The model, loaded when first asked for.

        Raises:
            ModelError: the runtime that its remembered facts name cannot run here any more.
        """
        if not self._features_depend_on():
            return self._load(self.runtime)
        facts = self.facts
        # what found the facts anew has loaded it
        model: Model = self.__dict__.get("model") or self._load(facts.runtime)
        if model.digest != facts.model:
            raise ModelError(
                f"{self.label} ran in {facts.runtime} when it was first used here, and now does not",
                remedy="Choose --runtime torch, or the package versions of that time",
            )
        return model

    def _load(self, runtime: str) -> Model:
        from abs_classify.models.base import DTYPES, emulates
        from abs_classify.models.registry import load_model

        _logger.info("loading %s", self.label)
        model = load_model(
            self.name,
            device=self.device,
            dtype=self.dtype,
            runtime=runtime,
            derived=self._derived,
            remember=self.digests.derived,
        )
        if emulates(model.device, DTYPES[self.dtype]):
            _logger.info("this %s has no unit for %s and emulates it; float32 is faster", model.device.type, self.dtype)
        return model

    @cached_property
    def attention_backend(self) -> AttentionBackend:
        """The attention backend, loaded when first asked for."""
        from abs_classify.models.attention import load_attention

        return load_attention(self.attention, self.model, runtime=self.runtime, remember=self.digests.derived)

    def _find_facts(self) -> ModelFacts:
        from abs_classify.models.base import input_size
        from abs_classify.models.runtime import RuntimeChoice

        if self._features_depend_on() and "model" not in self.__dict__:
            # not through the property, which asks for these facts
            self.__dict__["model"] = self._load(self.runtime)
        model, backend = self.model, self.attention_backend
        choice = getattr(model, "runtime", None)
        return ModelFacts(
            model.digest,
            backend.digest,
            model.grid,
            model.crop_fraction,
            model.context_length,
            input_size(model),
            model.embed_dim,
            backend.grid,
            model.cheap_windows,
            model.logit_scale,
            tuple(getattr(model, "remarks", ())),
            choice.name if isinstance(choice, RuntimeChoice) else "torch",
        )


class LoadedModel(DeferredModel):
    """A model that is loaded, with its attention backend.

    Args:
        model: the model.
        attention: the name of an attention backend, or one.
        digests: remembers digests of images between runs.
    """

    def __init__(self, model: Model, attention: str | AttentionBackend, digests: DigestCache) -> None:
        named = attention if isinstance(attention, str) else attention.name
        super().__init__(model.name, named, str(model.device), "as loaded", digests, None)
        self.model = model
        self._is_named = isinstance(attention, str)
        if not isinstance(attention, str):
            self.attention_backend = attention

    def _without_attention(self) -> LoadedModel:
        if self._is_named:
            self._check_attention_name(self.attention)
        return LoadedModel(self.model, "none", self.digests)

    def find_files(self) -> Sequence[Path]:
        """None: what is loaded needs no file."""
        return ()

    def grid_from_config(self) -> int | None:
        """The side of the token grid, as the model says."""
        return self.model.grid

    @cached_property
    def facts(self) -> ModelFacts:
        """Digests and geometry of the loaded models."""
        return self._find_facts()


def model_notes(name: str) -> list[str]:
    """What must be said wherever a model is offered."""
    from abs_classify.models.embedded_files import EMBEDDED

    if name != EMBEDDED:
        return []
    return [
        "the embedded model knows what ImageNet-1k knows: its image encoder was trained on the photos of ILSVRC 2012, "
        "so its accuracy on such images says little about others; use it to try the pipeline, and an open_clip model "
        "for work"
    ]
