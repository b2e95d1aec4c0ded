"""Controls: the same experiment with descriptions whose meaning is wrong, random or absent.

If a method gains as much with them as with the right descriptions, the gain does not come from what the descriptions
mean (Roth et al., ICCV 2023, made the point with WaffleCLIP). Every control is a pure function of descriptions, class
names and a seed. ``shuffle`` and ``waffle`` keep the number of descriptions of each class.

``shuffle`` and ``swap`` replace the name of the class that a description comes from (the donor) by that of the class
that gets it (the receiver), with article, capital and plural, so that only the meaning changes and not which class is
named. Names are found as whole words in any case; synonyms and irregular plurals of the donor's name stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from abs_classify.methods.baselines.waffle import shipped_words, waffle_strings
from abs_classify.methods.class_texts import ClassTextInputs
from abs_classify.methods.phrases import LABEL_TEMPLATE, ClassNames, fill, readable
from abs_classify.methods.random import random_cycle, random_permutation
from abs_core.descriptions import Description, Descriptions
from abs_core.errors import UnknownNameError, UsageError

__all__ = ["CONTROLS", "Control", "apply_control", "classname_only", "rename", "shuffle", "swap", "waffle"]

Controlled: TypeAlias = dict[str, tuple[Description, ...]]
Control: TypeAlias = Callable[[Descriptions, ClassNames, int], Controlled]


def shuffle(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """All descriptions of all classes, redistributed at random.

    Args:
        descriptions: class id -> descriptions; each class of ``classes`` has some.
        classes: class id -> class name, in class order.
        seed: fixes the order.

    Returns:
        Class id -> descriptions, as many as before.

    Raises:
        UsageError: a class without descriptions.
    """
    by_class = _by_class("shuffle", descriptions, classes)
    names = list(classes.values())
    pool = [(names[donor], description) for donor, of_class in enumerate(by_class) for description in of_class]
    order = iter(random_permutation(seed, "control:shuffle", len(pool)))
    result: Controlled = {}
    for (class_id, name), of_class in zip(classes.items(), by_class, strict=True):
        chosen = [pool[next(order)] for _ in of_class]
        result[class_id] = tuple(_moved(description, donor, name) for donor, description in chosen)
    return result


def swap(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """All descriptions of a class given to another class.

    The classes form one random cycle, so no class keeps its own descriptions, nor their number.

    Args:
        descriptions: class id -> descriptions; each class of ``classes`` has some.
        classes: class id -> class name, in class order.
        seed: fixes the cycle.

    Raises:
        UsageError: a class without descriptions, or one class only.
    """
    by_class = _by_class("swap", descriptions, classes)
    if len(by_class) < 2:
        raise UsageError("the control 'swap' needs two classes or more, got one", remedy="Use another control")
    names = list(classes.values())
    donors = random_cycle(seed, "control:swap", len(by_class))
    return {
        class_id: tuple(_moved(description, names[donor], name) for description in by_class[donor])
        for (class_id, name), donor in zip(classes.items(), donors, strict=True)
    }


def waffle(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """Random words and characters in place of every description, as WaffleCLIP makes them; see ``waffle_strings``.

    Args:
        descriptions: class id -> descriptions; each class of ``classes`` has some. Their characters are the alphabet.
        classes: class id -> class name, in class order.
        seed: of the random texts, 0 to 2**32 - 1.

    Returns:
        Class id -> sentences, as many as before; the random parts are the same for all classes.

    Raises:
        UsageError: a class without descriptions, or a seed outside the range.
    """
    by_class = _by_class("waffle", descriptions, classes)
    most = max(len(of_class) for of_class in by_class)
    characters = [description.text for of_class in by_class for description in of_class]
    texts = waffle_strings(list(classes.values()), characters, shipped_words(), count=-(-most // 2), seed=seed)
    return {
        class_id: tuple(Description(text) for text in random_texts[: len(of_class)])
        for class_id, of_class, random_texts in zip(classes, by_class, texts, strict=True)
    }


def classname_only(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """One sentence for each class, with its name and nothing else: "a photo of a {class}."

    Args:
        descriptions: ignored.
        classes: class id -> class name, in class order.
        seed: ignored; nothing is random here.
    """
    del descriptions, seed
    return {class_id: (Description(fill(LABEL_TEMPLATE, name)),) for class_id, name in classes.items()}


#: Name on the command line -> control.
CONTROLS: Mapping[str, Control] = MappingProxyType(
    {"shuffle": shuffle, "swap": swap, "waffle": waffle, "classname-only": classname_only}
)


def apply_control(name: str, descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """The descriptions under a control; arguments as for the controls themselves.

    Raises:
        UnknownNameError: no control of that name.
        UsageError: what the control itself raises.
    """
    if name not in CONTROLS:
        raise UnknownNameError("control", name, CONTROLS)
    return CONTROLS[name](descriptions, classes, seed)


def rename(text: str, donor: str, receiver: str) -> str:
    """``text`` with the class name ``receiver`` wherever ``donor`` appears as whole words.

    A regular plural is kept, an article before the name follows the first letter of the new name, and a capital first
    letter is kept unless the donor's name always has one.

    Args:
        text: a sentence or phrase.
        donor: the class name to replace; underscores match spaces and hyphens.
        receiver: the class name to insert; underscores become spaces.
    """
    old, new = readable(donor).split(), readable(receiver)
    name = r"[\s_-]+".join(re.escape(word) for word in old)
    pattern = rf"(?<!\w)(?:(?P<article>an?)(?P<gap>\s+))?(?P<name>{name})(?P<plural>e?s)?(?!\w)"

    def replacement(match: re.Match[str]) -> str:
        capital = match["name"][0].isupper() and not old[0][0].isupper()
        word = new[:1].upper() + new[1:] if capital else new
        word += _plural_ending(new) if match["plural"] else ""
        if match["article"] is None:
            return word
        article = "an" if new[:1].lower() in "aeiou" else "a"
        return match["article"][0] + article[1:] + match["gap"] + word

    return re.sub(pattern, replacement, text, flags=re.IGNORECASE)


def _plural_ending(name: str) -> str:
    if name.endswith("s"):
        return ""
    return "es" if name.endswith(("x", "z", "ch", "sh")) else "s"


def _moved(description: Description, donor: str, receiver: str) -> Description:
    if donor == receiver:
        return description
    return Description(rename(description.text, donor, receiver), description.kind)


def _by_class(control: str, descriptions: Descriptions, classes: ClassNames) -> list[tuple[Description, ...]]:
    by_class = ClassTextInputs(classes, descriptions).descriptions_by_class()
    if by_class is None:
        raise UsageError(
            f"the control {control!r} needs descriptions, and there are none for these classes",
            remedy="Name a bundle of descriptions, or use the control 'classname-only'",
        )
    return by_class
