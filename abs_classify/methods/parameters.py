"""Parameters of a method in its name: ``abs-pixels(temperature=0.05,views=10)``.

Which parameters a row has follows from the dataclasses that it is made of: the fields of its view sources, of its
scorer and of its class texts. Three rules name them:

    views                   the field ``count`` of every view source but the full image
    attention_temperature   the field ``temperature`` of attention-guided views; ``temperature`` is that of the scorer
    positive_capacity       the field ``capacity`` of the dataclass that is the field ``positive``

A parameter of views is set in every view source of the row that has it. Where scorer and class texts share a field,
that of the texts is called ``texts_NAME``. Fields that change nothing in a row (``idle_fields``) are no parameters.

Nothing in a name is evaluated.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from abs_core.errors import UsageError

__all__ = [
    "MAX_EXPONENT",
    "MAX_SCALE",
    "MIN_TEMPERATURE",
    "Parameter",
    "ParameterValue",
    "Part",
    "check_range",
    "find_parameters",
    "parse_name",
    "render_name",
    "render_value",
    "replace_fields",
    "split_names",
]

ParameterValue: TypeAlias = "bool | int | float | str | tuple[float, float] | None"

#: limits of what scorers are given, within which float32 neither overflows nor loses every class but one
MAX_SCALE, MIN_TEMPERATURE, MAX_EXPONENT = 1e6, 1e-6, 20.0

#: where a parameter's field is
Part: TypeAlias = Literal["views", "scorer", "texts"]

_FORM = "Write NAME(parameter=value, ...), such as abs(temperature=0.05, views=10)"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"[A-Za-z0-9_.+-]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?")

_OF_VIEWS = {"count": "views", "temperature": "attention_temperature"}

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a name, or a printable text in quotes",
    tuple: "a pair (low, high) of finite numbers",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a row.

    Attributes:
        name: as users write it.
        part: whether it belongs to the views, the scorer or the class texts.
        defaults: the row's value of it, one for each view source that has it.
        type: bool, int, float, str or tuple, which is a pair of floats.
        choices: the values of a str that can be given; none where any can.
        optional: whether the value can be None.
        meaning: of the field, as its class documents it; empty where it does not.
        fields: paths to the fields that it sets: the position of the view source, or 0, and the names of the fields.
    """

    name: str
    part: Part
    defaults: tuple[ParameterValue, ...]
    type: type
    choices: tuple[str, ...]
    optional: bool
    meaning: str
    fields: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def default(self) -> ParameterValue:
        """The row's value; the first one where its view sources differ."""
        return self.defaults[0]

    def is_default(self, value: ParameterValue) -> bool:
        """Whether a value is what the row has already, in all its view sources."""
        return all(value == default for default in self.defaults)

    def read(self, given: object) -> ParameterValue:
        """A value of the parameter, from the text in a name or from Python.

        Raises:
            UsageError: it is of another type, or no choice.
        """
        none = given is None or (isinstance(given, str) and given.lower() == "none" and self.type is not str)
        if self.optional and none:
            return None
        value: ParameterValue = _READERS[self.type](given)
        if value is None or (self.choices and value not in self.choices):
            expected = (
                " or ".join(filter(None, [", ".join(self.choices[:-1]), *self.choices[-1:]]))
                if self.choices
                else _WORDS[self.type]
            )
            expected += " or none" if self.optional else ""
            raise UsageError(f"{self.name} must be {expected}, got {_shown(given)}", remedy=_FORM)
        return value

    def to_dict(self) -> dict[str, Any]:
        """The parameter as JSON values."""
        kind = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "pair"}[self.type]
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        value = {"name": self.name, "of": self.part, "type": kind, "default": default, "optional": self.optional}
        return value | {"choices": list(self.choices), "meaning": self.meaning}


def _read_bool(given: object) -> bool | None:
    if isinstance(given, str):
        return {"true": True, "false": False}.get(given.lower())
    return given if isinstance(given, bool) else None


def _read_int(given: object) -> int | None:
    if isinstance(given, str):
        return int(given) if _WHOLE.fullmatch(given) else None
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10**18 else None


def _read_float(given: object) -> float | None:
    if isinstance(given, str):
        number = float(given) if _NUMBER.fullmatch(given) else inf
    elif isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e300:
        number = float(given)
    else:
        return None
    # + 0.0 makes 0 of -0
    return number + 0.0 if isfinite(number) else None


def _read_str(given: object) -> str | None:
    # it is printed in tables and written to files
    readable = isinstance(given, str) and given.strip() and given.isprintable() and len(given) <= 1000
    return str(given) if readable else None


def _read_pair(given: object) -> tuple[float, float] | None:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        return None
    low, high = map(_read_float, given)
    return None if low is None or high is None else (low, high)


