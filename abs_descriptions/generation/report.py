"""What `abs gen-descriptions` says in the end: as text, as JSON, and as a report with a line for each class."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_core.errors import UsageError
from abs_core.files import atomic_write, ensure_writable
from abs_core.text import guarded, printable

if TYPE_CHECKING:
    from abs_descriptions.generation.class_progress import ClassReport
    from abs_descriptions.generation.cost import Prices
    from abs_descriptions.generation.providers.base import Tokens
    from abs_descriptions.generation.runner import GenerationEstimate, GenerationResult

__all__ = ["CostEstimate", "CostSummary", "GenerationSummary", "check_report", "write_report"]


_SHOWN = 10


@dataclass(frozen=True)
class CostSummary:
    """Tokens and what they cost.

    Args:
        paid: of what this run asked, every attempt that a server may bill for included.
        saved: of what is in the journal.
        prices: None where the user gave none.
    """

    paid: Tokens
    saved: Tokens
    prices: Prices | None

    def text(self) -> str:
        """One line."""
        word = _word(self.prices)
        line = f"{word}: {_tokens(self.paid, self.prices)}"
        before = f"; in the journal, {word} before: {_tokens(self.saved, self.prices)}"
        return line + before if self.saved.total else line

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"paid": _token_values(self.paid, self.prices), "journal": _token_values(self.saved, self.prices)}


@dataclass(frozen=True)
class GenerationSummary:
    """What came of a generation.

    Args:
        reference: the bundle, pinned.
        is_new: whether the store got a new version.
        result: what the generation gave.
        reused: replies that were not paid for again.
        cost: tokens, and what they cost.
        seconds: of the whole command.
    """

    reference: str
    is_new: bool
    result: GenerationResult
    reused: int
    cost: CostSummary
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 for a complete bundle; 130 for a partial one after Ctrl-C, 3 for any other partial one."""
        if self.result.complete:
            return 0
        return 3 if self.result.stop in (None, "cost limit") else 130

    def text(self) -> str:
        """For a terminal: the reference, what was kept and why the rest was not."""
        result = self.result
        fewest = min(result.report, key=lambda line: line.accepted)
        asked = sum(line.asked for line in result.report)
        lines = [
            self.reference,
            f"  {len(result.descriptions)} sentences of {len(result.report)} classes; "
            f"fewest: {fewest.accepted} of {printable(fewest.name, 60)}",
            f"  {asked} replies, {self.reused} of them from the journal; rejected: {reasons(result)}",
            f"  {self.cost.text()}",
        ]
        if not self.is_new:
            lines.append("  unchanged: the store has this version already")
        if not result.complete:
            lines.append(f"  PARTIAL: {self._why_partial()}")
        lines += [f"  {line}" for line in _short_lines(result)]
        lines += [f"  failed: {printable(reason)}" for reason in result.failures]
        return "\n".join(lines)

    def _why_partial(self) -> str:
        if self.result.stop is None:
            none = sum(not line.accepted for line in self.result.report)
            return f"{none} {'class has' if none == 1 else 'classes have'} no description"
        why = "the cost limit is reached" if self.result.stop == "cost limit" else "interrupted"
        return f"{why}; the same command goes on from here"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "bundle": self.reference,
            "new": self.is_new,
            "complete": self.result.complete,
            "stopped": self.result.stop,
            "replies": sum(line.asked for line in self.result.report),
            "reused": self.reused,
            "tokens": self.cost.to_dict(),
            "seconds": round(self.seconds, 3),
            "failures": list(self.result.failures),
            "short": [line.class_id for line in self.result.short],
            **report_value(self.result),
        }


