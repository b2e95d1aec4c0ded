"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import click

from abs_classify.models.runtime_names import RUNTIMES
from abs_cli.completion_values import (
    complete_attention,
    complete_bump,
    complete_bundle,
    complete_dataset,
    complete_device,
    complete_labels,
    complete_model,
)
from abs_cli.engine_options import threads_option
from abs_cli.plugin_options import plugin_option
from abs_cli.settings import without_settings
from abs_core.errors import ResultError, UnknownNameError, UsageError
from abs_core.home import Home

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.encoding.stages import Stages
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.methods.table import ViewNumber
    from abs_classify.models.deferred import DeferredModel
    from abs_core.descriptions import LabelSpace

__all__ = [
    "JsonObject",
    "ModelOptions",
    "NumberOrNone",
    "RenamedOption",
    "budget_options",
    "choose_label_space",
    "class_options",
    "compute_options",
    "dataset_option",
    "fixed_views_option",
    "license_option",
    "limit_options",
    "model_of_folder",
    "model_options",
    "open_feature_store",
    "report_images_option",
    "seeds_option",
    "shard_option",
    "unreadable_options",
    "version_option",
    "views_options",
]

# of ``ModelOptions``, those that a labelled folder keeps
_OPENING = ("model", "attention", "device", "dtype", "runtime", "batch_size")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelOptions:
    """Which models see the images, where and how."""

    model: str
    attention: str
    device: str
    dtype: str
    runtime: str
    batch_size: int
    seed: int
    threads: int | None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> ModelOptions:
        """Those of a command, which are taken out of its options."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})

    @property
    def opening(self) -> dict[str, Any]:
        """What ``model_of_folder`` opens the same model by, as JSON values."""
        return {**{name: getattr(self, name) for name in _OPENING}, "model": _from_anywhere(self.model)}

    def stages(self, home: Home) -> Stages:
        """The stages for these options, with the user's cache."""
        stages = self._open_stages(home)
        self._set_threads()
        return stages

    def classifier(
        self, home: Home, label_space: LabelSpace, *, method: str, views: ViewNumber, templates: str = "plain"
    ) -> Classifier:
        """A classifier with the user's cache; everything that is named is checked, and nothing is loaded.

        Raises:
            as ``Classifier``.
        """
        from abs_classify.classifier import Classifier

        classifier = Classifier(
            self._open_stages(home).models,
            label_space,
            method=method,
            templates=templates,
            views=views,
            seed=self.seed,
            batch_size=self.batch_size,
            cache=open_feature_store(home),
        )
        self._set_threads()
        return classifier

    def _open_stages(self, home: Home) -> Stages:
        from abs_classify.encoding.stages import ModelSettings, open_stages
        from abs_classify.models.store import WeightsStore

        settings = ModelSettings(self.attention, self.device, self.dtype, self.seed, self.batch_size, self.runtime)
        return open_stages(open_feature_store(home), self.model, settings, WeightsStore(home.models))

    def _set_threads(self) -> None:
        if self.threads is not None:
            from abs_classify.threads import set_threads

            set_threads(self.threads)


def _from_anywhere(model: str) -> str:
    """The name of a model, its folder or file by the absolute path."""
    kind, mark, place = model.partition(":" if model.startswith("local-dir:") else "@")
    path = Path(place).expanduser()
    return f"{kind}{mark}{path.absolute()}" if place and path.exists() else model


def open_feature_store(home: Home) -> PersistentStore:
    """The features that are kept in the user's cache; what is on its way to a bucket is there when the command ends."""
    from abs_classify.encoding.feature_store import open_store

    store = open_store(home.bucket or home.cache, index=home.indexes, limit=home.cache_size, home=home.cache)
    assert store is not None  # only no place gives none
    if home.bucket:
        click.get_current_context().find_root().call_on_close(store.flush)
    return store


