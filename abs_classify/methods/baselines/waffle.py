"""Random words and characters in place of descriptors (WaffleCLIP, Roth et al., ICCV 2023, arXiv 2306.07282).

The recipe and its generator, numpy's legacy one, are those of the authors' code: with their word list the strings are
theirs, character by character. The shipped word list is another one, see ``prompts/waffle/``.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from abs_classify.methods.phrases import clause, readable
from abs_core.errors import UnknownNameError, UsageError
from abs_core.files import prompts_folder, storage_errors

__all__ = ["WaffleMode", "WaffleShape", "read_words", "shipped_words", "waffle_shape", "waffle_strings"]

WaffleMode: TypeAlias = Literal["waffle", "characters"]
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class WaffleShape:
    """The lengths of the random parts, chosen so that they resemble the data set's class names.

    Attributes:
        words: words in a word text.
        word_length: the number of characters that every word is cut to.
        groups: groups in a character text, joined with ", ".
        characters: characters in all groups together, a multiple of ``groups``.
        alphabet: the characters to choose from, sorted.
    """

    words: int
    word_length: int
    groups: int
    characters: int
    alphabet: str


def waffle_shape(names: Sequence[str], descriptors: Iterable[str]) -> WaffleShape:
    """The shape of random texts for a data set.

    Args:
        names: class names as stored. Words are counted with spaces for underscores, character groups without: the
            authors' code does so.
        descriptors: all the descriptors of the data set; their distinct characters but space, comma and period are the
            alphabet. Without any it is a to z.
    """
    words = [readable(name).split(" ") for name in names]
    groups = round(float(np.mean([name.count(" ") for name in names]))) + 1
    longest = ceil(float(np.mean([max(len(part) for part in name.split(" ")) for name in names])))
    return WaffleShape(
        words=max(1, round(float(np.mean([len(parts) for parts in words])))),
        word_length=round(float(np.mean([np.mean([len(part) for part in parts]) for parts in words]))),
        groups=groups,
        # adds a whole group where it already divides: the authors' code does so
        characters=longest + groups - longest % groups,
        alphabet="".join(sorted(set("".join(descriptors)) - set(" ,."))) or string.ascii_lowercase,
    )


def waffle_strings(
    names: Sequence[str],
    descriptors: Iterable[str],
    words: Sequence[str],
    *,
    count: int = 15,
    seed: int = 0,
    mode: WaffleMode = "waffle",
) -> list[list[str]]:
    """Random texts for every class.

    Texts are sampled for each class in turn, then one class is sampled as the donor, and all classes take the donor's
    texts with their own name in place of the donor's. The replacement is plain, so it also changes random parts and the
    words "A photo of a" if they contain the donor's name: the authors' code does so.

    Args:
        names: class names, in order; at least one.
        descriptors: all the descriptors of the data set, for the alphabet.
        words: the word list; every word or character is one full permutation of its pool, so its length matters.
        count: samples for each class.
        seed: of numpy's legacy generator; the authors use the number of the repetition, 0, 1, ...
        mode: ``waffle`` alternates word texts and character texts, ``characters`` gives character texts only.

    Returns:
        For each class 2 ``count`` texts, or ``count`` with ``characters``: "A photo of a {class}, {clause}."

    Raises:
        UsageError: no names, no words, a count below 1, a seed that the generator does not accept.
        UnknownNameError: another mode.
    """
    _check(names, words, count, seed, mode)
    shape = waffle_shape(names, descriptors)
    generator = np.random.RandomState(seed)
    pool = [word[: shape.word_length] for word in words]

    def choose(items: Sequence[str]) -> str:
        return items[int(generator.permutation(len(items))[0])]

    fragments = [_fragments(choose, shape, pool, count, mode) for _ in names]
    donor = int(generator.randint(0, len(names)))
    donor_name = readable(names[donor])
    texts = [f"A photo of a {donor_name}, {clause(fragment)}." for fragment in fragments[donor]]
    return [[text.replace(donor_name, readable(name)) for text in texts] for name in names]


def _fragments(
    choose: Callable[[Sequence[str]], str], shape: WaffleShape, pool: Sequence[str], count: int, mode: WaffleMode
) -> list[str]:
    fragments = []
    for _ in range(count):
        if mode == "waffle":
            fragments.append(" ".join(choose(pool) for _ in range(shape.words)))
        length = shape.characters // shape.groups
        groups = ["".join(choose(shape.alphabet) for _ in range(length)) for _ in range(shape.groups)]
        fragments.append(", ".join(groups))
    return fragments


def _check(names: Sequence[str], words: Sequence[str], count: int, seed: int, mode: str) -> None:
    if not names:
        raise UsageError("there are no class names to make random texts for", remedy="Give at least one class")
    if not words:
        raise UsageError("the word list for random texts is empty", remedy="Give at least one word")
    if count < 1:
        raise UsageError(f"count of random texts must be at least 1, got {count}", remedy="Set count to 1 or more")
    if not 0 <= seed <= _LARGEST_SEED:
        raise UsageError(
            f"seed of the random texts must be from 0 to {_LARGEST_SEED}, got {seed}",
            remedy="Choose a seed in that range",
        )
    if mode not in get_args(WaffleMode):
        raise UnknownNameError("mode of the random texts", mode, get_args(WaffleMode))


def read_words(path: Path) -> tuple[str, ...]:
    """A word list from a UTF-8 text file: one word in each line; lines that start with # are comments.

    Raises:
        StorageError: the file cannot be read.
        UsageError: the file is not UTF-8.
    """
    with storage_errors(path, "read"):
        data = path.read_bytes()
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: the word list is not UTF-8", remedy="Save it as UTF-8") from error
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def shipped_words() -> tuple[str, ...]:
    """The word list that comes with the toolkit: 2,048 common English words; the file names its source."""
    return read_words(prompts_folder() / "waffle" / "english-2048.txt")
