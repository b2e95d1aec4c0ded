"""Class names as JSON and YAML files of other tools hold them: lists, id2label, class indices, categories. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abs_core.errors import LabelError
from abs_core.label_lines import Reading, named_entry, translated
from abs_core.label_set import LabelEntry
from abs_core.text import quoted

__all__ = ["StatedSet", "read_value"]

_EXAMPLE = 'Write {"classes": [{"id": "...", "name": "..."}]}'
_MAX_VERSION = 100
_META = ("name", "version", "source", "notes")
_SET_KEYS = (*_META, "alias_sources", "left_out", "classes")
_CLASS_KEYS = ("id", "name", "group", "note", "remark")
_WORDNET_ID = re.compile(r"n[0-9]{8}")
# under which other tools keep their classes: transformers, ultralytics, datasets, COCO, fastai, torchvision
_LISTS = (
    "id2label", "idx2label", "idx_to_class", "names", "class_names", "classnames", "label_names", "labels",
    "categories", "label2id", "class_to_idx", "class_indices", "label_map", "vocab",
    "thing_classes", "class_name_mapping", "class_label",
)  # fmt: skip
_NAMES = ("name", "class_name", "label", "display_name", "title")
_IDS = ("id", "class_id", "label_id", "wnid")
_GROUPS = ("group", "supercategory")


@dataclass(frozen=True, slots=True)
class StatedSet:
    """What a file says about its label set as a whole."""

    entries: list[LabelEntry]
    name: str | None = None
    version: str = "1.0.0"
    source: str | None = None
    left_out: tuple[str, ...] = ()


def read_value(value: Any, where: str, reading: Reading) -> StatedSet:
    """The classes in a value of JSON or YAML.

    Args:
        value: as its parser gives it, numbers as strings or as numbers.
        where: what a message calls the file.
        reading: what to say is added to it.

    Raises:
        LabelError: none of the forms that are known, or one that could be read in two ways.
    """
    if isinstance(value, dict) and "classes" in value and not _lists_names_of_others(value):
        return _label_set(value, where, reading)
    if isinstance(value, list):
        return StatedSet(list(_entries_of_list(value, where, reading)))
    if not isinstance(value, dict):
        raise LabelError(f"{where} must be an object or a list, got {_type(value)}", remedy=_EXAMPLE)
    # Beside a list of names, "labels" are those of images.
    for key in ("classes", *_LISTS) if _are_texts(value.get("classes")) else (*_LISTS, "classes"):
        inner = value.get(key)
        if isinstance(inner, dict | list) and inner and not (len(value) > 1 and _texts(inner, value)):
            others = [name for name in value if name != key]
            for name in others:
                reading.how.add(f"not read: a key beside {quoted(key)}", name)
            return read_value(inner, where, reading)
    inner = _only_nested(value)
    if inner is not None:
        reading.how.add("read inside: a key", inner[0])
        return read_value(inner[1], where, reading)
    return StatedSet(list(_entries_of_mapping(_without_columns(value), where, reading)))


def _lists_names_of_others(value: Mapping[str, Any]) -> bool:
    """Whether ``classes`` are an object, or names beside keys that label sets of this toolkit do not have."""
    classes = value["classes"]
    return isinstance(classes, dict) or (bool(classes) and _are_texts(classes) and not {*value} <= {*_SET_KEYS})


_MAX_DEPTH = 8


def _only_nested(value: Mapping[Any, Any]) -> tuple[str, Any] | None:
    """The classes further inside, as Datumaro and cards of datasets have them: what is under a key for classes.

    Nothing if there are none, or different ones, so that nothing is chosen for the user.
    """
    found: list[tuple[str, Any]] = []

    def search(item: Any, path: str, depth: int) -> None:
        for key, inner in item.items() if isinstance(item, dict) else ((None, each) for each in item):
            if not isinstance(inner, dict | list) or depth > _MAX_DEPTH or len(found) > 1:
                continue
            here = path if key is None else f"{path}.{key}".strip(".")
            if depth and key in (*_LISTS, "classes") and _are_classes(inner):
                if all(inner != other for _, other in found):
                    found.append((here, inner))
            else:
                search(inner, here, depth + 1)

    search(value, "", 0)
    return found[0] if len(found) == 1 else None


def _are_classes(value: Any) -> bool:
    """Names in a list, objects with names, or names by number."""
    if isinstance(value, list):
        return bool(value) and (
            _are_texts(value) or all(isinstance(item, dict) and isinstance(_first(item, _NAMES), str) for item in value)
        )
    pairs = value.items()
    return bool(pairs) and (
        all(_is_number(key) and isinstance(item, str) for key, item in pairs)
        or all(not _is_number(key) and _is_number(item) for key, item in pairs)
    )


def _without_columns(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """``{"id": {"0": 7}, "name": {"0": "cat"}}``, as pandas writes a table, by number and name; others as they are."""
    name = next((key for key in _NAMES if isinstance(value.get(key), dict)), None)
    if name is None or not all(
        isinstance(column, dict) and list(column) == list(value[name]) for column in value.values()
    ):
        return value
    ids = next((value[key] for key in _IDS if key in value and key != name), None)
    return {(place if ids is None else _number_text(ids[place])): text for place, text in value[name].items()}


def _texts(inner: Any, value: Mapping[str, Any]) -> bool:
    """Whether a value is one class among others of a file of descriptions, not the list of classes."""
    return isinstance(inner, list) and all(_are_texts(item) or not item for item in value.values())


def _label_set(content: Mapping[str, Any], where: str, reading: Reading) -> StatedSet:
    rows = content["classes"]
    stated = _checked_texts(content, _META, where, _SET_KEYS)
    if not isinstance(rows, list):
        raise LabelError(f"{where}: 'classes' must be a list, got {_type(rows)}", remedy=_EXAMPLE)
    version = stated.get("version", "1.0.0")
    if not 1 <= len(version) <= _MAX_VERSION:
        raise LabelError(
            f"{where}: the version must have 1 to {_MAX_VERSION} characters, got {len(version)}",
            remedy="Write a version such as 1.0.0",
        )
    left_out = content.get("left_out") or []
    if not _are_texts(left_out):
        raise LabelError(f"{where}: 'left_out' must be a list of strings", remedy="Write the labels that it leaves out")
    if rows and _are_texts(rows):
        entries = list(_entries_of_list(rows, where, reading))
    else:
        entries = [_class_entry(row, f"{where} class {number}") for number, row in enumerate(rows, 1)]
    return StatedSet(entries, stated.get("name"), version, stated.get("source"), tuple(left_out))


def _class_entry(row: Any, where: str) -> LabelEntry:
    texts = _checked_texts(row, _CLASS_KEYS, where, (*_CLASS_KEYS, "aliases"))
    if "name" not in texts:
        raise LabelError(f"{where} has no name", remedy=_EXAMPLE)
    aliases = row.get("aliases") or []
    if not _are_texts(list(aliases) if isinstance(aliases, dict) else aliases):
        raise LabelError(f"{where}: 'aliases' must be a list of strings", remedy='Write "aliases": ["...", "..."]')
    return LabelEntry(where, texts["name"], texts.get("id"), texts.get("group"), texts.get("note"), tuple(aliases))


def _checked_texts(value: Any, keys: Sequence[str], where: str, known: Sequence[str]) -> dict[str, str]:
    """The strings of a JSON object under ``keys``; null counts as left out. It may have other keys in ``known``."""
    if not isinstance(value, dict):
        raise LabelError(f"{where} must be an object, got {_type(value)}", remedy=_EXAMPLE)
    for key, text in value.items():
        if key not in known:
            raise LabelError(f"{where}: unknown key {quoted(str(key))}; known: {', '.join(known)}", remedy="Remove it")
        if key in keys and not isinstance(text, str | None):
            raise LabelError(f"{where}: {key!r} must be a string, got {_type(text)}", remedy=_EXAMPLE)
    return {key: value[key] for key in keys if value.get(key) is not None}


def _entries_of_list(value: Sequence[Any], where: str, reading: Reading) -> Iterator[LabelEntry]:
    for number, item in enumerate(value, 1):
        place = f"{where} item {number}"
        if isinstance(item, str):
            yield _translated_if_bare(place, item, reading)
        elif isinstance(item, dict):
            yield _entry_of_object(item, place, reading)
        elif pair := _pair(item):
            yield named_entry(place, *pair, reading)
        else:
            raise LabelError(f"{place} must be a class name or an object, got {_type(item)}", remedy=_EXAMPLE)


def _pair(item: Any) -> tuple[str, str] | None:
    """The id and the name of ``[0, "cat"]`` or ``["cat", 0]``; None if it is not clear which is which."""
    if not isinstance(item, list) or len(item) != 2:
        return None
    ids = [place for place in (0, 1) if _is_number(item[place]) or _WORDNET_ID.fullmatch(str(item[place]))]
    if len(ids) != 1 or not isinstance(item[1 - ids[0]], str):
        return None
    return _number_text(item[ids[0]]), item[1 - ids[0]]


def _translated_if_bare(where: str, text: str, reading: Reading) -> LabelEntry:
    return translated(where, text, reading) if _WORDNET_ID.fullmatch(text) else LabelEntry(where, text)


def _entry_of_object(item: Mapping[str, Any], where: str, reading: Reading) -> LabelEntry:
    if len(item) == 1:
        (key, name), *_ = item.items()
        if key not in _NAMES and isinstance(name, str):
            return named_entry(where, str(key), name, reading)
    name = _first(item, _NAMES)
    if not isinstance(name, str):
        raise LabelError(f"{where} has no name", remedy=_EXAMPLE)
    identifier, group = _first(item, _IDS), _first(item, _GROUPS)
    for key in item:
        if key not in (*_NAMES, *_IDS, *_GROUPS, "note"):
            reading.how.add("not read: a key of a class", str(key))
    note = item.get("note")
    return LabelEntry(
        where,
        name,
        None if identifier is None else _number_text(identifier),
        group if isinstance(group, str) else None,
        note if isinstance(note, str) else None,
    )


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _entries_of_mapping(value: Mapping[Any, Any], where: str, reading: Reading) -> Iterator[LabelEntry]:
    """id2label, label2id, class indices, WordNet ids with names."""
    keys, items = list(value), list(value.values())
    if not keys:
        raise LabelError(f"{where} has no classes", remedy=_EXAMPLE)
    numbered = all(_is_number(key) for key in keys)
    if numbered and all(isinstance(item, str) for item in items):
        for key, name in sorted(value.items(), key=lambda pair: int(pair[0])):
            yield LabelEntry(f"{where} class {key}", name, _number_text(key))
    elif numbered and all(_is_synset(item) for item in items):
        for key, (wordnet_id, name, *_) in sorted(value.items(), key=lambda pair: int(pair[0])):
            yield LabelEntry(f"{where} class {key}", name.replace("_", " "), wordnet_id)
    elif not numbered and all(_is_number(item) for item in items):
        numbers = sorted(int(item) for item in items)
        if numbers not in (list(range(len(items))), list(range(1, len(items) + 1))):
            reading.doubts.add(
                "used as ids: numbers that do not count the classes, as counts of images", str(numbers[-1])
            )
        for name, number in sorted(value.items(), key=lambda pair: int(pair[1])):
            yield LabelEntry(f"{where} class {quoted(str(name))}", str(name), _number_text(number))
    elif all(_WORDNET_ID.fullmatch(str(key)) for key in keys):
        yield from _entries_of_synsets(value, where, reading)
    else:
        raise _unknown_mapping(value, where)


def _entries_of_synsets(value: Mapping[Any, Any], where: str, reading: Reading) -> Iterator[LabelEntry]:
    for key, words in value.items():
        place = f"{where} class {key}"
        if isinstance(words, str):
            yield named_entry(place, str(key), words, reading)
        elif words and _are_texts(words):
            yield LabelEntry(place, words[0], str(key), aliases=tuple(words[1:]))
        else:
            raise LabelError(f"{place} must have a name, got {_type(words)}", remedy=_EXAMPLE)


def _unknown_mapping(value: Mapping[Any, Any], where: str) -> LabelError:
    items = list(value.values())
    if all(isinstance(item, list) for item in items) and any(_are_texts(item) and item for item in items):
        return LabelError(
            f"{where} has a list of texts for each of {len(items)} keys, as files of descriptions have",
            remedy="Read it with `abs bundle import FILE --name NAME`, or write a list of class names",
        )
    if all(isinstance(item, str) for item in items):
        return LabelError(f"{where} has two texts for each class, and nothing says which is the name", remedy=_EXAMPLE)
    shown = ", ".join(quoted(str(key), 30) for key in list(value)[:5])
    return LabelError(f"{where} has none of the known forms of label files, keys: {shown}", remedy=_EXAMPLE)


def _is_synset(item: Any) -> bool:
    return isinstance(item, list) and len(item) >= 2 and _are_texts(item[:2]) and bool(_WORDNET_ID.fullmatch(item[0]))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch("[0-9]{1,9}", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9 and value == int(value)


def _number_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value == value // 1 else str(value)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
