"""Prompt sets: what a language model is asked about a class, as versioned YAML files.

A set defines the form of the answers (``kind``), their language, a system message, examples, and one or more prompts.
Each prompt is asked about each class. In a prompt and in the system message ``{name}`` stands for the class name,
``{article}`` for its English indefinite article, ``{domain}`` for what all classes are ("bird"). A class whose name is
ambiguous has a note in the label set; the prompts then say ``name (note)``.

The shipped sets are prompts/llm/*.yaml.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from abs_core.canonical import digest
from abs_core.errors import PromptError, UnknownNameError
from abs_core.files import prompts_folder, read_yaml
from abs_core.text import printable, validation_message
from abs_descriptions.generation.providers.base import AnswerForm, Message
from abs_descriptions.generation.sentences import Language

__all__ = [
    "Example",
    "Identifier",
    "Prompt",
    "PromptSet",
    "Text",
    "article",
    "check_placeholders",
    "full_name",
    "read_prompts",
    "shipped_prompt_sets",
]

PLACEHOLDERS = ("name", "article", "domain")
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=8000, strip_whitespace=True)]


class _PromptModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompt(_PromptModel):
    """A question: its id, stable within the set, and its text with placeholders."""

    id: Identifier
    text: Text


class Example(_PromptModel):
    """A sample answer for the model: a class name that is an unlikely label, and a description of it."""

    name: Text
    text: Text

    @property
    def context(self) -> Mapping[str, str]:
        """What further placeholders stand for in the question that it answers."""
        return {}


class PromptSet(_PromptModel):
    """A set of prompts; read one with ``read_prompts``.

    ``kind`` is what the answers contain: "sentence" (CuPL) or "phrase", one per line (CLIP-D). ``answer`` is "list" if
    the prompts ask for the JSON object ``{"descriptions": ["...", "..."]}``: servers and vLLM then constrain the model
    to it. ``language`` is the code of the expected language ("en"), or "any".
    """

    id: Identifier
    version: Annotated[int, Field(ge=1)]
    description: Text
    kind: Literal["sentence", "phrase"] = "sentence"
    answer: AnswerForm = "text"
    language: Language = "en"
    domain: str = ""
    system: str = ""
    examples: tuple[Example, ...] = ()
    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1)]

    @property
    def digest(self) -> str:
        """``sha256:...`` of the whole set."""
        return digest(self.model_dump(mode="json"))

    def messages(
        self, prompt: Prompt, name: str, note: str | None = None, context: Mapping[str, str] | None = None
    ) -> tuple[Message, ...]:
        """The conversation that asks ``prompt`` about a class: system message, examples, question.

        Args:
            prompt: one of the set.
            name: of the class.
            note: distinguishes the class from others of the same name. ``{name}`` in the question and in the system
                message then becomes ``name (note)``, such as "crane (the bird)"; a final full stop of the note is
                dropped.
            context: what further placeholders stand for, where a set has any.
        """
        full, values = full_name(name, note), context or {}
        turns = [Message("system", self._fill(self.system.strip(), full, values))] if self.system.strip() else []
        for example in self.examples:
            turns.append(Message("user", self._fill(prompt.text, example.name, example.context)))
            turns.append(Message("assistant", example.text))
        return (*turns, Message("user", self._fill(prompt.text, full, values)))

    def _fill(self, text: str, name: str, context: Mapping[str, str]) -> str:
        values = {**context, "name": name, "article": article(name), "domain": self.domain, "": ""}
        return "".join(literal + values[field or ""] for literal, field in _parts(text))


def full_name(name: str, note: str | None) -> str:
    """A class name with the note that distinguishes it: ``name (note)``."""
    hint = note.strip().removesuffix(".") if note else ""
    return f"{name} ({hint})" if hint else name


@lru_cache(maxsize=1024)
def _parts(text: str) -> tuple[tuple[str, str | None], ...]:
    """A text as pairs of plain text and the placeholder after it."""
    return tuple((literal, field) for literal, field, _, _ in string.Formatter().parse(text))


def article(name: str) -> str:
    """The English indefinite article of a name, guessed from its spelling: "an" for "hourglass", "a" for "unicorn"."""
    word = name.strip().casefold()
    if re.match(r"(hour|heir|honest|honou?r)", word):
        return "an"
    if re.match(r"(uni(?!n)|eu|ewe|one\b|once\b|us(e|u)|ut(e|i)|ur(a|o)|ub|u-)", word):
        return "a"
    return "an" if word[:1] in tuple("aeiou") else "a"


def shipped_prompt_sets() -> tuple[str, ...]:
    """The ids of the prompt sets that ship with the toolkit, sorted."""
    return tuple(sorted(path.stem for path in (prompts_folder() / "llm").glob("*.yaml")))


def read_prompts(source: str | Path) -> PromptSet:
    """A prompt set from a YAML file, or a shipped one by its id; a file with that name takes precedence.

    Raises:
        PromptError: an invalid prompt set, or an unknown or missing placeholder; names the file and the prompt.
        UnknownNameError: neither a file nor a shipped id; lists the shipped ones.
        StorageError: the file cannot be read.
    """
    path = Path(source)
    if path.is_file():
        return _read_file(path)
    if str(source) in shipped_prompt_sets():
        return _read_file(prompts_folder() / "llm" / f"{source}.yaml")
    if path.suffix.lower() in (".yaml", ".yml") or len(path.parts) > 1:
        raise PromptError(f"the prompt file {printable(str(path), 200)!r} does not exist", remedy="Check the path")
    raise UnknownNameError(
        "prompt set",
        printable(str(source), 100),
        shipped_prompt_sets(),
        remedy="See `abs gen-descriptions --help`, or name a YAML file of your own",
    )


def _read_file(path: Path) -> PromptSet:
    shown = f"the prompt file {printable(str(path), 200)!r}"
    prompts = _validate(shown, read_yaml(path, shown, PromptError))
    counts = Counter(prompt.id for prompt in prompts.prompts)
    repeated = [prompt_id for prompt_id, count in counts.items() if count > 1]
    if repeated:
        raise PromptError(f"{shown}: the prompt id {repeated[0]!r} appears twice", remedy="Give each prompt its own id")
    check_placeholders(f"{shown}, system", prompts.system, prompts.domain)
    for prompt in prompts.prompts:
        where = f"{shown}, prompt {prompt.id!r}"
        if "name" not in check_placeholders(where, prompt.text, prompts.domain):
            raise PromptError(f"{where}: {{name}} is missing", remedy="Use {name} in each prompt")
    return prompts


def _validate(shown: str, value: Any) -> PromptSet:
    try:
        return PromptSet.model_validate(value)
    except ValidationError as error:
        raise PromptError(
            f"{shown}: {validation_message(error)}",
            remedy="Write the keys id, version, description and prompts, as in prompts/llm/objects.yaml",
        ) from None


def check_placeholders(where: str, text: str, domain: str, further: Sequence[str] = ()) -> set[str | None]:
    """The placeholders of a text, all of them valid.

    Args:
        where: names the text in errors.
        text: with placeholders.
        domain: of the set.
        further: placeholders that are valid besides those of every set.

    Raises:
        PromptError: a stray brace, an unknown placeholder, or ``{domain}`` without a domain.
    """
    valid = (*PLACEHOLDERS, *further)
    listed = ", ".join(f"{{{name}}}" for name in valid[:-1])
    try:
        fields = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise PromptError(f"{where}: {error}", remedy="Write a literal brace twice: {{ or }}") from None
    for _, field, form, conversion in fields:
        if field not in valid or form or conversion:
            placeholder = f"{{{field}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
            raise PromptError(
                f"{where}: unknown placeholder {printable(placeholder, 100)!r}",
                remedy=f"Use {listed} or {{{valid[-1]}}}; write a literal brace twice",
            )
    names = {field for _, field, _, _ in fields}
    if "domain" in names and not domain:
        raise PromptError(
            f"{where}: {{domain}} is used, but the set has no domain",
            remedy="Add the key domain, or remove the placeholder",
        )
    return names
