"""The rejected completions beside a bundle: ``birds.jsonl`` has ``birds.rejected.jsonl``.

They are kept so that nothing that was paid for vanishes and a reason can be argued with. Unlike a description a
rejected text may hold anything, because being odd is why it was rejected; only lone surrogates are replaced (UTF-8
cannot hold them) and a text over the limit is cut, with the reason left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from unicodedata import normalize

import jsonlines
from pydantic import ValidationError

from abs_core.errors import BundleError
from abs_core.printable import printable
from abs_descriptions.bundles.format import MAX_REJECTED_TEXT, MAX_TEXT, Provenance, Rejection
from abs_descriptions.bundles.header import validation_message
from abs_descriptions.bundles.lines import FETCH, LineFault, RecordRules, check_canonical, parse_json
from abs_descriptions.bundles.models import BundleHeader, RejectionModel
from abs_descriptions.bundles.scan import open_scan
from abs_descriptions.references import quoted

__all__ = ["check_rejected", "iter_rejected", "rejected_path", "rejection_value"]

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def rejected_path(path: Path) -> Path:
    """Where the rejected completions of the bundle at ``path`` lie."""
    stem = path.name.removesuffix(".jsonl")
    return path.with_name(f"{stem}.rejected.jsonl")


def iter_rejected(path: Path, header: BundleHeader) -> Iterator[Rejection]:
    """The rejected completions beside the bundle at ``path``, as a stream; none if there are none.

    Raises:
        StorageError: there should be some and the file cannot be read.
        BundleError: a rule is broken, or count or digest are not the header's; names file and line.
    """
    if header.counts.rejected == 0 and not rejected_path(path).exists():
        return
    rules = RecordRules(
        [entry.id for entry in header.label_set.classes], [generator.id for generator in header.generators]
    )
    count = 0
    with open_scan(rejected_path(path)) as scan:
        try:
            with jsonlines.Reader(scan.lines(), loads=cast("Any", lambda line: _read(line, rules))) as reader:
                for rejection in cast("Iterator[Rejection]", reader):
                    count += 1
                    yield rejection
        except LineFault as fault:
            raise scan.error(fault) from None
        if (count, scan.digest) != (header.counts.rejected, header.rejected_digest):
            raise BundleError(
                f"{printable(str(scan.path))} holds {count} rejected completions with the digest {scan.digest}; "
                f"the bundle's header says {header.counts.rejected} with {header.rejected_digest}",
                remedy="Fetch both files again from one place",
            )


def check_rejected(path: Path, header: BundleHeader) -> None:
    """Check the whole file of rejected completions beside the bundle at ``path``; errors as ``iter_rejected``."""
    for _ in iter_rejected(path, header):
        pass


def rejection_value(rejection: Rejection) -> dict[str, Any]:
    """The JSON object of a rejected completion, made storable: see the module's words on odd texts."""
    value: dict[str, Any] = {
        "class": rejection.class_id,
        "provenance": {key: item for key, item in asdict(rejection.provenance).items() if item is not None},
        "reason": rejection.reason,
        "text": _storable(rejection.text, MAX_REJECTED_TEXT),
    }
    if rejection.detail is not None:
        value["detail"] = _storable(rejection.detail, MAX_TEXT)
    if rejection.rejected_by is not None:
        value["rejected_by"] = rejection.rejected_by
    return value


def _storable(text: str, limit: int) -> str:
    # Normalised first: NFC can lengthen a text.
    whole = normalize("NFC", _SURROGATE.sub("\ufffd", text))
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def _read(line: str, rules: RecordRules) -> Rejection:
    value = parse_json(line)
    try:
        model = RejectionModel.model_validate_json(line)
    except ValidationError as error:
        raise LineFault(validation_message(error), FETCH) from None
    check_canonical(value, line)
    if model.model_dump(mode="json", by_alias=True, exclude_none=True) != value:
        raise LineFault("null is written; leave the key out", FETCH)
    source = model.provenance
    provenance = Provenance(**source.model_dump())
    reason = rules.provenance_fault(provenance) or rules.reviewer_fault(model.rejected_by)
    if reason is None and not rules.knows_class(model.class_):
        reason = f"the class {quoted(model.class_)} is not in the label set"
    if reason is not None:
        raise LineFault(reason, FETCH)
    return Rejection(model.class_, model.text, model.reason, provenance, model.detail, model.rejected_by)
