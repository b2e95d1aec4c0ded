"""The classes of the benchmarks, as ``data/labels`` lists them: stable ids and names, in the official order."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from abs_classify.datasets.base import ClassName
from abs_core.errors import UnknownNameError
from abs_core.resources import data_folder

__all__ = ["LabelSet", "fold", "label_set", "shipped_label_sets"]


@dataclass(frozen=True)
class LabelSet:
    """The classes of a published data set.

    Args:
        name: of the set, such as ``imagenet``.
        classes: in the official order, so that an official number is a position.
    """

    name: str
    classes: tuple[ClassName, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids in the official order."""
        return tuple(each.id for each in self.classes)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {fold(each.id): each.id for each in self.classes}

    @cached_property
    def names(self) -> dict[str, str]:
        """Id to name."""
        return {each.id: each.name for each in self.classes}

    def find(self, text: str) -> str | None:
        """The id that is ``text`` but for case and for what joins its words; None if there is none.

        ``HandstandPushups``, ``Handstand_Pushups`` and ``handstand pushups`` are one id; so are
        ``apartment_building/outdoor`` and ``apartment_building-outdoor``.
        """
        return self._folded.get(fold(text))

    def at(self, number: int) -> str | None:
        """The id at a position, from 0 on; None where there is none."""
        return self.ids[number] if 0 <= number < len(self.ids) else None


def fold(text: str) -> str:
    """Letters and digits alone, in lower case. No two ids of a shipped set fold to the same."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def label_set(name: str) -> LabelSet:
    """A shipped label set.

    Raises:
        UnknownNameError: there is no such set; lists the shipped ones.
    """
    if name not in shipped_label_sets():
        raise UnknownNameError("label set", name, shipped_label_sets(), remedy="See `abs gen-descriptions --help`")
    content = json.loads((data_folder() / "labels" / f"{name}.json").read_text(encoding="utf-8"))
    return LabelSet(name, tuple(ClassName(each["id"], each["name"]) for each in content["classes"]))


def shipped_label_sets() -> tuple[str, ...]:
    """The names of the shipped label sets, sorted."""
    return tuple(sorted(path.stem for path in (data_folder() / "labels").glob("*.json")))
