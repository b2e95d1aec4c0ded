"""Which texts stand for the classes: a template, an ensemble, descriptors, random words, descriptions.

A text source turns class names, descriptions and templates into a ``TextTable``, in which every text has an class_index
class. How the texts are encoded and matched is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from abs_classify.methods.baselines.waffle import WaffleMode, shipped_words, waffle_strings
from abs_classify.methods.phrases import LABEL_TEMPLATE, ClassNames, descriptor_sentence, fill, readable
from abs_core.canonical import digest
from abs_core.descriptions import DESCRIPTION_KINDS, Description, DescriptionKind, Descriptions
from abs_core.errors import PromptError, UnknownNameError, UsageError
from abs_core.files import prompts_folder, storage_errors

__all__ = [
    "ClassTextSource",
    "ClassTexts",
    "Descriptors",
    "RandomWords",
    "Sentences",
    "Template",
    "TemplateEnsemble",
    "TemplateSet",
    "as_descriptions",
    "descriptions_of",
    "read_template_set",
    "template_set_names",
]


_LONGEST_FILE = 100_000


_Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class TemplateSet(BaseModel):
    """A versioned list of templates.

    Attributes:
        id: lower-case name, equal to the file's name among the shipped sets.
        version: counts up when a template changes.
        source: where the wording comes from, and its licence.
        templates: at least one; each with exactly one ``{}`` and no other brace.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: _Id
    version: Annotated[int, Field(ge=1, strict=True)]
    source: _Text
    templates: Annotated[tuple[_Text, ...], Field(min_length=1)]

    @field_validator("templates")
    @classmethod
    def _one_placeholder(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
                raise ValueError(f"a template needs exactly one {{}} and no other brace: {template!r}")
        return templates

    @property
    def digest(self) -> str:
        """``sha256:`` and the hex digest of the templates, in order; id, version and source do not enter."""
        return digest(list(self.templates))


def template_set_names() -> tuple[str, ...]:
    """The ids of the shipped template sets, sorted."""
    return tuple(sorted(path.stem for path in (prompts_folder() / "clip").glob("*.yaml")))


def read_template_set(source: str | Path) -> TemplateSet:
    """A shipped template set by its id, or any set by its file.

    Args:
        source: an id such as ``imagenet-80``, or a path; a string that ends in .yaml, .yml or .txt is a path. In a .txt
            file each line is a template, with ``{}`` or ``{c}`` for the class name.

    Raises:
        UnknownNameError: no shipped set of that id; the message lists them.
        PromptError: the file is not a template set; the message names the file and the field.
        StorageError: the file cannot be read.
    """
    if isinstance(source, str) and not source.endswith((".yaml", ".yml", ".txt")):
        if source not in template_set_names():
            raise UnknownNameError("template set", source, template_set_names())
        return _read(prompts_folder() / "clip" / f"{source}.yaml")
    return _read(Path(source))


def _read(path: Path) -> TemplateSet:
    with storage_errors(path, "read"), path.open("rb") as stream:
        data = stream.read(_LONGEST_FILE + 1)
    if len(data) > _LONGEST_FILE:
        raise PromptError(f"{path}: a template set of more than {_LONGEST_FILE} bytes", remedy="Split the file")
    try:
        content: Any = _lines(path, data.decode("utf-8-sig")) if path.suffix == ".txt" else yaml.safe_load(data)
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8", remedy="Save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PromptError(f"{path}: no valid YAML: {reason}", remedy="Correct the file") from error
    try:
        return TemplateSet.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PromptError(
            f"{path}: {field}: {first['msg']}", remedy="Give it the fields id, version, source and templates"
        ) from error


def _lines(path: Path, text: str) -> dict[str, Any]:
    name = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:64] or "templates"
    lines = [line.strip().replace("{c}", "{}") for line in text.splitlines() if line.strip()]
    return {"id": name.strip("-"), "version": 1, "source": f"the lines of {path.name}", "templates": lines}