class RenamedOption(click.Option):
    """An option whose former names still work, without a line in ``--help``.

    Args:
        former: the former names.
    """

    def __init__(self, declarations: Sequence[str], *, former: Sequence[str], **settings: Any) -> None:
        super().__init__([*declarations, *former], **settings)
        self._former = former

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line of the present names."""
        every, self.opts = self.opts, [name for name in self.opts if name not in self._former]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


class _Dtype(click.Choice[str]):
    """A number type, by its name or one of the short ones in use."""

    _SHORT: ClassVar = {
        "fp32": "float32",
        "float": "float32",
        "bf16": "bfloat16",
        "fp16": "float16",
        "half": "float16",
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name that ``abs_classify`` knows."""
        return super().convert(self._SHORT.get(str(value).lower(), value), param, ctx)


class NumberOrNone(click.ParamType[Any]):
    """A number, or the word none.

    Args:
        number: the type of the number.
    """

    name = "number or none"

    def __init__(self, number: click.ParamType[Any]) -> None:
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or "none"."""
        is_none = isinstance(value, str) and value.strip().lower() == "none"
        return "none" if is_none else self._number.convert(value, param, ctx)


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The object as a dictionary."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            self.fail("""it must be a JSON object, such as '{"reasoning_effort": "low"}'""", param, ctx)
        return parsed


def license_option(**settings: Any) -> Callable[[F], F]:
    """``--license`` of a bundle that a command writes."""
    return click.option("--license", "license_name", **settings)


def version_option(function: F) -> F:
    """Add ``--version`` of a bundle that a command makes: what ``child_version`` takes as ``chosen``."""
    return click.option(
        "--version",
        metavar="X.Y.Z|BUMP",
        shell_complete=complete_bump,
        help="Version of the new bundle, or which number of the highest one rises: major, minor or patch.  "
        "[default: minor]",
    )(function)


def shard_option(function: F) -> F:
    """Add ``--shard``: what ``ShardSpec.of`` takes."""
    return click.option(
        "--shard",
        metavar="I/N|slurm",
        help="Only share I of N of the images, for N processes; slurm: the place of this one in a job array or srun. "
        "See docs/scaling.md.",
    )(function)


def report_images_option(default: int) -> Callable[[F], F]:
    """Add ``--report-images`` with a default."""
    return click.option(
        "--report-images",
        metavar="N",
        type=click.IntRange(min=0),
        default=default,
        show_default=True,
        help="How many images of a page get a picture and an explanation; the others are rows.",
    )


def truncated_option(function: F) -> F:
    """Add ``--truncated``."""
    return click.option(
        "--truncated",
        type=click.Choice(["refuse", "accept"]),
        default="refuse",
        show_default=True,
        help="Files that end early: refuse them, or read what there is of a JPEG, PNG, GIF, BMP, TIFF or PPM file.",
    )(function)


def unreadable_options(
    stops_at: str = "Stop at an image that cannot be read, or skip and name it.",
) -> Callable[[F], F]:
    """Add ``--on-error``, with a line that says at what it stops, and ``--truncated``."""
    on_error = click.option(
        "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True, help=stops_at
    )

    def decorate(function: F) -> F:
        return on_error(truncated_option(function))

    return decorate


def limit_options(function: F) -> F:
    """Add ``--limit`` and ``--stratified``."""
    limit = click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N images of each data set."
    )
    stratified = click.option(
        "--stratified", is_flag=True, help="With --limit: sample the N images at random; each class keeps its share."
    )
    return limit(stratified(function))


def seeds_option(function: F) -> F:
    """Add ``--seeds``."""
    return click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help="Repeat everything that is random with N seeds, the first of which is --seed.",
    )(function)


def dataset_option(**settings: Any) -> Callable[[F], F]:
    """``--dataset`` of a command that looks at one data set."""
    return click.option(
        "--dataset",
        metavar="SPEC",
        help="Labelled images: demo, imagefolder:DIR, csv:FILE, dtd:DIR, ...; see `abs datasets ls`.",
        shell_complete=complete_dataset,
        **settings,
    )


class _ViewNumber(click.ParamType[Any]):
    """A number of views, or the word adaptive."""

    name = "number of views"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or "adaptive"."""
        if isinstance(value, str) and value.strip().lower() == "adaptive":
            return "adaptive"
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"must be a whole number from 1 on, or adaptive, got {value!r}", param, ctx)
        return number


