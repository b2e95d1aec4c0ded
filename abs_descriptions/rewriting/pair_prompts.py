"""Prompt sets about two classes that images confuse, as versioned YAML files.

A set has three steps. ``differences`` asks what tells the two apart; ``sentences`` and ``phrases`` ask for descriptions
of the one that would not be true of the other, in the form that the bundle has. Each step has a system message,
examples and prompts as a ``PromptSet`` has, with further placeholders:

    {other}, {other_article}   the other class, named as ``{name}`` is, and its English indefinite article
    {images}                   what all the images are of: "photos of birds"
    {classes}                  names of some other classes
    {differences}              the answers of the first step, one on a line; not in the first step itself
    {examples}                 descriptions that the class has; not in the first step

The shipped sets are prompts/pairs/*.yaml.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_core.canonical import digest
from abs_core.descriptions import DescriptionKind
from abs_core.errors import PromptError, UnknownNameError
from abs_core.files import prompts_folder, read_yaml
from abs_core.text import printable, validation_message
from abs_descriptions.generation.prompts import (
    Example,
    Identifier,
    Prompt,
    PromptSet,
    Text,
    article,
    check_placeholders,
)
from abs_descriptions.generation.sentences import Language

__all__ = ["PairExample", "PairPromptSet", "PairStep", "default_pair_prompts", "read_pair_prompts", "shipped_pair_sets"]

_PAIR = ("other", "other_article", "images", "classes")
_FURTHER = {"differences": _PAIR, "sentences": (*_PAIR, "differences", "examples")}
_FURTHER["phrases"] = _FURTHER["sentences"]


class PairExample(Example):
    """A sample answer: two class names that are unlikely labels, what the question says of them, and the answer."""

    other: Text
    images: Text
    differences: str = ""
    examples: str = ""

    @property
    def context(self) -> Mapping[str, str]:
        """What further placeholders stand for in the question that it answers."""
        return {
            "other": self.other,
            "other_article": article(self.other),
            "images": self.images,
            "classes": "",
            "differences": self.differences,
            "examples": self.examples,
        }


class PairStep(PromptSet):
    """The prompts of one step, as a prompt set of the same id and version.

    ``of_set`` is the digest of the whole set, which is that of the step.
    """

    examples: tuple[PairExample, ...] = ()
    of_set: str

    @property
    def digest(self) -> str:
        """``sha256:...`` of the whole set."""
        return self.of_set


class _StepModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    system: str = ""
    examples: tuple[PairExample, ...] = ()
    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1)]


class PairPromptSet(BaseModel):
    """What a language model is asked about two classes that images confuse; read one with ``read_pair_prompts``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identifier
    version: Annotated[int, Field(ge=1)]
    description: Text
    language: Language = "en"
    differences: _StepModel
    sentences: _StepModel
    phrases: _StepModel

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the whole set."""
        return digest(self.model_dump(mode="json"))

    @property
    def first_step(self) -> PairStep:
        """The prompts that ask what tells two classes apart; the answers are phrases."""
        return self._step(self.differences, "phrase")

    def second_step(self, kind: DescriptionKind) -> PairStep:
        """The prompts that ask for descriptions of a kind."""
        return self._step(self.sentences if kind == "sentence" else self.phrases, kind)

    def _step(self, step: _StepModel, kind: DescriptionKind) -> PairStep:
        return PairStep(
            id=self.id,
            version=self.version,
            description=self.description,
            kind=kind,
            language=self.language,
            system=step.system,
            examples=step.examples,
            prompts=step.prompts,
            of_set=self.digest,
        )


def shipped_pair_sets() -> tuple[str, ...]:
    """The ids of the sets that ship with the toolkit, sorted."""
    return tuple(sorted(path.stem for path in (prompts_folder() / "pairs").glob("*.yaml")))


def default_pair_prompts(*, is_small: bool) -> str:
    """The set for a language model: ``pairs-small`` for the embedded one, ``pairs`` for all others."""
    return "pairs-small" if is_small else "pairs"


def read_pair_prompts(source: str | Path) -> PairPromptSet:
    """A set from a YAML file, or a shipped one by its id; a file with that name takes precedence.

    Raises:
        PromptError: an invalid set, or an unknown or missing placeholder; names the file and the prompt.
        UnknownNameError: neither a file nor a shipped id; lists the shipped ones.
        StorageError: the file cannot be read.
    """
    path = Path(source)
    if path.is_file():
        return _read_file(path)
    if str(source) in shipped_pair_sets():
        return _read_file(prompts_folder() / "pairs" / f"{source}.yaml")
    if path.suffix.lower() in (".yaml", ".yml") or len(path.parts) > 1:
        raise PromptError(f"the prompt file {printable(str(path), 200)!r} does not exist", remedy="Check the path")
    raise UnknownNameError(
        "prompt set for pairs of classes",
        printable(str(source), 100),
        shipped_pair_sets(),
        remedy="See `abs bundle rewrite --help`, or name a YAML file of your own",
    )


def _read_file(path: Path) -> PairPromptSet:
    shown = f"the prompt file {printable(str(path), 200)!r}"
    content: Any = read_yaml(path, shown, PromptError)
    try:
        prompts = PairPromptSet.model_validate(content)
    except ValidationError as error:
        raise PromptError(
            f"{shown}: {validation_message(error)}",
            remedy="Write the keys id, version, description, differences, sentences and phrases, as in "
            "prompts/pairs/pairs.yaml",
        ) from None
    for name, further in _FURTHER.items():
        _check_step(f"{shown}, {name}", getattr(prompts, name), further)
    return prompts


def _check_step(where: str, step: _StepModel, further: tuple[str, ...]) -> None:
    counts = Counter(prompt.id for prompt in step.prompts)
    repeated = [prompt_id for prompt_id, count in counts.items() if count > 1]
    if repeated:
        raise PromptError(f"{where}: the prompt id {repeated[0]!r} appears twice", remedy="Give each prompt its own id")
    check_placeholders(f"{where}, system", step.system, "", further)
    for prompt in step.prompts:
        names = check_placeholders(f"{where}, prompt {prompt.id!r}", prompt.text, "", further)
        needed = ("name", "other", *(("differences",) if "differences" in further else ()))
        for name in needed:
            if name not in names:
                raise PromptError(
                    f"{where}, prompt {prompt.id!r}: {{{name}}} is missing", remedy=f"Use {{{name}}} in each prompt"
                )
