"""What the installed open_clip publishes: its architectures and its weights, read without importing it.

Importing open_clip takes seconds, since it brings torch, timm and torchvision. Its architectures are JSON files, and
its published weights stand in ``pretrained.py`` as dictionaries that small functions make of literals. That file is
parsed and evaluated here, and nothing of it is run. A list that was remembered between runs would be slow the first
time and of another version one day; this one is always what is installed. Where the file is written in some other way
than expected, open_clip is imported after all and asked.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from abs_core.extras import package_folder, require

__all__ = ["OpenClipCatalogue", "read_catalogue"]


@dataclass(frozen=True)
class OpenClipCatalogue:
    """The architectures and the published weights of open_clip.

    Attributes:
        configs: architecture to its configuration, in open_clip's order.
        published: architecture to tag to where these weights are and what preprocessing they want.
    """

    configs: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def weights(self, arch: str, tag: str) -> Mapping[str, Any]:
        """The entry of published weights; empty where there are none of this name."""
        return self.published.get(arch, {}).get(tag, {})

    def names(self) -> tuple[str, ...]:
        """All published weights as ``ARCH/TAG``, without the pairs that are a QuickGELU mismatch."""
        return tuple(
            f"{arch}/{tag}"
            for arch, tags in self.published.items()
            for tag, entry in tags.items()
            if bool(self.configs[arch].get("quick_gelu", False)) == bool(entry.get("quick_gelu", False))
        )


def read_catalogue() -> OpenClipCatalogue:
    """The catalogue of the installed open_clip.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    if "open_clip" in sys.modules:
        return _ask_library()
    folder = package_folder("open_clip")
    try:
        return _read_files(folder)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError):
        return _ask_library()


def _ask_library() -> OpenClipCatalogue:
    open_clip = require("open_clip")
    published: dict[str, dict[str, Any]] = {}
    for arch, tag in open_clip.list_pretrained():
        published.setdefault(arch, {})[tag] = open_clip.get_pretrained_cfg(arch, tag)
    return OpenClipCatalogue({arch: open_clip.get_model_config(arch) for arch in open_clip.list_models()}, published)


@cache
def _read_files(folder: Path) -> OpenClipCatalogue:
    return OpenClipCatalogue(_read_configs(folder / "model_configs"), _read_published(folder))


def _read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(folder.glob("*.json"), key=lambda path: _natural_key(path.stem))
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {arch: config for arch, config in contents.items() if {"embed_dim", "vision_cfg", "text_cfg"} <= set(config)}


def _natural_key(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def _read_published(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    reader = _LiteralReader()
    for file in ("constants.py", "pretrained.py"):
        reader.read(ast.parse((folder / file).read_text(encoding="utf-8")))
    published: dict[str, dict[str, dict[str, Any]]] = reader.values["_PRETRAINED"]
    # open_clip lists weights with QuickGELU a second time, under the architecture that computes it
    twins = {
        f"{arch}-quickgelu": {tag: entry for tag, entry in tags.items() if entry.get("quick_gelu", False)}
        for arch, tags in published.items()
    }
    return published | {arch: tags for arch, tags in twins.items() if tags}


class _LiteralReader:
    """Evaluates the assignments of a module whose values are literals, ``dict(...)``, names, or calls of its functions.

    A function counts if it does nothing but return such a value of its arguments.

    Attributes:
        values: what was assigned, by name.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._functions: dict[str, ast.FunctionDef] = {}

    def read(self, module: ast.Module) -> None:
        """Evaluate a module's assignments of one name each, in order; other statements are passed over."""
        for statement in module.body:
            match statement:
                case ast.FunctionDef():
                    self._functions[statement.name] = statement
                case ast.Assign(targets=[ast.Name(id=name)]):
                    self.values[name] = self._evaluate(statement.value, self.values)

    def _evaluate(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Name(id=name):
                return names[name]
            case ast.Dict():
                merged: dict[Any, Any] = {}
                for key, value in zip(node.keys, node.values, strict=True):
                    evaluated = self._evaluate(value, names)
                    # a dictionary behind two stars has no key
                    merged |= evaluated if key is None else {self._evaluate(key, names): evaluated}
                return merged
            case ast.Call(func=ast.Name(id=name), args=[]):
                arguments = {str(keyword.arg): self._evaluate(keyword.value, names) for keyword in node.keywords}
                return arguments if name == "dict" else self._call(self._functions[name], arguments)
            case _:
                return ast.literal_eval(node)

    def _call(self, function: ast.FunctionDef, arguments: dict[str, Any]) -> Any:
        signature, (*_, last) = function.args, function.body
        if not isinstance(last, ast.Return) or last.value is None or len(function.body) > 1:
            raise ValueError(f"{function.name} does more than return a value")
        defaults = [self._evaluate(default, self.values) for default in signature.defaults]
        names = {**self.values, **dict(zip((arg.arg for arg in signature.args), defaults, strict=True))}
        known = {arg.arg for arg in signature.args}
        names.update({name: value for name, value in arguments.items() if name in known})
        if signature.kwarg is not None:
            names[signature.kwarg.arg] = {name: value for name, value in arguments.items() if name not in known}
        return self._evaluate(last.value, names)
