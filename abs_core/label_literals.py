"""A list or an object of class names as programs write and print it: Python, numpy, pandas, fastai, TOML. Pure."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["literal_in"]

_MAX_LITERAL = 1024 * 1024
# "[...", "names = [...", "array([...", and "(#3) [...", as fastai prints a list
_START = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:\(#\d+\)\s*\[|[\[({]|[A-Za-z_][\w.]*\s*(?:(?::[^=\n]{0,80})?=|\())")
_COUNT = re.compile(r"\s*\(#\d+\)\s*")


def literal_in(text: str) -> list[Any] | dict[Any, Any] | None:
    """The only list, tuple, set or dict of literals in a text, alone, assigned to a name, or printed by a library.

    ``['cat', 'dog']``, ``['cat' 'dog']`` (numpy), ``classes = ("cat", "dog")``, ``dict_keys(['cat', 'dog'])``,
    ``Index(['cat', 'dog'], dtype='object')``, ``(#2) ['cat','dog']``. Nothing is run.

    Returns:
        None if the text is something else, is longer than 1 MB, or has several of them.
    """
    if len(text) > _MAX_LITERAL or not _START.match(text):
        return None
    with (
        suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError),
        warnings.catch_warnings(action="ignore"),  # of Python code that the text could be as well
    ):
        module = ast.parse(_with_commas(_COUNT.sub("", text, count=1).strip() + "\n"))
        values = [value for statement in module.body for value in _values_of(statement)]
        if len(values) == len(module.body) == 1:
            return values[0]
    return None


def _with_commas(text: str) -> str:
    """Strings side by side, which Python would join into one, with a comma between them."""
    lines = text.splitlines(keepends=True)
    before: tokenize.TokenInfo | None = None
    places = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.COMMENT):
            continue
        if before is not None and before.type == token.type == tokenize.STRING:
            places.append(before.end)
        before = token
    for row, column in reversed(places):
        line = lines[row - 1]
        lines[row - 1] = f"{line[:column]},{line[column:]}"
    return "".join(lines)


def _values_of(statement: ast.stmt) -> Iterator[list[Any] | dict[Any, Any]]:
    node: ast.expr | None = statement.value if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign) else None
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        yield [ast.literal_eval(item) for item in node.elts]
    elif isinstance(node, ast.Dict):
        value = ast.literal_eval(node)
        if isinstance(value, dict) and len(value) == len(node.keys):  # a key that repeats would hide a class
            yield value