_READERS: Mapping[type, Any] = {
    bool: _read_bool, int: _read_int, float: _read_float, str: _read_str, tuple: _read_pair,
}  # fmt: skip


def _shown(given: object) -> str:
    text = f"({', '.join(map(str, given))})" if isinstance(given, tuple) else repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def find_parameters(views: Sequence[object], scorer: object, texts: object) -> dict[str, Parameter]:
    """The parameters of a row by name: those of its views, its scorer, and its class texts.

    Args:
        views: the view sources.
        scorer, texts: as in ``Method``; what is no dataclass has no parameters.
    """
    parameters: dict[str, Parameter] = {}
    parts: list[tuple[Part, int, object]] = [("views", position, view) for position, view in enumerate(views)]
    for part, position, owner in [*parts, ("scorer", 0, scorer), ("texts", 0, texts)]:
        for path, hint, value, meaning in _fields(owner):
            kind = _kind(hint, value)
            if kind is None:
                continue
            name = "_".join(path)
            name = _OF_VIEWS.get(name, name) if part == "views" else name
            if name in parameters and part != "views":
                name = f"{part}_{name}"
            field = (position, path)
            if name in parameters:
                known = parameters[name]
                parameters[name] = dataclasses.replace(
                    known, defaults=(*known.defaults, value), fields=(*known.fields, field)
                )
            else:
                parameters[name] = Parameter(name, part, (value,), *kind, meaning, (field,))
    return parameters


