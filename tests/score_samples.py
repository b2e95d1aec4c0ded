"""Scores of bundles for tests, made by hand."""

from __future__ import annotations

import base64
import io
from typing import Any

from support import colour

from abs_core.bundle_scores import (
    BundleScores,
    ClassScore,
    ExampleImage,
    Interval,
    NetGain,
    PulledImages,
    SentenceScore,
)


def net_gain(won: int, lost: int, images: int = 200) -> NetGain:
    """A gain with an interval of about the right width."""
    points, half = 100 * (won - lost) / images, 200 * (won + lost + 1) ** 0.5 / images
    return NetGain(won=won, lost=lost, images=images, interval=Interval(low=points - half, high=points + half))


def thumbnail(seed: int, size: tuple[int, int] = (96, 72)) -> str:
    stream = io.BytesIO()
    colour(seed, size).save(stream, "JPEG", quality=60)
    return base64.b64encode(stream.getvalue()).decode()


def made_scores(count: int = 12, size: int = 5, *, has_truth: bool = True, **changes: Any) -> BundleScores:
    """Scores in which sentence 0 of class k wins k images, and sentence 1 costs k and pulls in those of its neighbour.

    Args:
        count: of classes; class 2 has one sentence only.
        size: how many sentences each class has.
        has_truth: whether true classes are known.
        changes: other fields.
    """
    ids = [f"c{number}" for number in range(count)]
    names = [f"bird {number}" for number in range(count)]
    rows = [
        _sentence(number, place, ids, has_truth=has_truth)
        for number in range(count)
        for place in range(1 if number == 2 else size)
    ]
    fields: dict[str, Any] = {
        "bundle": "birds@1.1.0#sha256:" + "ab" * 32,
        "source": "imagefolder:val",
        "has_truth": has_truth,
        "method": "abs",
        "model": "embedded",
        "images": 200,
        "right": 150 if has_truth else None,
        "classes": tuple(_class(number, ids, names, has_truth=has_truth) for number in range(count)),
        "sentences": tuple(rows),
        "examples": tuple(_example(number, ids, has_truth=has_truth) for number in range(min(count, 20))),
        "created": "2025-01-31T12:00:00Z",
        "remarks": ("30 images are small",),
    }
    return BundleScores(**fields | changes)


def _sentence(number: int, place: int, ids: list[str], *, has_truth: bool) -> SentenceScore:
    is_only = number == 2
    won, lost = (number % 9, 0) if place == 0 else (0, number % 9) if place == 1 else (0, 0)
    pulled = (PulledImages(class_id=ids[(number + 1) % len(ids)], images=lost),) if lost else ()
    return SentenceScore(
        class_id=ids[number],
        text=f"Bird {number} has mark {place}, which is seen best from the side when it sits.",
        is_only=is_only,
        gain=net_gain(won, lost) if has_truth and not is_only else None,
        margin=round(0.1 * (won - lost) + 0.01 * place, 4) if has_truth and not is_only else None,
        changed=0 if is_only else won + lost,
        usage=1 / (10 + number + place),
        pulled=pulled if has_truth and not is_only else (),
        examples=(number, (number + 1) % min(len(ids), 20)) if number < 20 and place < 2 else (),
    )


def _class(number: int, ids: list[str], names: list[str], *, has_truth: bool) -> ClassScore:
    confused = (PulledImages(class_id=ids[(number + 1) % len(ids)], images=1 + number % 3),)
    return ClassScore(
        class_id=ids[number],
        name=names[number],
        images=16,
        right=16 - 1 - number % 3 if has_truth else None,
        over_name=net_gain(number % 7, 3) if has_truth else None,
        confused=confused,
    )


def _example(number: int, ids: list[str], *, has_truth: bool) -> ExampleImage:
    label = ids[number if number % 2 else (number + 1) % len(ids)]
    return ExampleImage(
        path=f"val/bird/{number:03d}.jpg",
        true_class=ids[number] if has_truth else None,
        label=label,
        thumbnail="" if number == 5 else thumbnail(number),
    )
