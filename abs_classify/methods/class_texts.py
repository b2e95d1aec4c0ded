"""The texts that stand for the classes: a template, an ensemble of templates, descriptors, random words, descriptions.

A source of class texts turns class names, descriptions and templates into ``ClassTexts``, in which every text belongs
to one class. Template sets, as shipped or in a user's file, are read here too. How texts are encoded and matched is not
decided here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from abs_classify.methods.baselines.waffle import WaffleMode, shipped_words, waffle_strings
from abs_classify.methods.names import template_set_names
from abs_classify.methods.parameters import check_range
from abs_classify.methods.phrases import LABEL_TEMPLATE, ClassNames, descriptor_sentence, fill, readable
from abs_core.canonical import digest
from abs_core.descriptions import DESCRIPTION_KINDS, Description, Descriptions
from abs_core.errors import PromptError, UnknownNameError, UsageError
from abs_core.files import prompts_folder, read_yaml, storage_errors
from abs_core.text import validation_message

__all__ = [
    "ClassTextInputs",
    "ClassTextSource",
    "ClassTexts",
    "Descriptors",
    "RandomWords",
    "Sentences",
    "Template",
    "TemplateEnsemble",
    "TemplateSet",
    "TemplatedSentences",
    "read_template_set",
]

_MAX_BYTES = 100_000
_Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class TemplateSet(BaseModel):
    """A versioned list of templates.

    Attributes:
        id: lower-case name; of a shipped set it is the file's name.
        version: rises when a template changes.
        source: where the wording comes from, and its license.
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
    subject = f"the template set {path}"
    content: Any = (
        _lines(path) if path.suffix == ".txt" else read_yaml(path, subject, PromptError, max_bytes=_MAX_BYTES)
    )
    try:
        return TemplateSet.model_validate(content)
    except ValidationError as error:
        raise PromptError(
            f"{path}: {validation_message(error)}", remedy="Give it the fields id, version, source and templates"
        ) from error


def _lines(path: Path) -> dict[str, Any]:
    with storage_errors(path, "read"), path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise PromptError(
            f"{path}: the template set is larger than {_MAX_BYTES:,} bytes", remedy="Split it into several files"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8", remedy="Save it as UTF-8") from error
    name = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:64] or "templates"
    lines = [line.strip().replace("{c}", "{}") for line in text.splitlines() if line.strip()]
    return {"id": name.strip("-"), "version": 1, "source": f"the lines of {path.name}", "templates": lines}


#: classes that an error names; it counts the rest
_MAX_NAMED = 3


