"""Photos without labels: rankings, and why each first class won."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.ranking import OnError, ScoredImages, identify, score
from abs_classify.encoding.stages import Stages
from abs_classify.methods.plan import MethodPlan
from abs_classify.models.deferred import model_notes
from abs_classify.report.contents import ShardExplainer, classification_page, report_images
from abs_core.descriptions import LabelSpace
from abs_core.errors import ImageError
from abs_core.progress import Advance
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from abs_classify.explanation import Explanation

__all__ = ["Predictions", "classify_images"]


_SENTENCES = 3


@dataclass
class Predictions:
    """What `abs classify` found, for one method."""

    vocabulary: LabelSpace
    plan: MethodPlan
    stages: Stages
    scored: ScoredImages

    @cached_property
    def explanations(self) -> list[Explanation | None]:
        """Why each photo got its first class; None for a method that depends on the photos before."""
        (method, table), *_ = self.plan.methods.items()
        if method.stream:
            return [None] * len(self.scored.photos)
        found: list[Explanation | None] = []
        for shard in self.scored.shards:
            explainer = ShardExplainer(self.stages, method, table, shard, self.scored.selected)
            found += [explainer.explain(at) for at in range(len(shard))]
        return found

    def notes(self) -> list[str]:
        """What the reader should know."""
        return [*self.plan.notes, *model_notes(self.stages.models.name)]

    def text_lines(self, top: int) -> Iterator[str]:
        """For a terminal: where the classes are from; then each photo, its best classes, the sentences that decided."""
        yield printable(f"classes from {self.vocabulary.source}")
        names = list(self.vocabulary.names.values())
        for at, photo in enumerate(self.scored.photos):
            yield printable(photo.name)
            for position, value in self._ranking(at, top):
                yield f"  {value:>10.4g}  {printable(names[position])}"
            why = self.explanations[at]
            if why is None or why.runner_up is None:
                continue
            winner, second = (printable(ranked.name) for ranked in (why.winner, why.runner_up))
            yield f"  why {winner}, not {second}:"
            if why.note:
                yield f"    {why.note}"
            for sentence in why.sentences[:_SENTENCES]:
                yield f"    {sentence.contribution:>+10.4g}  {printable(sentence.text)}"

    def json_lines(self, top: int) -> Iterator[str]:
        """One JSON text per photo."""
        classes = list(self.vocabulary.names.items())
        for at, photo in enumerate(self.scored.photos):
            why = self.explanations[at]
            row: dict[str, Any] = {
                "path": photo.name,
                "image": photo.id,
                "method": next(iter(self.plan.methods)).name,
                "classes_from": self.vocabulary.source,
                "model": self.stages.models.name,
                "ranking": [
                    {"class": classes[position][0], "name": classes[position][1], "score": value}
                    for position, value in self._ranking(at, top)
                ],
                "explanation": why.to_dict(top=5) if why is not None else None,
            }
            yield json_text(row)

    def write_report(self, path: Path, command: Sequence[str]) -> Path:
        """Write the page of these photos and return its path."""
        from abs_classify.report import write_report

        target = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
        write_report(
            classification_page(self.stages, self.plan.methods, self.vocabulary, self.scored, self.notes(), command),
            target,
        )
        return target

    def write_pictures(self, folder: Path) -> int:
        """Write one picture per photo, named by number and photo, and return how many."""
        from abs_classify.report import explanation_png

        shown = report_images(self.stages, self.plan.methods, self.vocabulary, self.scored, len(self.scored.photos))
        count = 0
        for count, photo in enumerate(shown, start=1):
            stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(photo.name).stem)[:60]
            explanation_png(photo, folder / f"{count:04d}-{stem}.png")
        return count

    def _ranking(self, at: int, top: int) -> list[tuple[int, float]]:
        (found,) = self.scored.methods.values()
        return list(zip(found.top[at, :top].tolist(), found.scores[at, :top].tolist(), strict=True))


def classify_images(
    stages: Stages, paths: Sequence[Path], vocabulary: LabelSpace, plan: MethodPlan, on_error: OnError, advance: Advance
) -> Predictions:
    """Score photos with the one method of a plan.

    Raises:
        ImageError: a photo cannot be read and ``on_error`` is "stop", or none could be.
    """
    from abs_classify.datasets import Sample

    identified, unreadable = identify([Sample(path, "") for path in paths], stages.models.memo, on_error)
    photos = [photo for photo in identified if photo is not None]
    scored = score(stages, photos, None, plan.methods, on_error, advance)
    scored.skipped[:0] = unreadable
    if not scored.photos:
        raise ImageError("none of the photos could be read", remedy="See the reasons with --on-error stop")
    return Predictions(vocabulary, plan, stages, scored)