_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class ClassTexts:
    """The texts of all classes, in class order.

    Attributes:
        class_ids: C ids, all different.
        texts: M texts, each class at least one.
        class_index: M positions in ``class_ids``, one for each text.
        label_texts: C texts "a photo of a {class}.", which WCA weighs descriptions by.
        note: what a reader of the results must know about these texts, or nothing.

    Raises:
        UsageError: no classes, an id twice, a class without a text, or lengths that do not fit.
    """

    class_ids: tuple[str, ...]
    texts: tuple[str, ...]
    class_index: tuple[int, ...]
    label_texts: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.class_ids:
            raise UsageError("a text table has no classes", remedy="Give at least one class")
        if len(set(self.class_ids)) != len(self.class_ids):
            twice = next(name for name in self.class_ids if self.class_ids.count(name) > 1)
            raise UsageError(f"the class id {twice!r} stands twice", remedy="Give every class an id of its own")
        if len(self.class_index) != len(self.texts) or len(self.label_texts) != len(self.class_ids):
            raise UsageError(
                f"there are {len(self.texts)} texts with {len(self.class_index)} class indices, and "
                f"{len(self.class_ids)} classes with {len(self.label_texts)} label texts",
                remedy="Give every text one class_index and every class one label text",
            )
        if not set(self.class_index) <= set(range(len(self.class_ids))):
            raise UsageError(
                "a text table names an class_index that is not a class", remedy="Use positions in class_ids"
            )
        class_indices = set(self.class_index)
        bare = [name for position, name in enumerate(self.class_ids) if position not in class_indices]
        if bare:
            raise _without("text", bare)

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the hex digest of all ids and texts, in order; the note does not enter."""
        return digest([self.class_ids, self.texts, self.class_index, self.label_texts])


class ClassTextSource(Protocol):
    """A way to make the texts of a method."""

    @property
    def name(self) -> str:
        """A short name for tables and reports."""

    def build(self, classes: ClassNames, descriptions: Descriptions | None, templates: Sequence[str]) -> ClassTexts:
        """The texts.

        Args:
            classes: class id -> class name, in class order. Underscores in names become spaces.
            descriptions: class id -> descriptions; ids that are not in ``classes`` are left aside. None without any.
            templates: the data set's own templates, each with one ``{}``.

        Raises:
            UsageError: a class that gets no text, with its id and name, or an input that this source cannot do without.
        """


@dataclass(frozen=True)
class Template:
    """One template for all classes; by default plain CLIP's.

    Attributes:
        template: text with one ``{}`` for the class name.
    """

    name: ClassVar[str] = "template"
    template: str = LABEL_TEMPLATE

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1:
            raise UsageError(
                f"the template {self.template!r} does not have exactly one {{}}",
                remedy="Write {} once, where the class name belongs",
            )

    def build(
        self,
        classes: ClassNames,
        descriptions: Descriptions | None,  # noqa: ARG002 - the protocol's
        templates: Sequence[str],  # noqa: ARG002 - the protocol's
    ) -> ClassTexts:
        """The template with each class name; descriptions and templates are not looked at. See ``TextSource``."""
        return _table(classes, [[fill(self.template, name)] for name in classes.values()])


@dataclass(frozen=True)
class TemplateEnsemble:
    """The data set's templates with each class name (CLIP-E: Radford et al. 2021, section 3.1.4)."""

    name: ClassVar[str] = "templates"

    def build(
        self,
        classes: ClassNames,
        descriptions: Descriptions | None,  # noqa: ARG002 - the protocol's
        templates: Sequence[str],
    ) -> ClassTexts:
        """All templates with each class name; descriptions are not looked at. See ``TextSource``."""
        if not templates:
            raise UsageError("there are no templates to ensemble", remedy="Name a template set, such as 'plain'")
        return _table(classes, [[fill(template, name) for template in templates] for name in classes.values()])


@dataclass(frozen=True)
class Descriptors:
    """Descriptors as clauses, "{class}, which has {descriptor}" (CLIP-D: Menon & Vondrick, ICLR 2023).

    A description of the kind ``sentence`` is used as it is: the rule would make "which has It is a bird" of it.

    Attributes:
        stop: end the sentences in a full stop, as CLIP-D's own code does on ImageNet only.
    """

    name: ClassVar[str] = "descriptors"
    stop: bool = False

    def build(
        self,
        classes: ClassNames,
        descriptions: Descriptions | None,
        templates: Sequence[str],  # noqa: ARG002 - the protocol's
    ) -> ClassTexts:
        """One text for each description; templates are not looked at. See ``TextSource``."""
        owned = descriptions_of(classes, descriptions)
        if owned is None:
            raise UsageError(
                "this method needs descriptions, and there are none for these classes",
                remedy="Name a bundle of descriptions for these classes, or choose a method that does without",
            )
        return _table(
            classes,
            [
                [_sentence(name, one, self.stop) for one in own]
                for name, own in zip(classes.values(), owned, strict=True)
            ],
        )


@dataclass(frozen=True)
class RandomWords:
    """Random words and characters in place of descriptors (WaffleCLIP: Roth et al., ICCV 2023).

    Descriptions, where there are any, lend their characters to the random texts and nothing else.

    Attributes:
        count: draws for a class; 15, as published, makes 30 texts.
        seed: of the draws; the authors use the number of the repetition.
        mode: ``waffle`` for words and characters in turn, ``characters`` for characters only.
        words: the word list; None for the shipped one.
    """

    name: ClassVar[str] = "random-words"
    count: int = 15
    seed: int = 0
    mode: WaffleMode = "waffle"
    words: tuple[str, ...] | None = None

    def build(
        self,
        classes: ClassNames,
        descriptions: Descriptions | None,
        templates: Sequence[str],  # noqa: ARG002 - the protocol's
    ) -> ClassTexts:
        """Random texts, the same random parts for every class; templates are not looked at. See ``TextSource``."""
        _check_names(classes)
        descriptors = [one.text for key in classes for one in (descriptions or {}).get(key, ())]
        words = shipped_words() if self.words is None else self.words
        names = list(classes.values())
        return _table(
            classes, waffle_strings(names, descriptors, words, count=self.count, seed=self.seed, mode=self.mode)
        )


