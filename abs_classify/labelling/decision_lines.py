"""A decision on the label of an image, and the line of a file that it is. Imports no torch."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias

from abs_core.canonical import canonical_json
from abs_core.errors import UsageError
from abs_core.text import quoted, valid_unicode

__all__ = [
    "Action",
    "CurrentDecision",
    "ReviewDecision",
    "ShownBy",
    "decision_line",
    "parse_decision",
    "reviewer_name",
    "time_text",
]

#: the model's label is right; another label is; none of the classes is; the reviewer's last decision on it is undone
Action: TypeAlias = Literal["accept", "label", "reject", "undo"]

#: how an image came before the reviewer: drawn at random, or chosen (by doubt, by class, by a search)
ShownBy: TypeAlias = Literal["random", "chosen"]

_VERSION = 1
_ACTIONS, _SHOWN_BY = ("accept", "label", "reject", "undo"), ("random", "chosen")
_TEXTS = ("action", "image", "label", "model_label", "path", "reviewer", "shown_by", "time")
_OPTIONAL = {"label": "", "model_label": "", "path": "", "shown_by": "chosen", "resolves": False, "version": _VERSION}

# characters of a reviewer's name
_LONGEST_NAME = 64

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """One decision of one reviewer, a line of a file.

    Attributes:
        image_id: the image that it is on, whatever its path.
        action: what was decided.
        label: the id of the class that the image shows, for ``accept`` and ``label``; empty otherwise.
        shown_by: how the image was chosen; only those drawn at random say how right the labels are.
        reviewer: who; ``DecisionLog`` sets it.
        time: when, in UTC, ISO 8601 with milliseconds; ``DecisionLog`` sets it.
        path: of the image, for people who read the file.
        model_label: the id of the model's label at that time; empty if it had none.
        resolves: whether it was made in view of the decisions of others, and overrules them.
    """

    image_id: str
    action: Action
    label: str = ""
    shown_by: ShownBy = "chosen"
    reviewer: str = ""
    time: str = ""
    path: str = ""
    model_label: str = ""
    resolves: bool = False

    @property
    def outcome(self) -> tuple[bool, str]:
        """What the image is said to show: whether it is one of the classes, and which."""
        return self.action != "reject", self.label


@dataclass(frozen=True, slots=True)
class CurrentDecision:
    """What is decided on an image, by all its reviewers.

    Attributes:
        action: ``accept``, ``label`` or ``reject``. Of a conflict, what was said last.
        label: the id of the class; empty for ``reject``.
        reviewers: who says so.
        time: when it was said last.
        shown_by: ``random`` if the image was decided when it was drawn at random, also where it was corrected later.
        conflict: whether reviewers disagree, so that nothing is decided.
        others: what other reviewers say instead; overruled, if there is no conflict.
        model_label: the id of the label that the reviewer saw; empty if there was none.
        path: of the image at that time.
    """

    action: Action
    label: str
    reviewers: tuple[str, ...]
    time: str
    shown_by: ShownBy
    conflict: bool
    others: tuple[ReviewDecision, ...]
    model_label: str
    path: str

    @property
    def reviewer(self) -> str:
        """Who says so, as text."""
        return ", ".join(self.reviewers)


# --- lines -----------------------------------------------------------------------------------------------------------


def decision_line(decision: ReviewDecision) -> bytes:
    """The line of a decision, with its end."""
    value = {field.name: getattr(decision, field.name) for field in fields(ReviewDecision)}
    value = {name: valid_unicode(text) if isinstance(text, str) else text for name, text in value.items()}
    value["image"] = value.pop("image_id")
    return canonical_json({**value, "version": _VERSION}).encode() + b"\n"


def parse_decision(line: bytes) -> ReviewDecision:
    """The decision of a line.

    Raises:
        ValueError: it is none; the text says why, and shows nothing of the line.
    """
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ValueError("that is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("that is not a JSON object")
    value = {**_OPTIONAL, **value}
    if value["version"] != _VERSION:
        raise ValueError("of another version of the toolkit")
    for name in _TEXTS:
        if not isinstance(value.get(name), str):
            raise ValueError(f"without a valid {name}")
    action, label, shown_by = value["action"], value["label"], value["shown_by"]
    valid = {
        "image": _IMAGE_ID.fullmatch(value["image"]),
        "action": action in _ACTIONS,
        "label": bool(label) == (action in ("accept", "label")),
        "shown_by": shown_by in _SHOWN_BY,
        "resolves": isinstance(value["resolves"], bool),
        "reviewer": (reviewer := _known_name(value["reviewer"])),
        "time": (time := _normal_time(value["time"])),
    }
    if not all(valid.values()):
        raise ValueError(f"without a valid {next(name for name, is_valid in valid.items() if not is_valid)}")
    texts = [text if text.isascii() else valid_unicode(text) for text in (label, value["path"], value["model_label"])]
    label, path, model_label = sys.intern(texts[0]), texts[1], sys.intern(texts[2])
    return ReviewDecision(value["image"], action, label, shown_by, reviewer, time, path, model_label, value["resolves"])


@lru_cache(maxsize=256)
def _known_name(name: str) -> str:
    try:
        return reviewer_name(name)
    except UsageError:
        return ""


def reviewer_name(name: str) -> str:
    """The name of a reviewer as it is kept.

    Raises:
        UsageError: it is empty, too long, or has characters that cannot be shown.
    """
    text = name if name.isascii() else unicodedata.normalize("NFC", valid_unicode(name))
    text = text.strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise UsageError(
            f"a reviewer's name must have 1 to {_LONGEST_NAME} printable characters, got {quoted(name)}",
            remedy="Give another name with --reviewer",
        )
    return text


def _normal_time(text: str) -> str:
    """A time in the one form that sorts as the times do; empty if it is none."""
    try:
        moment = datetime.fromisoformat(text)
        if not 1970 <= moment.year < 9000:
            return ""
        if _TIME.fullmatch(text):
            return text
        return time_text(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        return ""


def time_text(moment: datetime) -> str:
    """A time as decisions have it, of a moment in UTC."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
