"""Sentences from class names and phrases: pure string rules, shared by class texts, random words and controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

__all__ = [
    "LABEL_TEMPLATE",
    "ClassNames",
    "clause",
    "descriptor_sentence",
    "fill",
    "readable",
]

#: Class id -> class name, in class order.
ClassNames: TypeAlias = Mapping[str, str]

#: The text of plain CLIP; WCA weighs descriptions by their similarity to it.
LABEL_TEMPLATE = "a photo of a {}."


def readable(name: str) -> str:
    """A class name with spaces for its underscores, as all methods here write it."""
    return name.replace("_", " ")


def fill(template: str, name: str) -> str:
    """A template such as "a photo of a {}." with the readable class name in place of ``{}``."""
    return template.replace("{}", readable(name))


def clause(descriptor: str) -> str:
    """A relative clause from a descriptor, by the rule of CLIP-D (Menon & Vondrick 2023), which WaffleCLIP shares.

    The first match wins, on the raw prefix, case-sensitive and without a word boundary, so "antlers" gives "which is
    antlers": the published numbers include that.
    """
    if descriptor.startswith("a"):
        return f"which is {descriptor}"
    if descriptor.startswith(("has", "often", "typically", "may", "can")):
        return f"which {descriptor}"
    if descriptor.startswith("used"):
        return f"which is {descriptor}"
    return f"which has {descriptor}"


def descriptor_sentence(name: str, descriptor: str, stop: bool = False) -> str:
    """The sentence "{class}, {clause}" of CLIP-D.

    Args:
        name: the class name; underscores become spaces.
        descriptor: the phrase.
        stop: end in a full stop, as CLIP-D's own code does on ImageNet only.
    """
    return f"{readable(name)}, {clause(descriptor)}{'.' if stop else ''}"