def fixed_views_option(function: F) -> F:
    """Add ``--views`` for what looks at all views of every image; the library refuses the word adaptive."""
    return click.option(
        "--views",
        type=_ViewNumber(),
        metavar="N",
        help="Number of views of each kind.  [default: the method's own number]",
    )(function)


def views_options(function: F) -> F:
    """Add ``--views`` and what belongs to ``--views adaptive``; the command gets one value ``views``."""

    @wraps(function)
    def with_views(
        *arguments: Any,
        views: Any,
        agreement: float | None,
        stopping: str | None,
        calibration: Path | None,
        **options: Any,
    ) -> Any:
        given = {"agreement": agreement, "stopping": stopping, "calibration": calibration}
        given |= {name: options.pop(name, None) for name in ("budget_views", "budget_seconds")}
        if not _samples_views(options.get("methods") or [options.get("method")]):
            given = without_settings({"views": views, **given})
            views = given.pop("views")
        return function(*arguments, views=_chosen_views(views, given), **options)

    chosen: Any = with_views
    for option in reversed(
        [
            click.option(
                "--views",
                type=_ViewNumber(),
                metavar="N|adaptive",
                help="Number of views of each kind, or adaptive: as many as the label of an image needs.  "
                "[default: the method's own number; in abs label adaptive, where the method can]",
            ),
            click.option(
                "--agreement",
                type=float,
                metavar="P",
                help="With --views adaptive: how often the label is that of all views.  [default: 0.99]",
            ),
            click.option(
                "--stopping",
                type=click.Choice(["normal", "guaranteed", "calibrated"]),
                help="With --views adaptive: stop by an estimate, with a guarantee, or by --calibration.  "
                "[default: normal]",
            ),
            click.option(
                "--calibration",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="With --stopping calibrated: a file that abs eval --save-calibration made.",
            ),
        ]
    ):
        chosen = option(chosen)
    return cast("F", chosen)


def budget_options(function: F) -> F:
    """Add to ``--views`` what is for runs whose images are all known before the start."""
    for option in reversed(
        [
            click.option(
                "--budget-views",
                type=float,
                metavar="N",
                help="With --views adaptive: N views an image on average, most where margins are small; labels depend "
                "on the other images. Not with --agreement, --stopping or --calibration.",
            ),
            click.option(
                "--budget-seconds",
                type=float,
                metavar="S",
                help="As --budget-views, with the N that fits S seconds for each data set, model and bundle, as "
                "measured before the start.",
            ),
        ]
    ):
        function = option(function)
    return function


def _samples_views(methods: Sequence[str | None]) -> bool:
    from abs_classify.methods.table import samples_views

    try:
        return None in methods or samples_views(method for method in methods if method is not None)
    except (UnknownNameError, UsageError):  # of a plug-in, or wrong: the command says so
        return True


