"""Tokenizer files of a stranger's: whether reading them is safe, in time and memory. Imports no torch.

``tokenizer.json`` may hold regular expressions, which a backtracking engine runs over every text, and replacements,
which can multiply a text. Those of published tokenizers are linear or nearly so; others are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abs_classify.models.weights import read_json, refuse_pointer
from abs_core.errors import WeightsError
from abs_core.text import quoted

__all__ = ["check_tokenizer", "check_tokenizer_options", "pattern_problem"]

# Gemma's has 34 MB
_LARGEST = 256 * 2**20
_LONGEST_PATTERN = 2000
_LARGEST_GROWTH = 32


def check_tokenizer_options(folder: Path) -> None:
    """Refuse a ``tokenizer_config.json`` that names code.

    Raises:
        WeightsError: it does, or it cannot be read.
    """
    path = folder / "tokenizer_config.json"
    if path.is_file() and read_json(path).get("auto_map") is not None:
        raise WeightsError(
            f"{str(path)!r} wants to run Python code of the folder (auto_map), which is never run",
            remedy="Remove auto_map if the tokenizer.json beside it is enough",
        )


def check_tokenizer(path: Path) -> None:
    """Refuse a ``tokenizer.json`` whose regular expressions or replacements could take for ever.

    Raises:
        WeightsError: they could, or the file is no JSON, too large, says one thing twice, or draws tokens at random.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST >> 20} MiB")
        text = path.read_text(encoding="utf-8")
        refuse_pointer(path, text)
        content = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise WeightsError(f"{str(path)!r} is nested too deeply", remedy="Fetch the file again") from None
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{str(path)!r} is not a readable tokenizer: {quoted(str(error), 120)}", remedy="Fetch the file again"
        ) from error
    parts = (
        [content.get(part) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
        if isinstance(content, dict)
        else []
    )
    model = content.get("model") if isinstance(content, dict) else None
    if isinstance(model, dict) and model.get("dropout"):
        raise WeightsError(
            f"{str(path)!r} leaves out merges at random (dropout {model['dropout']!r}), so the features of a text vary",
            remedy="Set its dropout to null, which is what it means outside training",
        )
    growth = 1
    for step in _steps(parts):
        pattern = step.get("Regex")
        if isinstance(pattern, str) and (problem := pattern_problem(pattern)):
            raise WeightsError(
                f"a regular expression in {str(path)!r} {problem}: {quoted(pattern, 80)}",
                remedy="Use the tokenizer that was published with the model",
            )
        growth *= _growth(step)
        if growth > _LARGEST_GROWTH:
            raise WeightsError(
                f"the replacements in {str(path)!r} make a text more than {_LARGEST_GROWTH} times as long",
                remedy="Use the tokenizer that was published with the model",
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return content


def _steps(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _growth(step: dict[str, Any]) -> int:
    """How many times as long a text can become by a step."""
    content = step.get("content", step.get("prepend"))
    if step.get("type") not in ("Replace", "Prepend") or not isinstance(content, str):
        return 1
    pattern = step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    return max(1, -(-len(content) // max(1, len(literal) if isinstance(literal, str) else 1)))


_TOKEN = re.compile(
    r"\\(?:p\{[^}]*\}|P\{[^}]*\}|x\{[0-9A-Fa-f]*\}|u[0-9A-Fa-f]{4}|.)"
    r"|\(\?(?:[:=!>]|<[=!]|[a-zA-Z-]+[:)]|#[^)]*\))|[()|]|[*+?]|\{\d*,?\d*\}|.",
    re.DOTALL,
)
_BACK = re.compile(r"\\[1-9kg]")
_MOST_REPEATS, _MOST_OPTIONAL, _LARGEST_COUNT = 2, 8, 1000
# a repetition with a smaller span than this is no more than a longer pattern
_SPAN = 16


class _PatternGroup:
    """What stands in one group of a pattern so far.

    Attributes:
        fixed: whether it matches in one way only: no alternatives, nothing repeated a varying number of times.
        repeats: repetitions without end in the present alternative.
        most: the same, of the alternative with most.
        optional: optional parts in the present alternative.
    """

    def __init__(self) -> None:
        self.fixed = True
        self.repeats = self.most = self.optional = 0

    def next_alternative(self) -> None:
        self.fixed = False
        self.most = max(self.most, self.repeats)
        self.repeats = self.optional = 0


def pattern_problem(pattern: str) -> str:
    """Why a regular expression could take long on some text; empty where its time is bounded by the text's square.

    Refused are repeated groups that can match one text in several ways, and more than two repetitions without end in a
    row: all that makes backtracking exponential, or polynomial of a high degree.
    """
    if len(pattern) > _LONGEST_PATTERN:
        return f"is longer than {_LONGEST_PATTERN} characters"
    stack = [_PatternGroup()]
    before = ""  # what a quantifier would repeat: an atom, a group that is fixed or not, a quantifier, nothing
    position = 0
    while position < len(pattern):
        if pattern[position] == "[":
            position, before = _class_end(pattern, position), "atom"
            continue
        match = _TOKEN.match(pattern, position)
        assert match is not None  # any character matches
        part, position = match[0], match.end()
        if _BACK.match(part) or part in ("(?~", "(?("):
            return "refers back to what it matched"
        before, problem = _take(part, before, stack)
        if problem:
            return problem
    return ""


def _take(part: str, before: str, stack: list[_PatternGroup]) -> tuple[str, str]:
    """One part of a pattern: what a quantifier after it would repeat, and the problem if there is one."""
    group = stack[-1]
    if part.startswith("(") and not part.endswith(")"):
        stack.append(_PatternGroup())
        return "", ""
    if part == ")" and len(stack) > 1:
        inner = stack.pop()
        outer = stack[-1]
        outer.repeats += max(inner.most, inner.repeats)
        outer.fixed &= inner.fixed
        return ("fixed" if inner.fixed else "group"), _overflow(outer)
    if part == "|":
        group.next_alternative()
        return "", ""
    if part in ("*", "+", "?") or (len(part) > 2 and part[0] == "{"):
        return _repeat(part, before, group)
    return "atom", ""


def _repeat(part: str, before: str, group: _PatternGroup) -> tuple[str, str]:
    if before == "simple" and part in ("?", "+"):
        return "quantifier", ""  # lazy or possessive
    if before in ("", "simple", "quantifier"):
        return "", "repeats a repetition"
    low, high = _counts(part)
    if max(low, high or 0) > _LARGEST_COUNT:
        return "", f"repeats more than {_LARGEST_COUNT} times"
    if low != high:
        if before == "group" and part != "?":
            return "", "repeats a group that matches in several ways"
        group.fixed = False
        if part == "?":
            group.optional += 1
        elif high is None or high - low > _SPAN:
            group.repeats += 1
        else:
            group.optional += 1
    elif before == "group" and low > _SPAN:
        return "", "repeats a group that matches in several ways"
    return ("quantifier" if part[0] == "{" else "simple"), _overflow(group)


def _overflow(group: _PatternGroup) -> str:
    if group.repeats > _MOST_REPEATS:
        return f"has more than {_MOST_REPEATS} repetitions in a row"
    return f"has more than {_MOST_OPTIONAL} optional parts in a row" if group.optional > _MOST_OPTIONAL else ""


def _counts(part: str) -> tuple[int, int | None]:
    if part[0] != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[part]
    low, comma, high = part[1:-1].partition(",")
    least = int(low[:9] or 0)
    return least, (int(high[:9]) if high else None) if comma else least


def _class_end(pattern: str, start: int) -> int:
    """The position after the character class that begins at ``start``; classes may stand in classes."""
    depth, position = 0, start
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            position += 1
        elif char == "[":
            depth += 1
            # a bracket directly behind the opening one is itself
            if pattern[position + 1 : position + 2] == "]":
                position += 1
            elif pattern[position + 1 : position + 3] == "^]":
                position += 2
        elif char == "]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return position