@dataclass(frozen=True)
class Sentences:
    """Descriptions as sentences (CuPL: Pratt et al., ICCV 2023; WCA; ABS).

    Sentences are used as they are, the class name is not added; phrases become "{class}, {clause}". Without any
    description the texts are a template set, so that a method runs on class names alone; the table's note says so.

    Attributes:
        limit: use the first so many descriptions of each class only, as the authors of ABS do with 50; None for all.
        fallback: id or file of the template set for the case without descriptions.
    """

    name: ClassVar[str] = "sentences"
    limit: int | None = None
    fallback: str = "plain"

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit of descriptions is {self.limit}; at least 1 is needed", remedy="Set 1 or more")

    def build(
        self,
        classes: ClassNames,
        descriptions: Descriptions | None,
        templates: Sequence[str],  # noqa: ARG002 - the protocol's
    ) -> ClassTexts:
        """One text for each description; the data set's templates are not looked at. See ``TextSource``."""
        owned = descriptions_of(classes, descriptions)
        if owned is None:
            plain = read_template_set(self.fallback)
            texts = [[fill(template, name) for template in plain.templates] for name in classes.values()]
            return _table(classes, texts, f"no descriptions: the template set {plain.id!r} stands in for them")
        return _table(
            classes,
            [
                [_sentence(name, one) for one in own[: self.limit]]
                for name, own in zip(classes.values(), owned, strict=True)
            ],
        )


def as_descriptions(
    texts: Mapping[str, Iterable[str]], kind: DescriptionKind = "sentence"
) -> dict[str, tuple[Description, ...]]:
    """Descriptions from plain strings, for callers who have a mapping of class id to strings.

    Raises:
        UsageError: one string where a list of strings belongs.
    """
    for key, value in texts.items():
        if isinstance(value, str):
            raise UsageError(f"the descriptions of class {key!r} are one string", remedy="Give a list of strings")
    return {key: tuple(Description(text, kind) for text in value) for key, value in texts.items()}


def descriptions_of(classes: ClassNames, descriptions: Descriptions | None) -> list[tuple[Description, ...]] | None:
    """The descriptions of each class, in class order; None if there is no description at all.

    Raises:
        UsageError: no classes, a class without a name, a class that has no description while others have some, an
            empty description, or descriptions of other classes only.
        UnknownNameError: an unknown kind of description.
    """
    _check_names(classes)
    if not descriptions or not any(descriptions.values()):
        return None
    owned = [tuple(descriptions.get(key, ())) for key in classes]
    bare = [f"{key} ({readable(name)})" for (key, name), own in zip(classes.items(), owned, strict=True) if not own]
    if len(bare) == len(owned):
        raise UsageError(
            f"none of the {len(owned)} classes has a description, though {len(descriptions)} other classes have",
            remedy="Use the descriptions that were written for these classes; they are matched by class id",
        )
    if bare:
        raise _without("description", bare)
    for descriptions_of_class in owned:
        for description in descriptions_of_class:
            _check_description(description)
    return owned


def _check_description(description: Description) -> None:
    if description.kind not in DESCRIPTION_KINDS:
        raise UnknownNameError("kind of description", str(description.kind), sorted(DESCRIPTION_KINDS, reverse=True))
    if not description.text.strip():
        raise UsageError(f"a description is empty: {description.text!r}", remedy="Remove it or give it words")


def _sentence(name: str, description: Description, stop: bool = False) -> str:
    if description.kind == "sentence":
        return description.text
    return descriptor_sentence(name, description.text, stop)


def _table(classes: ClassNames, texts: Sequence[Sequence[str]], note: str = "") -> ClassTexts:
    _check_names(classes)
    return ClassTexts(
        class_ids=tuple(classes),
        texts=tuple(text for own in texts for text in own),
        class_index=tuple(position for position, own in enumerate(texts) for _ in own),
        label_texts=tuple(fill(LABEL_TEMPLATE, name) for name in classes.values()),
        note=note,
    )


def _check_names(classes: ClassNames) -> None:
    if not classes:
        raise UsageError("there are no classes", remedy="Give at least one class name")
    for key, name in classes.items():
        if not readable(name).strip():
            raise UsageError(f"the class {key!r} has an empty name: {name!r}", remedy="Give it a name")


def _without(what: str, bare: Sequence[str]) -> UsageError:
    shown = ", ".join(bare[:_NAMED_AT_MOST])
    more = f" and {len(bare) - _NAMED_AT_MOST} more" if len(bare) > _NAMED_AT_MOST else ""
    subject = "the class has" if len(bare) == 1 else "these classes have"
    return UsageError(
        f"{subject} no {what}: {shown}{more}",
        remedy=f"Write at least one {what} for every class, or leave the class out",
    )
