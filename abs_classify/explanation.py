"""Why a class won: which views and which sentences carried its score, against the runner-up.

Scores of most methods are sums over views and texts (``Contributions``), so the shares here add up to them. Methods
whose scores are no such sums (votes, modes, streams) are explained by their scores only, and the explanation says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abs_classify.methods.scoring import AdditiveScorer, ClassTextFeatures, Contributions, StreamScorer
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method

__all__ = ["Explanation", "SentenceShare", "ViewShare", "explain"]


@dataclass(frozen=True)
class ViewShare:
    """What one view adds.

    Attributes:
        kind: of the view: "whole", "random", "box" or "window".
        index: its number within the kind, which is its row among the places of that kind.
        winner, runner_up: its share of either class's score; the runner-up's is 0 if there is no second class.
        sentence: the winner's sentence that carried most of ``winner``.
    """

    kind: str
    index: int
    winner: float
    runner_up: float
    sentence: str

    @property
    def contribution(self) -> float:
        """Its share of the margin: positive if it speaks for the winner."""
        return self.winner - self.runner_up


@dataclass(frozen=True)
class SentenceShare:
    """What one sentence of the winner or the runner-up adds.

    Attributes:
        text: the sentence.
        class_id: the class that it describes.
        score: its share of that class's score.
        contribution: its share of the margin: ``score`` for the winner's, minus ``score`` for the runner-up's.
    """

    text: str
    class_id: str
    score: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why a method prefers its first class to its second, for one image.

    Attributes:
        method: its name.
        winner, runner_up: class ids; ``runner_up`` is None if there is one class only.
        winner_score, runner_up_score: in the method's own unit; 0 without a runner-up.
        views: every view, the largest contribution (of either sign) first; their contributions add up to ``margin``.
        sentences: every sentence of the two classes, in the same order; likewise.
        note: why ``views`` and ``sentences`` are empty, or nothing.
    """

    method: str
    winner: str
    runner_up: str | None
    winner_score: float
    runner_up_score: float
    views: tuple[ViewShare, ...] = ()
    sentences: tuple[SentenceShare, ...] = ()
    note: str = ""

    @property
    def margin(self) -> float:
        """Score of the winner minus score of the runner-up."""
        return self.winner_score - self.runner_up_score

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON values; ``top`` keeps that many views and sentences, None all. Counts tell how many there were."""
        return {
            "method": self.method,
            "winner": self.winner,
            "runner_up": self.runner_up,
            "winner_score": self.winner_score,
            "runner_up_score": self.runner_up_score,
            "margin": self.margin,
            "views": [vars(share) | {"contribution": share.contribution} for share in self.views[:top]],
            "sentences": [dict(vars(share)) for share in self.sentences[:top]],
            "view_count": len(self.views),
            "sentence_count": len(self.sentences),
            "note": self.note,
        }


def explain(
    method: Method,
    views: Mapping[str, Tensor],
    features: ClassTextFeatures,
    table: ClassTexts,
    scores: Tensor | None = None,
    among: Sequence[int] = (),
) -> Explanation:
    """Explain the prediction for one image.

    Args:
        method: the row of the table.
        views: kind -> unit features [N, d] of this image.
        features: the encoded texts of ``table``.
        table: ids and texts.
        scores: [C] as predicted; None computes them. A stream method needs them.
        among: positions of the only classes that may win, where a benchmark chooses them after scoring; () for all.

    Raises:
        UsageError: a stream method without scores, or scores of other classes.
    """
    import torch

    if scores is None:
        scores = _scores(method, views, features)
    if scores.shape != (len(table.class_ids),):
        raise UsageError(f"{list(scores.shape)} scores cannot be explained for {len(table.class_ids)} classes")
    # of equal scores the lower position comes first, as in a ranking
    places = torch.tensor(sorted(among) or range(len(scores)))
    best = places[torch.argsort(scores[places], descending=True, stable=True)[:2]].tolist()
    winner, second = best[0], best[1] if len(best) > 1 else None
    shares: tuple[tuple[ViewShare, ...], tuple[SentenceShare, ...]] = ((), ())
    if isinstance(method.scorer, AdditiveScorer):
        contributions = method.scorer.contributions(views, features)
        shares = (
            _view_shares(contributions, table, winner, second),
            _sentence_shares(contributions, table, winner, second),
        )
    return Explanation(
        method.name,
        table.class_ids[winner],
        None if second is None else table.class_ids[second],
        float(scores[winner]),
        0.0 if second is None else float(scores[second]),
        *shares,
        note=_note(method),
    )


def _scores(method: Method, views: Mapping[str, Tensor], features: ClassTextFeatures) -> Tensor:
    if isinstance(method.scorer, StreamScorer):
        raise UsageError(
            f"the method {method.name!r} scores an image by those before it", remedy="Pass the scores that it gave"
        )
    batch = {kind: rows[None] for kind, rows in views.items()}
    return method.scorer.scores(batch, features)[0]


def _note(method: Method) -> str:
    if method.stream:
        return f"{method.name} scores an image by the images before it, so no sentence or view has a share of its own"
    if isinstance(method.scorer, AdditiveScorer):
        return ""
    return f"the scores of {method.name} are no sums over views and sentences, so none has a share of its own"


def _view_shares(
    contributions: Contributions, table: ClassTexts, winner: int, second: int | None
) -> tuple[ViewShare, ...]:
    own = (contributions.class_index == winner).nonzero().squeeze(1)
    parts = contributions.parts[:, own]
    values, leading = parts.sum(1).tolist(), own[parts.argmax(1)].tolist()
    others = [0.0] * len(values)
    if second is not None:
        others = contributions.parts[:, contributions.class_index == second].sum(1).tolist()
    shares = [
        ViewShare(kind, index, value, other, table.texts[text])
        for (kind, index), value, other, text in zip(contributions.views, values, others, leading, strict=True)
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.contribution)))


def _sentence_shares(
    contributions: Contributions, table: ClassTexts, winner: int, second: int | None
) -> tuple[SentenceShare, ...]:
    totals = contributions.parts.sum(0).tolist()
    shares = [
        SentenceShare(text, table.class_ids[class_index], total, total if class_index == winner else -total)
        for text, class_index, total in zip(table.texts, table.class_index, totals, strict=True)
        if class_index in (winner, second)
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.contribution)))
