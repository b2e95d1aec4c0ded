"""Controls: the same experiment with descriptions whose meaning is wrong, random or gone.

If a method gains as much with them as with the right descriptions, the gain does not come from what the descriptions
say (Roth et al., ICCV 2023, made the point with WaffleCLIP). Every control is a pure function of descriptions, class
names and a seed. ``shuffle`` and ``waffle`` keep the number of descriptions of each class.

``shuffle`` and ``swap`` put the receiver's class name where a description names its donor, with article, capital and
plural, so that only the meaning changes and not which class is named. The name is found as whole words in any case;
synonyms and irregular plurals of the donor's name stay.
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
    """All descriptions of all classes, dealt out at random.

    Args:
        descriptions: class id -> descriptions; each class of ``classes`` has some.
        classes: class id -> class name, in class order.
        seed: fixes the deal.

    Returns:
        Class id -> descriptions, as many as before.

    Raises:
        UsageError: a class without descriptions.
    """
    owned = _owned("shuffle", descriptions, classes)
    names = list(classes.values())
    pool = [(donor, one) for donor, own in enumerate(owned) for one in own]
    order = iter(random_permutation(seed, "control:shuffle", len(pool)))
    result: Controlled = {}
    for receiver, (key, own) in enumerate(zip(classes, owned, strict=True)):
        dealt = [pool[next(order)] for _ in own]
        result[key] = tuple(_given(one, names[donor], names[receiver]) for donor, one in dealt)
    return result


def swap(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """Whole lists of descriptions, each class getting those of another.

    The classes form one random cycle, so no class keeps its own. The number of descriptions travels with the list.

    Args:
        descriptions: class id -> descriptions; each class of ``classes`` has some.
        classes: class id -> class name, in class order.
        seed: fixes the cycle.

    Raises:
        UsageError: a class without descriptions, or one class only.
    """
    owned = _owned("swap", descriptions, classes)
    if len(owned) < 2:
        raise UsageError("the control 'swap' needs two classes or more, not one", remedy="Use another control")
    names = list(classes.values())
    donors = random_cycle(seed, "control:swap", len(owned))
    return {
        key: tuple(_given(one, names[donor], names[receiver]) for one in owned[donor])
        for receiver, (key, donor) in enumerate(zip(classes, donors, strict=True))
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
    owned = _owned("waffle", descriptions, classes)
    most = max(len(own) for own in owned)
    characters = [one.text for own in owned for one in own]
    texts = waffle_strings(list(classes.values()), characters, shipped_words(), count=-(-most // 2), seed=seed)
    return {
        key: tuple(Description(text) for text in random[: len(own)])
        for key, own, random in zip(classes, owned, texts, strict=True)
    }


def classname_only(descriptions: Descriptions, classes: ClassNames, seed: int) -> Controlled:
    """One sentence for each class that says its name and nothing else: "a photo of a {class}."

    Args:
        descriptions: not looked at.
        classes: class id -> class name, in class order.
        seed: not looked at; nothing is random here.
    """
    del descriptions, seed
    return {key: (Description(fill(LABEL_TEMPLATE, name)),) for key, name in classes.items()}


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
    """``text`` with the class name ``receiver`` wherever ``donor`` stands as whole words.

    A regular plural is kept, an article before the name is fitted to the new name by its first letter, and a capital
    first letter is kept where the donor's name has none of its own.

    Args:
        text: a sentence or phrase.
        donor: class name to be replaced; underscores match spaces and hyphens.
        receiver: class name to be put in; underscores become spaces.
    """
    old, new = readable(donor).split(), readable(receiver)
    name = r"[\s_-]+".join(re.escape(word) for word in old)
    pattern = rf"(?<!\w)(?:(?P<article>an?)(?P<gap>\s+))?(?P<name>{name})(?P<plural>e?s)?(?!\w)"

    def put(match: re.Match[str]) -> str:
        capital = match["name"][0].isupper() and not old[0][0].isupper()
        word = new[:1].upper() + new[1:] if capital else new
        word += _plural_ending(new) if match["plural"] else ""
        if match["article"] is None:
            return word
        article = "an" if new[:1].lower() in "aeiou" else "a"
        return match["article"][0] + article[1:] + match["gap"] + word

    return re.sub(pattern, put, text, flags=re.IGNORECASE)


def _plural_ending(name: str) -> str:
    if name.endswith("s"):
        return ""
    return "es" if name.endswith(("x", "z", "ch", "sh")) else "s"


def _given(description: Description, donor: str, receiver: str) -> Description:
    if donor == receiver:
        return description
    return Description(rename(description.text, donor, receiver), description.kind)


def _owned(control: str, descriptions: Descriptions, classes: ClassNames) -> list[tuple[Description, ...]]:
    owned = ClassTextInputs(classes, descriptions).descriptions_by_class()
    if owned is None:
        raise UsageError(
            f"the control {control!r} needs descriptions, and there are none for these classes",
            remedy="Name a bundle of descriptions, or use the control 'classname-only'",
        )
    return owned
