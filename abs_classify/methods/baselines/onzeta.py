"""OnZeta: online label and proxy learning in closed form (Qian & Hu, ECCV 2024, arXiv 2408.13320)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from abs_classify.methods.parameters import check_range
from abs_classify.methods.scoring import ClassTextFeatures, full_image
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OnZeta", "OnZetaState"]

#: as in the authors' code: temperatures of texts and of learned proxies, and the step sizes
_TEXT_TEMPERATURE, _PROXY_TEMPERATURE, _LABEL_STEP, _PROXY_STEP = 0.01, 0.04, 20.0, 0.5


@dataclass(eq=False)
class OnZetaState:
    """The stream so far.

    Attributes:
        weights: [C, d] unit text vectors.
        proxies: [C, d] unit, start as the texts.
        dual: [C], the multipliers rho that push labels towards balance.
        seen, total: number of images so far and in all.
    """

    weights: Tensor
    proxies: Tensor
    dual: Tensor
    seen: int
    total: int


@dataclass(frozen=True)
class OnZeta:
    """A mix of labels from texts, pushed towards balanced classes, and from learned class proxies. ImageNet settings.

    Needs the number of images in advance. Step sizes are meant for tens of thousands of images.

    Attributes:
        balance: least share of a uniform distribution that each class gets (alpha); 0 leaves labels free.
        mix: final weight of the proxies' labels (beta); TTA-VLM uses 0.4 outside ImageNet.

    Raises:
        UsageError: a share or weight that is not from 0 to 1.
    """

    balance: float = 1.0
    mix: float = 0.8

    def __post_init__(self) -> None:
        check_range("OnZeta", {"balance": self.balance, "mix": self.mix}, 0, 1)

    def key(self) -> dict[str, Any]:
        """See ``StreamScorer``."""
        return {"matcher": "onzeta", **asdict(self)}

    def start(self, texts: ClassTextFeatures, total: int) -> OnZetaState:
        """See ``StreamScorer``."""
        if total < 1:
            raise UsageError(f"a stream must have at least 1 image, got {total} images")
        weights = texts.means
        return OnZetaState(weights, weights, weights.new_zeros(len(weights)), 0, total)

    def step(self, state: OnZetaState, views: Mapping[str, Tensor]) -> Tensor:
        """See ``StreamScorer``; looks at the full image only."""
        from abs_classify.methods.similarity import unit

        if state.seen >= state.total:
            raise UsageError(f"the stream was started for {state.total} images, got more")
        feature = full_image(views)
        state.seen += 1
        rate = 1 / sqrt(state.seen)
        share = self.mix * sqrt(state.seen / state.total)
        # adding rho inside the softmax multiplies by exp(rho) and normalises, without overflow
        label = (state.weights @ feature / _TEXT_TEMPERATURE + state.dual).softmax(-1)
        proxy_label = (state.proxies @ feature / _PROXY_TEMPERATURE).softmax(-1)
        state.dual = (state.dual - _LABEL_STEP * rate * (label - self.balance / len(label))).clamp_min(0)
        step = _PROXY_STEP * rate / _PROXY_TEMPERATURE
        state.proxies = unit(state.proxies - step * (proxy_label - label).outer(feature))
        return share * proxy_label + (1 - share) * label