@dataclass(frozen=True)
class ClassTexts:
    """The texts of all classes, in class order.

    Attributes:
        class_ids: C ids, all different.
        class_names: C names, for people.
        texts: M texts, at least one for each class.
        class_index: M positions in ``class_ids``, one for each text.
        label_texts: C texts "a photo of a {class}.", by which WCA weighs descriptions.
        note: what a reader of the results must know about these texts, or nothing.

    Raises:
        UsageError: no classes, a repeated id, a class without a text, or lengths that do not fit.
    """

    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    texts: tuple[str, ...]
    class_index: tuple[int, ...]
    label_texts: tuple[str, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.class_ids:
            raise UsageError("there are no classes", remedy="Give at least one class")
        if len(set(self.class_ids)) != len(self.class_ids):
            repeated = next(class_id for class_id in self.class_ids if self.class_ids.count(class_id) > 1)
            raise UsageError(f"the class id {repeated!r} appears twice", remedy="Give every class an id of its own")
        if len(self.class_index) != len(self.texts) or not (
            len(self.label_texts) == len(self.class_names) == len(self.class_ids)
        ):
            raise UsageError(
                f"there are {len(self.texts)} texts with {len(self.class_index)} class indices, and "
                f"{len(self.class_ids)} classes with {len(self.class_names)} names and {len(self.label_texts)} label "
                "texts",
                remedy="Give every text one class index, and every class one name and one label text",
            )
        if not set(self.class_index) <= set(range(len(self.class_ids))):
            raise UsageError("a class index is not the position of a class", remedy="Use positions in class_ids")
        with_text = set(self.class_index)
        without = [class_id for position, class_id in enumerate(self.class_ids) if position not in with_text]
        if without:
            raise _lacking("text", without)

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the hex digest of all ids and texts, in order; names and note do not enter."""
        return digest([self.class_ids, self.texts, self.class_index, self.label_texts])


@dataclass(frozen=True)
class ClassTextInputs:
    """What class texts can be made of.

    Attributes:
        classes: class id -> class name, in class order. Underscores in names become spaces.
        descriptions: class id -> descriptions; ids that are not in ``classes`` are ignored. None if there are none.
        templates: the data set's own templates, each with one ``{}``.

    Raises:
        UsageError: no classes, or a class without a name.
    """

    classes: ClassNames
    descriptions: Descriptions | None = None
    templates: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise UsageError("there are no classes", remedy="Give at least one class name")
        for class_id, name in self.classes.items():
            if not readable(name).strip():
                raise UsageError(f"the class {class_id!r} has an empty name: {name!r}", remedy="Give it a name")

    def descriptions_by_class(self) -> list[tuple[Description, ...]] | None:
        """The descriptions of each class, in class order; None if there is no description at all.

        Raises:
            UsageError: a class that has no description while others have some, an empty description, or descriptions
                of other classes only.
            UnknownNameError: an unknown kind of description.
        """
        if not self.descriptions or not any(self.descriptions.values()):
            return None
        by_class = [tuple(self.descriptions.get(class_id, ())) for class_id in self.classes]
        if not any(by_class):
            raise UsageError(
                f"none of the {len(by_class)} classes has a description, though {len(self.descriptions)} other classes "
                "have",
                remedy="Use the descriptions that were written for these classes; they are matched by class id",
            )
        without = [
            f"{class_id} ({readable(name)})"
            for (class_id, name), descriptions in zip(self.classes.items(), by_class, strict=True)
            if not descriptions
        ]
        if without:
            raise _lacking("description", without)
        for descriptions in by_class:
            for description in descriptions:
                _check_description(description)
        return by_class

    def class_texts(self, texts: Sequence[Sequence[str]], note: str = "") -> ClassTexts:
        """The texts of each class, in class order, put together."""
        names = tuple(self.classes.values())
        return ClassTexts(
            class_ids=tuple(self.classes),
            class_names=names,
            texts=tuple(text for texts_of_class in texts for text in texts_of_class),
            class_index=tuple(position for position, texts_of_class in enumerate(texts) for _ in texts_of_class),
            label_texts=tuple(fill(LABEL_TEMPLATE, name) for name in names),
            note=note,
        )


class ClassTextSource(Protocol):
    """A way to make the texts of a method."""

    @property
    def name(self) -> str:
        """A short name for tables and reports."""

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """The texts.

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
                f"the template {self.template!r} must have exactly one {{}}",
                remedy="Write {} once, where the class name belongs",
            )

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """The template with each class name."""
        return inputs.class_texts([[fill(self.template, name)] for name in inputs.classes.values()])


@dataclass(frozen=True)
class TemplateEnsemble:
    """The data set's templates with each class name (CLIP-E: Radford et al. 2021, section 3.1.4)."""

    name: ClassVar[str] = "templates"

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """All templates with each class name."""
        if not inputs.templates:
            raise UsageError("there are no templates to average", remedy="Name a template set, such as 'plain'")
        return inputs.class_texts(
            [[fill(template, name) for template in inputs.templates] for name in inputs.classes.values()]
        )


@dataclass(frozen=True)
class Descriptors:
    """Descriptions as clauses, "{class}, which has {descriptor}" (CLIP-D: Menon & Vondrick, ICLR 2023).

    A description of the kind ``sentence`` is used as it is: the rule would make "which has It is a bird" of it.

    Attributes:
        stop: end the sentences in a full stop, as CLIP-D's own code does on ImageNet only.
    """

    name: ClassVar[str] = "descriptors"
    stop: bool = False

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """One text for each description."""
        by_class = inputs.descriptions_by_class()
        if by_class is None:
            raise UsageError(
                "this method needs descriptions, and there are none for these classes",
                remedy="Name a bundle of descriptions for these classes, or choose a method that does without",
            )
        return inputs.class_texts(
            [
                [_sentence(name, description, self.stop) for description in descriptions]
                for name, descriptions in zip(inputs.classes.values(), by_class, strict=True)
            ]
        )


