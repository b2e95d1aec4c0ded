"""A labelled folder opened again: its model, classes and method, and what is known of its images."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from abs_classify.datasets.base import Sample
from abs_classify.encoding.samples import IdentifiedSample, batched
from abs_classify.encoding.stages import SHARD
from abs_classify.labelling.identity import SHARD_KEY, identity_of, read_label_space, refuse_differences
from abs_classify.plugins import missing_plugins
from abs_core.errors import AbsError, ResultError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.labelling.exporters.base import Probabilities
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.labeller import Evidence, Labeller
    from abs_classify.labelling.learned import Learned
    from abs_classify.labelling.locations import ImageLocation
    from abs_classify.labelling.rows import LabelRow
    from abs_classify.methods.table import ViewNumber
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.deferred import DeferredModel

__all__ = ["evidence_of_rows", "probabilities_of_rows", "reopen_labeller"]


def reopen_labeller(
    folder: LabelFolder,
    model: Model | DeferredModel | str,
    *,
    attention: str | AttentionBackend = "auto",
    cache: PersistentStore | Path | str | None = None,
) -> Labeller:
    """The labeller of a folder's run.

    Args:
        folder: its classes and settings are taken.
        model, attention, cache: as ``Classifier`` takes them; the model must be that of the run.

    Raises:
        UsageError: another model.
        UnknownNameError: the method of the run is not registered here; the remedy names the plugins of the run.
        ResultError: a file of the folder is damaged.
    """
    from abs_classify.classifier import Classifier
    from abs_classify.labelling.labeller import Labeller

    settings, identity = folder.run["settings"], folder.run["identity"]
    space = read_label_space(folder)
    try:
        method, templates, seed = identity["method"], settings["templates"], identity["seed"]
        negatives, batch_size, views = identity["negatives"], settings["batch_size"], _views(settings["views"])
    except (KeyError, TypeError) as error:
        raise ResultError(f"run.json of {folder.path} is damaged", remedy="Label into another folder") from error
    try:
        classifier = Classifier(
            model, space, method=method, templates=templates, attention=attention, views=views, seed=seed,
            batch_size=batch_size, cache=cache,
        )  # fmt: skip
    except UnknownNameError as error:
        if missing := missing_plugins(settings.get("plugins")):
            options = " ".join(f"--plugin {name}" for name in missing)
            error.remedy = f"The folder was labelled with a plugin that is not loaded; give its file: {options}"
        raise
    refuse_differences(
        folder,
        space,
        identity_of(classifier, negatives, identity["none"], identity["truncated"], identity.get(SHARD_KEY)),
    )
    return Labeller(classifier, none=identity["none"], negatives=negatives)


def _views(value: Any) -> ViewNumber:
    """The number of views, or how adaptive methods look at them, as ``views_as_json`` wrote it."""
    if not isinstance(value, dict):
        number: int | None = value
        return number
    from abs_classify.methods.adaptive import AdaptiveViews
    from abs_classify.methods.calibration import StoppingCalibration

    calibration = value.get("calibration")
    return AdaptiveViews(
        agreement=value["agreement"],
        stopping=value["stopping"],
        calibration=None if calibration is None else StoppingCalibration.model_validate(calibration),
    )


def evidence_of_rows(
    folder: LabelFolder, labeller: Labeller, rows: Iterable[LabelRow]
) -> Generator[tuple[Sequence[LabelRow], Evidence], None, None]:
    """What is seen of the images of rows, shard by shard; nothing is read of images whose features are in the cache.

    Args:
        folder: of the run.
        labeller: see ``reopen_labeller``.
        rows: those without a label, or whose image is gone, are left out.

    Yields:
        Rows, and what was seen of their images, in the same order; without those that cannot be read.
    """
    truncated = folder.run["identity"]["truncated"]
    shards: list[Sequence[tuple[LabelRow, IdentifiedSample]]] = []

    def entries() -> Iterator[Sequence[IdentifiedSample]]:
        readable = (row for row in rows if row.ranking and row.status != "vanished" and row.location is not None)
        for batch in batched(readable, SHARD):
            shard = [
                (row, IdentifiedSample(_sample(row.location), row.image_id, truncated)) for row in batch if row.location
            ]
            shards.append(shard)
            yield [entry for _, entry in shard]

    with closing(labeller.evidence(entries())) as evidence:
        for seen in evidence:
            shard = shards.pop(0)
            images = {id(image) for image in seen.images}
            yield [row for row, entry in shard if id(entry) in images], seen


def _sample(location: ImageLocation) -> Sample:
    """The image of a row, which is not read if its features are in the cache, even if what contained it is gone."""
    try:
        return location.sample()
    except AbsError:
        return Sample(location.file, "")


def probabilities_of_rows(folder: LabelFolder, labeller: Labeller, learned: Learned | None = None) -> Probabilities:
    """A function that gives the confidences of all classes for rows, for exports that need more than the best ones.

    Args:
        folder, labeller: as in ``evidence_of_rows``.
        learned: what was learned from corrections, if the rows are labelled by it.

    Returns:
        From n rows float32 [n, C], each row summing to 1; NaN where the image cannot be read.
    """
    import numpy as np

    from abs_classify.labelling.learned import Learned

    model = learned or Learned()

    def probabilities(rows: Sequence[LabelRow]) -> NDArray[np.float32]:
        values = np.full((len(rows), len(folder.classes)), np.nan, dtype=np.float32)
        position_of = {row.number: position for position, row in enumerate(rows)}
        for seen_rows, seen in evidence_of_rows(folder, labeller, rows):
            _, confidences = model.apply(seen.probabilities, seen.features, seen.chosen)
            values[[position_of[row.number] for row in seen_rows]] = confidences
        return values

    return probabilities