@dataclass(frozen=True)
class CostEstimate:
    """What a generation would ask, for `--dry-run`."""

    outlook: GenerationEstimate
    prices: Prices | None

    def text(self) -> str:
        """For a terminal."""
        look = self.outlook
        lines = ["dry run: nothing was asked, nothing was written"]
        if look.reused:
            lines.append(
                f"  from the journal: {look.reused} replies, {look.accepted} of {look.wanted} descriptions; "
                f"{_word(self.prices)} before: {_tokens(look.saved, self.prices)}"
            )
        tries = f"if every class needs all its tries: {look.most_requests} requests"
        return "\n".join(
            [
                *lines,
                f"  to ask: {look.requests} requests, {_tokens(look.tokens, self.prices)}",
                f"  {tries}, {_tokens(look.most_tokens, self.prices)}",
                "  tokens in are estimated: one for 4 bytes of text, 4 a message; tokens out are the most there can be",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        look = self.outlook
        return {
            "dry_run": True,
            "journal": {"replies": look.reused, **_token_values(look.saved, self.prices)},
            "to_ask": {"requests": look.requests, **_token_values(look.tokens, self.prices)},
            "all_tries": {"requests": look.most_requests, **_token_values(look.most_tokens, self.prices)},
            "accepted": look.accepted,
            "wanted": look.wanted,
            "estimate": "prompt tokens: one for 4 bytes of UTF-8 and 4 a message; completion tokens: the most",
        }


def reasons(result: GenerationResult) -> str:
    """Why completions were rejected, the commonest reason first: "duplicate 7, chatty 2"."""
    total = Counter(dict[str, int]())
    for line in result.report:
        total.update(line.rejected)
    return _counted(total)


def _word(prices: Prices | None) -> str:
    """What was done with tokens: a local model is not paid, and where no price is known nothing is said of paying."""
    return "used" if prices is None else "paid"


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in Counter(found).most_common()) or "none"


def _short_lines(result: GenerationResult) -> list[str]:
    """The shortest classes, and how many more there are."""
    short = sorted(result.short, key=lambda line: line.accepted)
    lines = [_short_line(line, result.wanted) for line in short[:_SHOWN]]
    if len(short) > _SHOWN:
        lines.append(f"short: {len(short) - _SHOWN} more classes; --report FILE or --json names all")
    return lines


def _short_line(line: ClassReport, wanted: int) -> str:
    why = _counted({**line.rejected, **({"failed": line.failed} if line.failed else {})})
    return f"short: {printable(line.name, 60)} has {line.accepted} of {wanted} (of {line.asked} replies: {why})"


def _tokens(tokens: Tokens, prices: Prices | None) -> str:
    most = "at most " if tokens.unstated else ""
    text = f"{most}{tokens.prompt} tokens in, {tokens.completion} out"
    return text if prices is None else f"{text}, cost {prices.cost(tokens):.4f}"


def _token_values(tokens: Tokens, prices: Prices | None) -> dict[str, Any]:
    values: dict[str, Any] = tokens.to_dict()
    if not tokens.unstated:
        del values["unstated"]
    return values if prices is None else {**values, "cost": prices.cost(tokens)}


def report_value(result: GenerationResult) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "wanted": result.wanted,
        "classes": [
            {
                "id": line.class_id,
                "name": line.name,
                "asked": line.asked,
                "failed": line.failed,
                "accepted": line.accepted,
                "rejected": dict(line.rejected),
            }
            for line in result.report
        ],
    }


def check_report(path: Path) -> None:
    """Refuse a report file that could not be written when the money is spent.

    Raises:
        UsageError: an ending that says no format.
        StorageError: its folder cannot be written.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"the report {path.name!r} ends neither in .csv nor in .json", remedy="Name it so")
    ensure_writable(path.absolute().parent)


def write_report(path: Path, result: GenerationResult) -> None:
    """One line a class: asked, failed, accepted, and rejected by reason.

    Raises:
        StorageError: the file cannot be written.
    """
    if path.suffix.lower() == ".json":
        text = json.dumps(report_value(result), ensure_ascii=False, indent=1) + "\n"
    else:
        text = _csv(result)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def _csv(result: GenerationResult) -> str:
    from abs_descriptions.generation.cleaning import RejectionReason

    columns = [reason.value for reason in RejectionReason]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["id", "name", "wanted", "asked", "failed", "accepted", *columns])
    for line in result.report:
        rejected = [line.rejected.get(column, 0) for column in columns]
        names = [guarded(line.class_id), guarded(line.name)]
        writer.writerow([*names, result.wanted, line.asked, line.failed, line.accepted, *rejected])
    return stream.getvalue()
