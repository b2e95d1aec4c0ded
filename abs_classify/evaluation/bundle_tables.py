"""``BundleScores`` for people: the tables of a terminal, and a CSV file with a row for each sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from abs_core.bundle_scores import BundleScores, NetGain, SentenceScore
from abs_core.text import counted, printable, visible_cell

__all__ = ["scores_csv", "scores_text"]

T = TypeVar("T")

# rows of a table, characters of a sentence and of a name
_ROWS, _TEXT, _NAME = 10, 76, 24

_COLUMNS = (
    "class_id", "class_name", "text", "is_only", "won", "lost", "points", "low", "high", "margin", "changed", "usage",
    "pulled", "pulled_from",
)  # fmt: skip


def scores_csv(scores: BundleScores) -> str:
    """A row for each sentence, in the order of the bundle, under a header.

    Points are of top-1, with their 95 % interval; ``pulled`` counts images of other classes, ``pulled_from`` names the
    classes. What is not known is empty. Cells show hidden characters as escapes, and no spreadsheet runs them.
    """
    names = {score.class_id: score.name for score in scores.classes}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for score in scores.sentences:
        gain = score.gain
        numbers: tuple[str, ...] = ("",) * 5
        if gain is not None:
            interval = gain.interval
            numbers = (str(gain.won), str(gain.lost), *map(_short, (gain.points, interval.low, interval.high)))
        pulled = " ".join(f"{part.class_id}:{part.images}" for part in score.pulled)
        writer.writerow(
            [
                *map(visible_cell, (score.class_id, names.get(score.class_id, ""), score.text)),
                "yes" if score.is_only else "no",
                *numbers,
                "" if score.margin is None else _short(score.margin),
                score.changed,
                _short(score.usage),
                sum(part.images for part in score.pulled),
                visible_cell(pulled),
            ]
        )
    return stream.getvalue()


def _short(value: float) -> str:
    return f"{value:.6g}"


def scores_text(scores: BundleScores) -> str:
    """The tables: what the scores are of, and the sentences and classes that matter most."""
    return "\n".join(_lines(scores))


def _lines(scores: BundleScores) -> Iterator[str]:
    yield printable(f"{scores.bundle} on {scores.source}")
    right = "" if scores.right is None else f", {scores.right} right ({100 * scores.right / scores.images:.1f} %)"
    images = counted(scores.images, "image", "images")
    yield printable(f"{images}{right}; {_name(scores.method)}, {_name(scores.model)}")
    only = sum(score.is_only for score in scores.sentences)
    if only:
        yield f"{counted(only, 'sentence is', 'sentences are')} the only one of a class, so there is nothing without"
    for remark in scores.remarks:
        yield printable(f"note: {remark}")
    yield from _with_truth(scores) if scores.has_truth else _without_truth(scores)


def _name(reference: str) -> str:
    return reference.partition("#")[0]


def _with_truth(scores: BundleScores) -> Iterator[str]:
    gains = [(score.gain, score) for score in scores.sentences if score.gain is not None]
    losing = [(gain, score) for gain, score in gains if gain.won < gain.lost]
    winning = [(gain, score) for gain, score in gains if gain.won > gain.lost]
    losing.sort(key=lambda pair: (pair[0].points, pair[1].margin or 0.0))
    winning.sort(key=lambda pair: (-pair[0].points, -(pair[1].margin or 0.0)))
    yield from _sentence_table("sentences that cost most", losing, scores)
    yield from _sentence_table("sentences that win most", winning, scores)
    below = [(score.over_name, score) for score in scores.classes if score.over_name and score.over_name.points < 0]
    below.sort(key=lambda pair: pair[0].points)
    yield from _table(
        "classes that do worse than by their name alone", below, lambda pair: _gain_row(pair[0], pair[1].name, "")
    )
    pulling = [(sum(part.images for part in score.pulled), score) for score in scores.sentences if score.pulled]
    pulling.sort(key=lambda pair: -pair[0])
    names = {score.class_id: score.name for score in scores.classes}
    yield from _table(
        "sentences that pull in images of other classes",
        pulling,
        lambda pair: f"  {pair[0]:>4}  {_sentence(pair[1], names)}  from {_pulled(pair[1], names)}",
    )


def _without_truth(scores: BundleScores) -> Iterator[str]:
    names = {score.class_id: score.name for score in scores.classes}
    changing = sorted((score for score in scores.sentences if score.changed), key=lambda score: -score.changed)
    yield from _table(
        "sentences without which most images get another label",
        changing,
        lambda score: f"  {score.changed:>4}  {_sentence(score, names)}",
    )
    used = sorted(scores.sentences, key=lambda score: -score.usage)
    yield from _table(
        "sentences that images use most", used, lambda score: f"  {100 * score.usage:5.2f} %  {_sentence(score, names)}"
    )
    confused = [
        (part.images, score, part.class_id) for score in scores.classes if score.images for part in score.confused
    ]
    confused.sort(key=lambda row: -row[0])
    yield from _table(
        "labels and the class that comes second most often",
        confused,
        lambda row: f"  {row[0]:>4} of {row[1].images}  {printable(row[1].name)}, then {printable(names[row[2]])}",
    )


def _sentence_table(title: str, rows: Sequence[tuple[NetGain, SentenceScore]], scores: BundleScores) -> Iterator[str]:
    names = {score.class_id: score.name for score in scores.classes}

    def line(row: tuple[NetGain, SentenceScore]) -> str:
        gain, score = row
        return _gain_row(gain, names[score.class_id], score.text)

    yield from _table(f"{title} (points of top-1, 95 % interval; images won and lost)", rows, line)


def _gain_row(gain: NetGain, name: str, text: str) -> str:
    interval = f"[{gain.interval.low:+.2f}, {gain.interval.high:+.2f}]"
    shown = f"  {printable(text, _TEXT)}" if text else ""
    return f"  {gain.points:+6.2f} {interval:<18} +{gain.won} -{gain.lost}  {printable(name, _NAME)}{shown}"


def _sentence(score: SentenceScore, names: dict[str, str]) -> str:
    return f"{printable(names[score.class_id], _NAME)}: {printable(score.text, _TEXT)}"


def _pulled(score: SentenceScore, names: dict[str, str]) -> str:
    shown = ", ".join(f"{printable(names[part.class_id], _NAME)} ({part.images})" for part in score.pulled[:3])
    return shown + (", ..." if len(score.pulled) > 3 else "")


def _table(title: str, rows: Sequence[T], line: Callable[[T], str]) -> Iterator[str]:
    yield ""
    beyond = f", {_ROWS} of {len(rows)}" if len(rows) > _ROWS else ""
    yield f"{title}{beyond}:"
    if not rows:
        yield "  none"
    for row in rows[:_ROWS]:
        yield line(row)