@dataclass(frozen=True)
class RandomWords:
    """Random words and characters in place of descriptors (WaffleCLIP: Roth et al., ICCV 2023).

    Descriptions, where there are any, lend their characters to the random texts and nothing else. The random parts are
    the same for every class.

    Attributes:
        count: samples for each class; 15, as published, makes 30 texts.
        seed: of the random numbers; the authors use the number of the repetition.
        mode: ``waffle`` for words and characters in turn, ``characters`` for characters only.
        words: the word list; None for the shipped one.

    Raises:
        UsageError: a count that is not from 1 to 1,000.
    """

    name: ClassVar[str] = "random-words"
    #: the seed is that of the run
    idle_fields: ClassVar[frozenset[str]] = frozenset({"seed"})
    count: int = 15
    seed: int = 0
    mode: WaffleMode = "waffle"
    words: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_range("random texts", {"count": self.count}, 1, 1000)

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """Random texts, of words, of characters or of both."""
        known = inputs.descriptions or {}
        descriptors = [description.text for class_id in inputs.classes for description in known.get(class_id, ())]
        words = shipped_words() if self.words is None else self.words
        names = list(inputs.classes.values())
        return inputs.class_texts(
            waffle_strings(names, descriptors, words, count=self.count, seed=self.seed, mode=self.mode)
        )


@dataclass(frozen=True)
class Sentences:
    """Descriptions as sentences (CuPL: Pratt et al., ICCV 2023; WCA; ABS).

    Sentences are used as they are, the class name is not added; phrases become "{class}, {clause}". Without any
    description the texts are those of a template set, so that a method runs on class names alone; the note says so.

    Attributes:
        limit: use the first descriptions of each class only, up to this number (the authors of ABS use 50); None for
            all.
        fallback: id or file of the template set for the case without descriptions.
    """

    name: ClassVar[str] = "sentences"
    limit: int | None = None
    fallback: str = "plain"

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit of descriptions must be at least 1, got {self.limit}", remedy="Set 1 or more")

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """One text for each description."""
        names, by_class = inputs.classes.values(), inputs.descriptions_by_class()
        if by_class is None:
            plain = read_template_set(self.fallback)
            texts = [[fill(template, name) for template in plain.templates] for name in names]
            return inputs.class_texts(texts, f"no descriptions: the template set {plain.id!r} stands in for them")
        return inputs.class_texts(
            [
                [_sentence(name, description) for description in descriptions[: self.limit]]
                for name, descriptions in zip(names, by_class, strict=True)
            ]
        )


@dataclass(frozen=True)
class TemplatedSentences:
    """A template, and behind it each description (AWT: Zhu et al., NeurIPS 2024): "a photo of a wren. It has ...".

    The first text of a class is the template alone. Without any description, the templates of a set follow, as with
    ``Sentences``; the note says so.

    Attributes:
        template: text with one ``{}`` for the class name.
        limit: use the first descriptions of each class only, up to this number; None for all.
        fallback: id or file of the template set for the case without descriptions.

    Raises:
        UsageError: a limit below 1.
    """

    name: ClassVar[str] = "templated-sentences"
    template: str = LABEL_TEMPLATE
    limit: int | None = None
    fallback: str = "plain"

    def __post_init__(self) -> None:
        Sentences(limit=self.limit)  # refuses what is no limit

    def build(self, inputs: ClassTextInputs) -> ClassTexts:
        """The template, and one text for each description."""
        plain = Template(self.template).build(inputs).texts
        following = Sentences(limit=self.limit, fallback=self.fallback).build(inputs)
        of_class: list[list[str]] = [[text] for text in plain]
        for position, text in zip(following.class_index, following.texts, strict=True):
            of_class[position].append(text if following.note else f"{plain[position]} {text}")
        return inputs.class_texts(of_class, following.note)


def _check_description(description: Description) -> None:
    if description.kind not in DESCRIPTION_KINDS:
        raise UnknownNameError("kind of description", str(description.kind), sorted(DESCRIPTION_KINDS, reverse=True))
    if not description.text.strip():
        raise UsageError(f"a description is empty: {description.text!r}", remedy="Remove it or give it words")


def _sentence(name: str, description: Description, stop: bool = False) -> str:
    if description.kind == "sentence":
        return description.text
    return descriptor_sentence(name, description.text, stop)


def _lacking(kind: str, classes: Sequence[str]) -> UsageError:
    named = ", ".join(classes[:_MAX_NAMED])
    beyond = f" and {len(classes) - _MAX_NAMED} more" if len(classes) > _MAX_NAMED else ""
    subject = "the class has" if len(classes) == 1 else "these classes have"
    return UsageError(
        f"{subject} no {kind}: {named}{beyond}",
        remedy=f"Write at least one {kind} for every class, or leave the class out",
    )
