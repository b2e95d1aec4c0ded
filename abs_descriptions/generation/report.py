"""The outcome of a generation: tokens and cost, what was kept, and a report with one line for each class."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_core.errors import UsageError
from abs_core.files import atomic_write, ensure_writable
from abs_core.text import escape_formula
from abs_descriptions.generation.cleaning import RejectionReason

if TYPE_CHECKING:
    from abs_descriptions.generation.cost import Prices
    from abs_descriptions.generation.providers.base import Tokens
    from abs_descriptions.generation.runner import GenerationEstimate, GenerationResult

__all__ = [
    "CostEstimate",
    "CostSummary",
    "GenerationSummary",
    "check_report_path",
    "rejection_counts",
    "tokens_text",
    "write_report",
]


@dataclass(frozen=True)
class CostSummary:
    """Tokens and what they cost.

    Args:
        paid: tokens of the requests of this run, including every attempt that a server may bill for.
        saved: tokens that earlier runs paid for, as the journal records them.
        prices: None if the user gave none.
    """

    paid: Tokens
    saved: Tokens
    prices: Prices | None

    def paid_text(self) -> str:
        """What this run paid, in words: ``at most 80 tokens in, 60 out, cost 0.0002``."""
        return tokens_text(self.paid, self.prices)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"paid": _token_values(self.paid, self.prices), "journal": _token_values(self.saved, self.prices)}


@dataclass(frozen=True)
class GenerationSummary:
    """The outcome of a generation and the bundle that holds it.

    Args:
        reference: the pinned reference of the bundle; None if the run was interrupted before there was anything to
            keep.
        is_new: whether the bundle was written now; False if the repository already had this very version.
        result: descriptions, rejections and the report.
        reused: replies that came from the journal.
        cost: tokens and what they cost.
        seconds: time taken.
    """

    reference: str | None
    is_new: bool
    result: GenerationResult
    reused: int
    cost: CostSummary
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "bundle": self.reference,
            "new": self.is_new,
            "complete": self.result.complete,
            "stopped": self.result.stop,
            "reason": self.result.reason,
            "replies": sum(line.asked for line in self.result.report),
            "reused": self.reused,
            "tokens": self.cost.to_dict(),
            "seconds": round(self.seconds, 3),
            "failures": list(self.result.failures),
            "remarks": [remark.as_json() for remark in self.result.remarks],
            "short": [line.class_id for line in self.result.short],
            **report_value(self.result),
        }


@dataclass(frozen=True)
class CostEstimate:
    """What a generation would request and what that would cost.

    Args:
        requests: numbers of requests and tokens.
        prices: None if the user gave none.
    """

    requests: GenerationEstimate
    prices: Prices | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        estimate = self.requests
        return {
            "dry_run": True,
            "journal": {"replies": estimate.reused, **_token_values(estimate.saved, self.prices)},
            "to_ask": {"requests": estimate.requests, **_token_values(estimate.tokens, self.prices)},
            "all_tries": {"requests": estimate.max_requests, **_token_values(estimate.max_tokens, self.prices)},
            "accepted": estimate.accepted,
            "wanted": estimate.wanted,
            "waiting": estimate.held,
            "estimate": "prompt tokens: one for 4 bytes of UTF-8 and 4 a message; completion tokens: "
            + ("the average of the bills in the journal" if estimate.billed_completion else "the most"),
        }


def tokens_text(tokens: Tokens, prices: Prices | None) -> str:
    """Token counts in words, with their cost if there are prices."""
    at_most = "at most " if tokens.unstated else ""
    text = f"{at_most}{tokens.prompt} tokens in, {tokens.completion} out"
    return text if prices is None else f"{text}, cost {prices.cost(tokens):.4f}"


def rejection_counts(result: GenerationResult) -> Counter[str]:
    """How many completions were rejected for each reason."""
    counts = Counter(dict[str, int]())
    for line in result.report:
        counts.update(line.rejected)
    return counts


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


def check_report_path(path: Path) -> None:
    """Refuse a report file that could not be written, before any money is spent.

    Raises:
        UsageError: the file name ends in neither .csv nor .json.
        StorageError: its folder cannot be written.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"the report must be a .csv or .json file, got {path.name!r}", remedy="Give another name")
    ensure_writable(path.absolute().parent)


def write_report(path: Path, result: GenerationResult) -> None:
    """Write one line for each class: requested, failed, accepted, and rejected by reason; as JSON or CSV.

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
    columns = [reason.value for reason in RejectionReason]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["id", "name", "wanted", "asked", "failed", "accepted", *columns])
    for line in result.report:
        rejected = [line.rejected.get(column, 0) for column in columns]
        names = [escape_formula(line.class_id), escape_formula(line.name)]
        writer.writerow([*names, result.wanted, line.asked, line.failed, line.accepted, *rejected])
    return stream.getvalue()
