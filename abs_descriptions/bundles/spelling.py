"""A record to its only spelling: canonical JSON, several times as fast as ``canonical_json``, its oracle. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, cast

from abs_descriptions.bundles.format import Description, Provenance

__all__ = ["spell_head", "spell_record", "spell_scores"]


def spell_record(record: Description) -> str:
    """The canonical JSON of a record that keeps the rules; equal to ``canonical_json``, several times as fast."""
    source = record.provenance
    request = "" if source.request is None else f'"request":"{source.request}",'
    scores = "" if record.scores is None else f'"scores":{spell_scores(record.scores)},'
    return f'{spell_head(record)}{request}"sample":{source.sample}}},{scores}"text":{encode_basestring(record.text)}}}'


def spell_head(record: Description) -> str:
    """The part of a record's spelling before request and sample: many records of a bundle have the same."""
    source = record.provenance
    ident = "" if record.id is None else f'"id":{encode_basestring(record.id)},'
    prompt = "" if source.prompt is None else f'"prompt":{encode_basestring(source.prompt)},'
    return (
        f'{{"class":{encode_basestring(record.class_id)},{ident}"kind":"{record.kind}","provenance":'
        f'{{{_spell_reviewers(source)}"generator":{encode_basestring(source.generator)},{prompt}'
    )


def _spell_reviewers(source: Provenance) -> str:
    who = {"accepted_by": source.accepted_by, "edited_by": source.edited_by}
    return "".join(f'"{key}":{encode_basestring(item)},' for key, item in who.items() if item is not None)


def spell_scores(scores: Mapping[str, float]) -> str:
    # The type's own repr: a subclass (numpy.float64) may have another.
    return (
        "{"
        + ",".join(
            [
                f'"{name}":{(float if isinstance(scores[name], float) else int).__repr__(cast("Any", scores[name]))}'
                for name in (sorted(scores) if len(scores) > 1 else scores)
            ]
        )
        + "}"
    )
