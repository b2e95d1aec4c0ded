"""AWT: views and descriptions weighed by entropy, matched by optimal transport (Zhu et al., NeurIPS 2024).

arXiv 2407.04603, and the authors' code for what the paper leaves open (MCG-NJU/AWT, Apache-2.0).

The logits of view v and text j of class c are L_vcj = s f_v . t_cj. View 0 is the full image, text 0 of a class its
plain template. A view weighs softmax over v of -H(mean_j L_v) / 0.5, H being the entropy of the distribution over
classes. Text j of class c weighs softmax over j of -H / 0.5, where H is the entropy of mean_j L_0 with L_0cj in the
place of class c. The score of a class is the sum of the transport plan between the two weightings (Sinkhorn on the cost
1 - cosine) times the logits.

The original has equally many texts for each class; here a class has its own number, which changes nothing where they
are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from abs_classify.methods.parameters import MAX_SCALE, MIN_TEMPERATURE, check_range
from abs_classify.methods.scoring import ClassTextFeatures, all_views, full_image
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AWT", "transport_plan", "transport_scores"]


@dataclass(frozen=True)
class AWT:
    """Transported similarity of views and texts, times the logit scale. Needs the full image as the first view.

    Attributes:
        scale: logit scale.
        view_temperature, text_temperature: of the weights of views and of texts.
        epsilon: entropic regularisation of the transport.
        rounds: of Sinkhorn's iteration, at most.
        settled: mean change of the scaling of views at which it ends.

    Raises:
        UsageError: a parameter out of its range.
    """

    scale: float = 100.0
    view_temperature: float = 0.5
    text_temperature: float = 0.5
    epsilon: float = 0.1
    rounds: int = 100
    settled: float = 1e-2

    def __post_init__(self) -> None:
        check_range("AWT", asdict(self), 0, MAX_SCALE, above=True)
        temperatures = {name: getattr(self, name) for name in ("view_temperature", "text_temperature")}
        check_range("AWT", temperatures, MIN_TEMPERATURE)
        check_range("AWT", {"rounds": self.rounds}, 1, 10_000)
        # exp(-2 / epsilon) must not vanish in float32
        check_range("AWT", {"epsilon": self.epsilon}, 0.025)

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "awt", **asdict(self)}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``. Raises UsageError if the full image is not the first view."""
        import torch

        full_image(views)
        if next(iter(views)) != "whole":
            raise UsageError("AWT weighs texts by the first view", remedy="List the full image before the other views")
        features, places = _by_class(texts)
        return torch.stack([transport_scores(image, features, places, self) for image in all_views(views)])


def transport_scores(views: Tensor, texts: Tensor, is_text: Tensor, parameters: AWT) -> Tensor:
    """Class scores of one image.

    Args:
        views: [V, d] unit; view 0 is the full image.
        texts: [C, K, d] unit, the texts of each class, padded to the largest number K; text 0 is the plain template.
        is_text: bool [C, K], False where there is padding.
        parameters: those of the method.

    Returns:
        [C], in the dtype of the views.
    """
    import torch

    similarity = torch.einsum("vd,ckd->cvk", views, texts)
    logits = parameters.scale * similarity
    # by class and view: the mean over a class's own texts
    means = (logits * is_text[:, None]).sum(-1) / is_text.sum(-1, keepdim=True)
    view_weights = (-_entropy(means.T) / parameters.view_temperature).softmax(0)
    certainty = -_replaced_entropies(means[:, 0], logits[:, 0]) / parameters.text_temperature
    text_weights = certainty.masked_fill(~is_text, -torch.inf).softmax(-1)
    kernel = ((similarity - 1) / parameters.epsilon).exp() * is_text[:, None]
    plan = transport_plan(kernel, view_weights, text_weights, parameters.rounds, parameters.settled)
    return (plan * logits).sum((1, 2))


def transport_plan(kernel: Tensor, rows: Tensor, columns: Tensor, rounds: int = 100, settled: float = 1e-2) -> Tensor:
    """Sinkhorn's plans of C transports (Cuturi 2013), which end together.

    Args:
        kernel: [C, V, K], exp(-cost / epsilon); 0 where a column is padding.
        rows: [V], what leaves each row, of every transport.
        columns: [C, K], what arrives at each column; 0 where it is padding.
        rounds: at most.
        settled: the mean change of the scaling of rows at which the iteration ends.

    Returns:
        [C, V, K]; exact in its columns, and in its rows as far as the iteration went.
    """
    import torch

    right = (columns > 0).to(kernel.dtype)
    left = kernel.new_ones(kernel.shape[:2])
    for _ in range(rounds):
        before = left
        left = rows / (kernel @ right[..., None]).squeeze(-1)
        reach = (kernel.transpose(1, 2) @ left[..., None]).squeeze(-1)
        right = torch.where(columns > 0, columns / reach, torch.zeros_like(columns))
        if float((left - before).abs().mean()) < settled:
            break
    return left[..., None] * kernel * right[:, None]


def _by_class(texts: ClassTextFeatures) -> tuple[Tensor, Tensor]:
    """The texts of each class in their order, padded: [C, K, d], and which are none: bool [C, K]."""
    import torch

    from abs_classify.methods.similarity import class_counts

    counts = class_counts(texts.class_index, texts.classes)
    order = texts.class_index.argsort(stable=True)
    is_text = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    features = texts.features.new_zeros(*is_text.shape, texts.features.shape[1])
    features[is_text] = texts.features[order]
    return features, is_text


def _entropy(logits: Tensor) -> Tensor:
    import torch

    entropy: Tensor = torch.special.entr(logits.softmax(-1)).sum(-1)
    return entropy


def _replaced_entropies(means: Tensor, logits: Tensor) -> Tensor:
    """The entropy of softmax(means) with one class's logit replaced by another: [C, K] for means [C], logits [C, K].

    It is that of two masses, w of the replaced class and 1 - w of the others, plus 1 - w times the others' own entropy.
    """
    import torch

    wide, best = means.double(), int(means.argmax())
    if len(wide) == 1:
        return torch.zeros_like(logits)
    powers = (wide - wide[best]).exp()
    # of all classes but one: what is taken away is at most the term of the best class, which stays
    total = (powers.sum() - powers).log() + wide[best]
    spread = torch.special.xlogy(powers, powers)
    own = total - wide[best] - (spread.sum() - spread) / (powers.sum() - powers)
    rest = torch.cat([wide[:best], wide[best + 1 :]])
    total[best], own[best] = rest.logsumexp(0), _entropy(rest)
    share = (logits.double() - total[:, None]).sigmoid()
    mixed: Tensor = torch.special.entr(share) + torch.special.entr(1 - share) + (1 - share) * own[:, None]
    return mixed.to(logits.dtype)
