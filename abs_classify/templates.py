"""CLIP template sets: hand-written prompts with one place for the class name, read from YAML files.

The shipped sets lie in ``prompts/clip/``, one file each, named by its id. A text file with a template on each line, as
CLIP_benchmark publishes beside its data sets, is a set too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from abs_core.canonical import digest
from abs_core.errors import PromptError, UnknownNameError
from abs_core.files import storage_errors
from abs_core.resources import prompts_folder

__all__ = ["TemplateSet", "read_template_set", "template_set_names"]

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