def _chosen_views(views: Any, given: Mapping[str, Any]) -> Any:
    """A number, ``AdaptiveViews`` or None.

    Args:
        views: the value of the option.
        given: the options of adaptive views, None for those that were not given.

    Raises:
        UsageError: an option of adaptive views without these, options that exclude each other, or a value that cannot
            be.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if views != "adaptive":
        if chosen:
            raise UsageError(
                f"--{next(iter(chosen)).replace('_', '-')} has no effect without --views adaptive",
                remedy="Add --views adaptive, or leave it out",
            )
        return views
    budgets = [name for name in chosen if name.startswith("budget")]
    if budgets and len(chosen) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise UsageError(
            f"{names} exclude each other: with a budget no image stops by itself",
            remedy="Give one budget without the others, or no budget",
        )
    from abs_classify.methods.adaptive import AdaptiveViews

    if "calibration" in chosen:
        from abs_classify.methods.calibration import read_calibration

        chosen["calibration"] = read_calibration(chosen["calibration"])
        chosen.setdefault("stopping", "calibrated")
    return AdaptiveViews(**chosen)


def model_options(function: F) -> F:
    """Add the options that make ``ModelOptions``."""
    model = click.option(
        "--model",
        default="embedded",
        show_default=True,
        metavar="NAME",
        help="Image-text model; see `abs models`.",
        shell_complete=complete_model,
    )
    return model(compute_options(function))


def compute_options(function: F) -> F:
    """Add the options that make ``ModelOptions`` of any model."""
    for option in reversed(
        [
            click.option(
                "--attention",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="Attention backend: auto, dino, dino:NAME, self, norm or none.",
                shell_complete=complete_attention,
            ),
            click.option(
                "--device",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="Device of the model: auto, cpu, cuda or cuda:N.",
                shell_complete=complete_device,
            ),
            click.option(
                "--dtype",
                type=_Dtype(["float32", "bfloat16", "float16"]),
                default="float32",
                show_default=True,
                help="Number type of the weights; scores are always float32.",
            ),
            click.option(
                "--runtime",
                type=click.Choice(RUNTIMES),
                default="auto",
                show_default=True,
                help="What runs an image encoder on a CPU; auto takes the fastest that agrees with torch.",
            ),
            click.option(
                "--batch-size",
                metavar="N",
                type=click.IntRange(min=1),
                default=64,
                show_default=True,
                help="Number of crops encoded together.",
            ),
            click.option(
                "--seed", metavar="N", type=int, default=0, show_default=True, help="Seed of all random numbers."
            ),
            threads_option,
            plugin_option,
        ]
    ):
        function = option(function)
    return function


def class_options(function: F) -> F:
    """Add ``--bundle`` and ``--labels``."""
    bundle = click.option(
        "--bundle",
        metavar="REF",
        help="Descriptions of the candidate classes: NAME, NAME@VERSION, NAME@VERSION#sha256:... or a file.",
        shell_complete=complete_bundle,
    )
    labels = click.option(
        "--labels",
        metavar="LABELS",
        help="Candidate classes without descriptions: 'cat,dog,car', a label file, or a shipped label set.",
        shell_complete=complete_labels,
    )
    return bundle(labels(function))


def choose_label_space(home: Home, bundle: str | None, labels: str | None) -> LabelSpace:
    """The candidate classes that ``--bundle`` or ``--labels`` names.

    Args:
        home: has the bundle store.
        bundle: a bundle reference, ``name``, ``name@version`` or ``name@version#sha256:...``, or a path to a file.
        labels: a comma-separated list, a label file, or the name of a shipped label set.

    Raises:
        UsageError: both a bundle and labels, or neither.
        UnknownNameError, BundleError, LabelError: what is named cannot be used.
    """
    from abs_core.descriptions import LabelSpace
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    if bundle is not None and labels is not None:
        raise UsageError("--bundle and --labels both give the candidate classes", remedy="Give one of them")
    if bundle is not None:
        return find_bundle(Repository.local(home.bundles), bundle).label_space()
    if labels is not None:
        return LabelSpace.of_labels(read_labels(labels))
    raise UsageError("the candidate classes are not given", remedy="Give --bundle NAME or --labels 'cat,dog,car'")


def model_of_folder(home: Home, folder: LabelFolder, threads: int | None = None) -> DeferredModel:
    """The model that a folder was labelled with, as its run named it.

    Args:
        threads: of the CPU; None for all.

    Raises:
        ResultError: ``run.json`` does not say.
        as ``open_stages``.
    """
    settings, seed = folder.run.get("settings", {}), folder.run.get("identity", {}).get("seed", 0)
    try:
        options = ModelOptions(**{name: settings[name] for name in _OPENING}, seed=seed, threads=threads)
    except (KeyError, TypeError) as error:
        raise ResultError(
            f"{folder.path} does not say how its model was opened",
            remedy="It was labelled from Python; use the functions of abs_classify.labelling",
        ) from error
    return options.stages(home).models
