"""Why a class won: which views and which sentences carried its score, against the runner-up.

The scores of most methods are sums over views and texts (``Contributions``), so the shares here add up to them. Methods
whose scores are not such sums (votes, modes, streams) are explained by their scores only, and the explanation says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from abs_classify.methods.scoring import (
    AdditiveScorer,
    ClassTextFeatures,
    Contributions,
    MeanSimilarity,
    PerViewScorer,
    StreamScorer,
)
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.encoding.samples import IdentifiedSample
    from abs_classify.encoding.stages import Stages
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource

__all__ = ["Explanation", "RankedClass", "SentenceShare", "ViewShare", "explain", "explain_seen", "seen_views"]


@dataclass(frozen=True)
class RankedClass:
    """A class and its score, as rankings list them.

    Attributes:
        class_id: the class's id.
        name: its name.
        score: in the method's own unit; comparable within one image only.
        confidence: 0 to 1, comparable between images, and no probability: see docs/confidence.md. None in what
            ``explain`` gives, which looks at scores alone.
    """

    class_id: str
    name: str
    score: float
    confidence: float | None = None


@dataclass(frozen=True)
class ViewShare:
    """What one view adds to the scores of the winner and the runner-up.

    Attributes:
        kind: of the view: "whole", "random", "resized", "box" or "window".
        index: its number within the kind, which is its row among the places of that kind.
        winner, runner_up: its share of the score of either class; the runner-up's is 0 if there is no second class.
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
    """What one sentence about the winner or the runner-up adds.

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

    The contributions of all views add up to ``margin``, and so do those of all sentences.

    Attributes:
        method: its name.
        winner: the best class.
        runner_up: the class that the winner is compared with: the second, or another one that was asked for, such as
            the true one; None if there is one class only.
        views: the largest contribution (of either sign) first; all, or those that ``strongest`` left.
        sentences: those of the two classes, likewise.
        view_count, sentence_count: how many there are in all.
        note: why there are no views and sentences, or nothing.
    """

    method: str
    winner: RankedClass
    runner_up: RankedClass | None
    views: tuple[ViewShare, ...] = ()
    sentences: tuple[SentenceShare, ...] = ()
    view_count: int = 0
    sentence_count: int = 0
    note: str = ""

    @property
    def margin(self) -> float:
        """Score of the winner minus score of the runner-up, which is 0 if there is none."""
        return self.winner.score - (0.0 if self.runner_up is None else self.runner_up.score)

    @property
    def other_views(self) -> float:
        """What the views that are not listed contribute together."""
        return self.margin - sum(share.contribution for share in self.views)

    @property
    def other_sentences(self) -> float:
        """What the sentences that are not listed contribute together."""
        return self.margin - sum(share.contribution for share in self.sentences)

    def strongest(self, count: int) -> Explanation:
        """The same with the first ``count`` views and sentences only."""
        return replace(self, views=self.views[:count], sentences=self.sentences[:count])

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON values; ``top`` keeps that many views and sentences, None all."""
        return {
            "method": self.method,
            "winner": self.winner.class_id,
            "runner_up": None if self.runner_up is None else self.runner_up.class_id,
            "winner_score": self.winner.score,
            "runner_up_score": 0.0 if self.runner_up is None else self.runner_up.score,
            "margin": self.margin,
            "views": [vars(share) | {"contribution": share.contribution} for share in self.views[:top]],
            "sentences": [dict(vars(share)) for share in self.sentences[:top]],
            "view_count": self.view_count,
            "sentence_count": self.sentence_count,
            "note": self.note,
        }


def explain(
    method: Method,
    views: Mapping[str, Tensor],
    features: ClassTextFeatures,
    class_texts: ClassTexts,
    scores: Tensor | None = None,
    among: Sequence[int] = (),
    totals: Mapping[str, int] | None = None,
    against: int | None = None,
) -> Explanation:
    """Explain the prediction for one image.

    After an adaptive run each view stands for those that it foretells: n views of N for N / n each.

    Args:
        method: the row of the table.
        views: kind -> unit features [N, d] of this image.
        features: the encoded ``class_texts``.
        class_texts: the texts of the classes.
        scores: [C] as predicted; None computes them. A stream method needs them.
        among: positions of the only classes that may win, where a benchmark chooses them after scoring; () for all.
        totals: how many views of each kind there are in all, where an adaptive run looked at the first of them.
        against: position of the class that the winner is compared with; the second best if it is None or the winner.

    Raises:
        UsageError: a stream method without scores, or scores of other classes.
    """
    import torch

    ids = class_texts.class_ids
    if scores is None:
        scores = _scores(method, views, features, totals)
    if scores.shape != (len(ids),):
        raise UsageError(f"scores must have the shape [{len(ids)}], one for each class, got {list(scores.shape)}")
    # of equal scores the lower position comes first, as in a ranking
    positions = torch.tensor(sorted(among) or range(len(scores)))
    best = positions[torch.argsort(scores[positions], descending=True, stable=True)[:2]].tolist()
    winner, second = best[0], best[1] if len(best) > 1 else None
    if against not in (None, winner):
        second = against
    compared = [winner] if second is None else [winner, second]
    ranked = [RankedClass(ids[place], class_texts.class_names[place], float(scores[place])) for place in compared]
    view_shares: tuple[ViewShare, ...] = ()
    sentence_shares: tuple[SentenceShare, ...] = ()
    if isinstance(method.scorer, AdditiveScorer):
        contributions = _weighted(method, method.scorer.contributions(views, features), views, totals)
        view_shares = _view_shares(contributions, class_texts, winner, second)
        sentence_shares = _sentence_shares(contributions, class_texts, winner, second)
    return Explanation(
        method=method.name,
        winner=ranked[0],
        runner_up=None if second is None else ranked[1],
        views=view_shares,
        sentences=sentence_shares,
        view_count=len(view_shares),
        sentence_count=len(sentence_shares),
        note=_note(method),
    )


def explain_seen(
    stages: Stages,
    method: Method,
    class_texts: ClassTexts,
    image: IdentifiedSample,
    looked: int,
    among: Sequence[int] = (),
    against: int | None = None,
) -> Explanation:
    """Explain the prediction of an adaptive run for one image, by the views that it looked at.

    Args:
        stages: with these views in the store.
        method, class_texts, among, against: as in ``explain``.
        image: the image.
        looked: how many views of each adaptive source were looked at.
    """
    (views,) = seen_views(stages, method, [image], [looked])
    totals = {view.kind: view.count for view in method.views}
    features = stages.text_features(class_texts)
    return explain(method, views, features, class_texts, among=among, totals=totals, against=against)


def seen_views(
    stages: Stages,
    method: Method,
    images: Sequence[IdentifiedSample],
    looked: Sequence[int] = (),
    *,
    also: Sequence[ViewSource] = (),
) -> list[dict[str, Tensor]]:
    """Of each image the unit features [n, d] by kind of view that a method looked at.

    Args:
        stages: with these views in the store, or they are computed.
        method: the method.
        images: images of one shard.
        looked: how many views of each adaptive source it looked at, for each image; empty for all of them.
        also: further views, which are there where the method has none of their kind.
    """

    def features(group: Sequence[IdentifiedSample], row: Method) -> list[dict[str, Tensor]]:
        kinds = {view.kind: view for view in (*also, *row.views)}
        stacks = stages.views(group, list(kinds.values()))
        return [{kind: stacks[view][position] for kind, view in kinds.items()} for position in range(len(group))]

    if not len(looked):
        return features(images, method)
    rows = [method.seen(count, cheap_windows=stages.models.facts.cheap_windows) for count in looked]
    return [features([image], row)[0] for image, row in zip(images, rows, strict=True)]


def _weighted(
    method: Method, contributions: Contributions, views: Mapping[str, Tensor], totals: Mapping[str, int] | None
) -> Contributions:
    """The contributions of views that stand for more than themselves."""
    if totals is None:
        return contributions
    import torch

    weights = torch.tensor([totals[kind] / len(views[kind]) for kind, _ in contributions.views], dtype=torch.float64)
    if isinstance(method.scorer, MeanSimilarity):
        # a mean over all views, of which the contributions are over those that are there
        weights = weights * len(weights) / sum(totals.values())
    return replace(contributions, parts=contributions.parts * weights[:, None])


def _scores(
    method: Method, views: Mapping[str, Tensor], features: ClassTextFeatures, totals: Mapping[str, int] | None
) -> Tensor:
    if totals is not None and isinstance(method.scorer, PerViewScorer):
        parts = [
            method.scorer.view_scores({kind: rows[None]}, features, sum(totals.values()))[0].mean(0) * totals[kind]
            for kind, rows in views.items()
        ]
        return sum(parts[1:], parts[0])
    if isinstance(method.scorer, StreamScorer):
        raise UsageError(
            f"the method {method.name!r} scores an image by the images before it, so its scores must be given",
            remedy="Pass the scores that the method gave this image",
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
    contributions: Contributions, class_texts: ClassTexts, winner: int, second: int | None
) -> tuple[ViewShare, ...]:
    texts_of_winner = (contributions.class_index == winner).nonzero().squeeze(1)
    parts = contributions.parts[:, texts_of_winner]
    values, leading = parts.sum(1).tolist(), texts_of_winner[parts.argmax(1)].tolist()
    others = [0.0] * len(values)
    if second is not None:
        others = contributions.parts[:, contributions.class_index == second].sum(1).tolist()
    shares = [
        ViewShare(kind, index, value, other, class_texts.texts[text])
        for (kind, index), value, other, text in zip(contributions.views, values, others, leading, strict=True)
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.contribution)))


def _sentence_shares(
    contributions: Contributions, class_texts: ClassTexts, winner: int, second: int | None
) -> tuple[SentenceShare, ...]:
    totals = contributions.parts.sum(0).tolist()
    shares = [
        SentenceShare(text, class_texts.class_ids[class_index], total, total if class_index == winner else -total)
        for text, class_index, total in zip(class_texts.texts, class_texts.class_index, totals, strict=True)
        if class_index in (winner, second)
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.contribution)))