def _fields(owner: object, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any, str]]:
    """Path, type, value and meaning of each field of a dataclass that changes something, those of inner ones too."""
    if not dataclasses.is_dataclass(owner) or isinstance(owner, type):
        return
    try:
        hints = get_type_hints(type(owner))
    except (NameError, TypeError):
        hints = {}
    meanings = _meanings(type(owner))
    for field in dataclasses.fields(owner):
        if field.name in getattr(owner, "idle_fields", ()) or not field.init:
            continue
        value, path = getattr(owner, field.name), (*before, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _fields(value, path)
        else:
            yield path, hints.get(field.name, type(value)), value, meanings.get(field.name, "")


def _kind(hint: Any, value: object) -> tuple[type, tuple[str, ...], bool] | None:
    """Type, choices, and whether None is a value; None of a field that a name cannot give."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    optional = type(None) in alternatives
    rest = [alternative for alternative in alternatives if alternative is not type(None)]
    if len(rest) != 1:
        return None
    if get_origin(rest[0]) is Literal:
        choices = get_args(rest[0])
        return (str, choices, optional) if all(isinstance(choice, str) for choice in choices) else None
    if rest[0] is tuple and isinstance(value, tuple):
        rest[0] = tuple[tuple(type(part) for part in value)]  # type: ignore[misc]
    if get_origin(rest[0]) is tuple:
        parts = get_args(rest[0])
        return (tuple, (), optional) if len(parts) == 2 and set(parts) <= {int, float} else None
    return (rest[0], (), optional) if rest[0] in (bool, int, float, str) else None


def _meanings(owner: type) -> dict[str, str]:
    """What the sections ``Attributes:`` of a class and its bases say of each attribute, in one line each."""
    meanings: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        section = (base.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n {8}(?=\S)", "\n" + section):
            names, _, meaning = entry.partition(":")
            for name in names.split(","):
                meanings[name.strip()] = " ".join(meaning.replace("``", "").split())
    return meanings


def replace_fields(owner: Any, path: tuple[str, ...], value: ParameterValue) -> Any:
    """A copy of a dataclass with one field, or that of an inner one, replaced."""
    first, *rest = path
    inner = replace_fields(getattr(owner, first), tuple(rest), value) if rest else value
    return dataclasses.replace(owner, **{first: inner})


def render_value(value: ParameterValue) -> str:
    """A value as it stands in a name; ``Parameter.read`` of it gives the value again."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"({','.join(map(render_value, value))})"
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return repr(value).removesuffix(".0")


def render_name(base: str, values: Mapping[str, ParameterValue]) -> str:
    """The name of a row with parameters: sorted, without spaces; the bare name without any."""
    settings = ",".join(f"{name}={render_value(values[name])}" for name in sorted(values))
    return f"{base}({settings})" if settings else base


def split_names(text: str) -> list[str]:
    """The names of a list, which commas part where they are in no brackets; empty ones are left out.

    Brackets that do not match are left to ``parse_name``.
    """
    names, start, depth = [], 0, 0
    position = 0
    while position < len(text):
        character = text[position]
        if depth and character in "\"'":
            position = _end_of_quote(text, position)
            continue
        depth = max(0, depth + (character == "(") - (character == ")"))
        if character == "," and not depth:
            names.append(text[start:position])
            start = position + 1
        position += 1
    return [name.strip() for name in [*names, text[start:]] if name.strip()]


def parse_name(text: str) -> tuple[str, dict[str, str | tuple[str, ...]]]:
    """The name of a row, and the parameters behind it in brackets with the texts of their values.

    Raises:
        UsageError: brackets or quotes that do not match, a parameter without a value or given twice.
    """
    base, bracket, _ = text.partition("(")
    if not bracket:
        if ")" in text:
            raise _malformed(text, "has a closing bracket and no opening one")
        return text.strip(), {}
    return base.strip(), _NameReader(text, len(base) + 1).settings()


class _NameReader:
    """Reads ``parameter=value, ...)`` up to the end of a text."""

    def __init__(self, text: str, position: int) -> None:
        self._text, self._position = text, position

    def settings(self) -> dict[str, str | tuple[str, ...]]:
        settings: dict[str, str | tuple[str, ...]] = {}
        if self._take(")"):
            self._require_end()
            return settings
        while True:
            name = self._match(_NAME)
            if not name:
                raise _malformed(self._text, f"needs the name of a parameter {self._where()}")
            if not self._take("="):
                raise self._without_value(name)
            if name in settings:
                raise _malformed(self._text, f"gives the parameter {name!r} twice")
            settings[name] = self._value(name)
            if self._take(")"):
                self._require_end()
                return settings
            if not self._take(","):
                raise self._unfinished()

    def _value(self, name: str) -> str | tuple[str, ...]:
        if not self._take("("):
            return self._scalar(name)
        values = [self._scalar(name)]
        while self._take(","):
            values.append(self._scalar(name))
        if not self._take(")"):
            raise self._unfinished()
        return tuple(values)

    def _scalar(self, name: str) -> str:
        self._skip()
        start = self._position
        if self._text[start : start + 1] in ("'", '"'):
            self._position = _end_of_quote(self._text, start)
            quoted = self._text[start : self._position]
            if len(quoted) < 2 or quoted[-1] != quoted[0]:
                raise _malformed(self._text, f"lacks the closing quote of {name}")
            try:
                return str(json.loads(quoted)) if quoted[0] == '"' else quoted[1:-1]
            except ValueError as error:
                raise _malformed(self._text, f"has a backslash in {name} that stands for nothing") from error
        value = self._match(_BARE)
        if not value:
            raise self._without_value(name)
        return value

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        match = pattern.match(self._text, self._position)
        self._position = match.end() if match else self._position
        return match[0] if match else ""

    def _take(self, character: str) -> bool:
        self._skip()
        taken = self._text.startswith(character, self._position)
        self._position += taken
        return taken

    def _skip(self) -> None:
        while self._text[self._position : self._position + 1].isspace():
            self._position += 1

    def _require_end(self) -> None:
        rest = self._text[self._position :].strip()
        if rest:
            raise _malformed(self._text, f"goes on after its closing bracket: {_shown(rest)}")

    def _without_value(self, name: str) -> UsageError:
        # in a list of methods what follows an open bracket is the next method
        if self._text.count("(") > self._text.count(")"):
            return _malformed(self._text, "lacks a closing bracket")
        return _malformed(self._text, f"gives the parameter {name!r} no value: write {name}=VALUE")

    def _unfinished(self) -> UsageError:
        if not self._text[self._position :].strip():
            return _malformed(self._text, "lacks a closing bracket")
        return _malformed(self._text, f"needs a comma or a closing bracket {self._where()}")

    def _where(self) -> str:
        rest = self._text[self._position :]
        return f"before {_shown(rest)}" if rest.strip() else "at its end"


def _end_of_quote(text: str, start: int) -> int:
    """The position behind a quoted text, the end where it is not closed. Backslashes escape in double quotes only."""
    position = start + 1
    while position < len(text) and text[position] != text[start]:
        position += 2 if text[position] == "\\" and text[start] == '"' else 1
    return min(position + 1, len(text))


def _malformed(text: str, problem: str) -> UsageError:
    return UsageError(f"the method {_shown(text)} {problem}", remedy=_FORM)


def check_range(owner: str, values: Mapping[str, float], low: float, high: float = inf, *, above: bool = False) -> None:
    """Refuse parameters outside a range.

    Args:
        owner: what has them, for the message.
        values: by name.
        low, high: the least and the largest value that is allowed.
        above: whether the least one is not allowed itself.

    Raises:
        UsageError: a value is outside, or no finite number; the message names it.
    """
    for name, value in values.items():
        if not (low < value if above else low <= value):
            limit = f"above {low:g}" if above else f"at least {low:g}"
        elif not (isfinite(value) and value <= high):
            limit = f"at most {high:g}" if isfinite(high) else "finite"
        else:
            continue
        raise UsageError(f"the {name} of {owner} must be {limit}, got {value}", remedy="Leave it as published")
