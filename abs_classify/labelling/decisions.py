"""What reviewers decided: append-only files, a file each, and what follows from all of them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Action", "Decision", "ShownBy"]

#: the model's label is right; another label is; none of the classes is; the reviewer's last decision on it is undone
Action: TypeAlias = Literal["accept", "label", "reject", "undo"]

#: how an image came before the reviewer: drawn at random, or chosen (by doubt, by class, by a search)
ShownBy: TypeAlias = Literal["random", "chosen"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of one reviewer, a line of a file.

    Attributes:
        image_id: the image that it is on, whatever its path.
        action: what was decided.
        label: the id of the class that the image shows, for ``accept`` and ``label``; empty otherwise.
        shown_by: how the image was chosen; only those drawn at random say how right the labels are.
        reviewer: who.
        time: when, in UTC, ISO 8601 with milliseconds.
        path: of the image, for people who read the file.
        model_label: the id of the model's label at that time; empty if it had none.
        resolves: whether it was made in view of the decisions of others, and overrules them.
    """

    image_id: str
    action: Action
    label: str
    shown_by: ShownBy
    reviewer: str
    time: str
    path: str = ""
    model_label: str = ""
    resolves: bool = False
