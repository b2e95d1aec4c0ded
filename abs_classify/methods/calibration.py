"""Calibrations of the rule that stops at a measured threshold: a small JSON file, which is hostile until it is checked.

An entry holds what a run with all views showed of one method: on how many images, and from which threshold on each of
them keeps its label. It is valid for the model and the attention backend, the method with its number of views, and the
class texts that it was made with; that the images are of the same kind nobody can check.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_classify.methods.adaptive import CalibratedRule
from abs_core.canonical import canonical_json, digest
from abs_core.errors import UsageError
from abs_core.files import atomic_write, storage_errors
from abs_core.text import json_text, validation_message

__all__ = ["CalibrationEntry", "StoppingCalibration", "read_calibration", "subject_of"]

_MOST_BYTES = 64 << 20
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Critical = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CalibrationEntry(BaseModel):
    """What all views showed of one method.

    Attributes:
        name: the method's name, for messages.
        method: its views and scorer, ``Method.key``, as canonical JSON.
        model, attention, texts: digests of the model, the attention backend and the class texts.
        images: how many were looked at in full.
        critical: of those, the critical values above 0, see ``critical_values``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    method: str
    model: _Digest
    attention: str
    texts: _Digest
    images: int = Field(ge=1)
    critical: tuple[_Critical, ...] = Field(strict=False)


class StoppingCalibration(BaseModel):
    """The entries of a file.

    Attributes:
        entries: one for each method, model and set of class texts.
        digest: over the entries, so that a file that was damaged or edited is not believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["abs-stopping-calibration"] = "abs-stopping-calibration"
    format_version: Literal[1] = 1
    entries: tuple[CalibrationEntry, ...] = Field(strict=False)
    digest: _Digest

    @classmethod
    def of(cls, entries: Sequence[CalibrationEntry]) -> StoppingCalibration:
        """The calibration with these entries."""
        return cls(entries=tuple(entries), digest=_digest_of(entries))

    def rule(self, agreement: float, name: str, subject: dict[str, str]) -> CalibratedRule:
        """The rule for a method.

        Args:
            agreement: as in ``CalibratedRule``.
            name: of the method.
            subject: its ``method``, ``model``, ``attention`` and ``texts``, as an entry has them.

        Raises:
            UsageError: the calibration is of something else, or on too few images for the agreement.
        """
        named = [entry for entry in self.entries if entry.method == subject["method"]]
        for entry in named:
            if all(getattr(entry, part) == value for part, value in subject.items()):
                return CalibratedRule(agreement, entry.images, entry.critical)
        if not named:
            names = ", ".join(dict.fromkeys(entry.name for entry in self.entries)) or "none"
            raise UsageError(
                f"the calibration has no entry for the method {name!r} with these views; it has: {names}",
                remedy="Make one with --save-calibration and the same methods and number of views",
            )
        words = {"model": "model or dtype", "attention": "attention backend", "texts": "classes or descriptions"}
        best = max(named, key=lambda entry: sum(getattr(entry, part) == subject[part] for part in words))
        others = [words[part] for part in words if getattr(best, part) != subject[part]]
        raise UsageError(
            f"the calibration of {name!r} was made with another {' and another '.join(others)}",
            remedy="Make one for this with --save-calibration",
        )

    def write(self, path: Path) -> None:
        """Write the file. Raises StorageError where that fails."""
        with atomic_write(path) as stream:
            stream.write((json_text(self.model_dump(mode="json")) + "\n").encode("utf-8"))


def read_calibration(path: Path) -> StoppingCalibration:
    """Read and check a calibration file.

    Raises:
        UsageError: it is no calibration, or was changed since it was written.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "read"), path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    remedy = "Make it again with --save-calibration"
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MB, so it is no calibration", remedy=remedy)
    try:
        calibration = StoppingCalibration.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        reason = validation_message(error) if isinstance(error, ValidationError) else "it is nested too deeply"
        raise UsageError(f"{path} is no calibration: {reason}", remedy=remedy) from error
    if calibration.digest != _digest_of(calibration.entries):
        raise UsageError(f"{path} was changed after it was written", remedy=remedy)
    return calibration


def subject_of(key: dict[str, Any], model: str, attention: str, texts: str) -> dict[str, str]:
    """What an entry must agree with: a method's key, and the digests of model, attention backend and class texts."""
    return {"method": canonical_json(key), "model": model, "attention": attention, "texts": texts}


def _digest_of(entries: Sequence[CalibrationEntry]) -> str:
    return digest([entry.model_dump(mode="json") for entry in entries])
