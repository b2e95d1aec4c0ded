"""Options of commands that ask a language model, and what they make of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from abs_cli.completion_values import complete_language_model, complete_provider, complete_variable
from abs_cli.options import JsonObject, NumberOrNone
from abs_cli.settings import without_settings
from abs_core.errors import UsageError
from abs_core.home import Home

if TYPE_CHECKING:
    from abs_descriptions.generation.cost import Prices
    from abs_descriptions.generation.providers.base import Parameters, Provider
    from abs_descriptions.generation.report import CostEstimate, CostSummary

__all__ = ["LanguageModelOptions", "cost_text", "estimate_text", "language_model_options"]

# Those that are fields of ``ProviderOptions``; a provider says itself which of them it has.
_PROVIDER_OPTIONS = (
    "model",
    "base_url",
    "key_variable",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "timeout",
    "extra_body",
    "poll_interval",
    "engine",
    "gpus",
)

_FILE = click.Path(dir_okay=False, path_type=Path)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class LanguageModelOptions:
    """Which language model is asked, how it samples, and what it may cost."""

    backend: str
    model: str | None
    base_url: str | None
    key_variable: str | None
    max_tokens: int
    temperature: Any
    top_p: Any
    seed: Any
    extra_body: dict[str, Any] | None
    price_in: float | None
    price_out: float | None
    prices: Path | None
    max_cost: float | None
    same_server: bool
    concurrency: int | None
    timeout: float | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    poll_interval: float | None
    engine: str | None
    gpus: int | None

    @property
    def parameters(self) -> Parameters:
        """How the model samples."""
        from abs_descriptions.generation.providers.base import Parameters

        sampling = (self.temperature, self.top_p, self.seed)
        return Parameters(self.max_tokens, *(None if value == "none" else value for value in sampling))

    def provider(self, home: Home, **further: Any) -> Provider:
        """The provider.

        Args:
            home: the user's folders.
            further: fields of ``ProviderOptions`` that are options of the command's own; None where not given.

        Raises:
            UsageError: an option that the backend lacks, or that must have another form.
        """
        from abs_descriptions.generation.providers.registry import PROVIDERS, ProviderOptions, build_provider

        variable = self.key_variable
        # A user who gives the key itself must not find it in a log.
        if variable is not None and variable not in os.environ and not re.fullmatch("[A-Z_][A-Z0-9_]{0,60}", variable):
            raise UsageError(
                "--key-variable must be the name of an environment variable that is set",
                remedy="Put the key into a variable such as MY_KEY, and give that name, not the key",
            )
        options = {**{f"_language_{name}": getattr(self, name) for name in _PROVIDER_OPTIONS}, **further}
        if self.backend in PROVIDERS:
            known = PROVIDERS[self.backend].options
            idle = [name for name in options if name.removeprefix("_language_") not in known]
            options |= without_settings({name: options[name] for name in idle})
        given = {name.removeprefix("_language_"): value for name, value in options.items() if value is not None}
        # A cache may be emptied; the records of paid batches stay with the journals.
        keep = home.journals if self.backend == "openai-batch" else home.cache / "derived"
        return build_provider(self.backend, ProviderOptions(**given, keep=keep))

    def prices_of(self, model: str) -> Prices | None:
        """The prices of a model; None if none are given.

        Raises:
            UsageError: options that exclude or need each other. UnknownNameError: a price file without the model.
        """
        from abs_descriptions.generation.cost import Prices, read_prices

        if self.prices is not None:
            if self.price_in is not None or self.price_out is not None:
                raise UsageError("--prices and --price-in or --price-out exclude each other", remedy="Give one of them")
            return read_prices(self.prices, model)
        if (self.price_in is None) != (self.price_out is None):
            raise UsageError("--price-in and --price-out must be given together", remedy="Give both")
        if self.price_in is None or self.price_out is None:
            if self.max_cost is not None:
                raise UsageError("--max-cost needs prices", remedy="Give --price-in and --price-out, or --prices FILE")
            return None
        return Prices(self.price_in, self.price_out)


def language_model_options(*, model: str, seed: str, max_tokens: int) -> Callable[[F], F]:
    """Add the options that make ``LanguageModelOptions``; the command gets one value ``language_model``.

    Args:
        model, seed: what the options of the model and of the sampling seed are called.
        max_tokens: the default length of a reply.
    """

    def decorate(function: F) -> F:
        names = {field.name: f"_language_{field.name}" for field in fields(LanguageModelOptions)}

        @wraps(function)
        def with_model(*arguments: Any, **options: Any) -> Any:
            values = {name: options.pop(option) for name, option in names.items()}
            return function(*arguments, language_model=LanguageModelOptions(**values), **options)

        chosen: Any = with_model
        for option in reversed(_options(model, seed, max_tokens)):
            chosen = option(chosen)
        return cast("F", chosen)

    return decorate


def _options(model: str, seed: str, max_tokens: int) -> list[Callable[[Any], Any]]:
    return [*_model_options(model), *_sampling_options(seed, max_tokens), *_price_options(), *_traffic_options()]


def _model_options(model: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--backend",
            "_language_backend",
            default="local",
            show_default=True,
            metavar="NAME",
            shell_complete=complete_provider,
            help="What runs the language model: local, vllm, openai (any compatible server) or openai-batch.",
        ),
        click.option(
            model,
            "_language_model",
            metavar="NAME",
            shell_complete=complete_language_model,
            help="Language model.  [default for local and vllm: the embedded smollm2]",
        ),
        click.option("--base-url", "_language_base_url", metavar="URL", help="Address of an OpenAI-compatible server."),
        click.option(
            "--key-variable",
            "_language_key_variable",
            metavar="NAME",
            shell_complete=complete_variable,
            help="Environment variable that holds the key for --base-url.",
        ),
    ]


def _sampling_options(seed: str, max_tokens: int) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--max-tokens",
            "_language_max_tokens",
            metavar="N",
            type=click.IntRange(min=1),
            default=max_tokens,
            show_default=True,
            help="Maximum number of tokens in a reply.",
        ),
        click.option(
            "--temperature",
            "_language_temperature",
            metavar="X|none",
            type=NumberOrNone(click.FloatRange(min=0)),
            default=0.8,
            show_default=True,
            help="Sampling temperature; none leaves it to the model.",
        ),
        click.option(
            "--top-p",
            "_language_top_p",
            metavar="X|none",
            type=NumberOrNone(click.FloatRange(min=0, max=1, min_open=True)),
            default=0.95,
            show_default=True,
            help="Nucleus sampling: probability of the tokens to sample from; none leaves it to the model.",
        ),
        click.option(
            seed,
            "_language_seed",
            metavar="N|none",
            type=NumberOrNone(click.INT),
            default=0,
            show_default=True,
            help="Seed of the sampling; none sends no seed to a server.",
        ),
        click.option(
            "--extra-body",
            "_language_extra_body",
            type=JsonObject(),
            metavar="JSON",
            help="""Members to add to each request to a server, such as '{"reasoning_effort": "low"}'.""",
        ),
    ]


def _price_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--price-in",
            "_language_price_in",
            type=float,
            metavar="PRICE",
            help="Price of a million prompt tokens, in any currency.",
        ),
        click.option(
            "--price-out", "_language_price_out", type=float, metavar="PRICE", help="Price of a million reply tokens."
        ),
        click.option(
            "--prices",
            "_language_prices",
            type=_FILE,
            metavar="FILE",
            help="YAML or JSON file with the prices by model: {MODEL: {in: 1, out: 4}}.",
        ),
        click.option(
            "--max-cost",
            "_language_max_cost",
            type=float,
            metavar="COST",
            help="Cost limit; the run stops before it exceeds it.",
        ),
        click.option(
            "--same-server",
            "_language_same_server",
            is_flag=True,
            help="Reuse only replies from this --base-url; by default those of the same model at any address.",
        ),
    ]


def _traffic_options() -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--concurrency",
            "_language_concurrency",
            metavar="N",
            type=click.IntRange(min=1),
            help="Maximum number of requests in flight; a slow server gets fewer.  [default: 16]",
        ),
        click.option(
            "--timeout",
            "_language_timeout",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds that a server may take for a reply.  [default: 300]",
        ),
        click.option(
            "--requests-per-minute",
            "_language_requests_per_minute",
            metavar="X",
            type=click.FloatRange(min=0, min_open=True),
            help="Maximum number of requests to a server per minute.",
        ),
        click.option(
            "--tokens-per-minute",
            "_language_tokens_per_minute",
            metavar="X",
            type=click.FloatRange(min=0, min_open=True),
            help="Maximum number of tokens to and from a server per minute.",
        ),
        click.option(
            "--poll-interval",
            "_language_poll_interval",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds between two checks of a batch.  [default: 30]",
        ),
        click.option(
            "--engine",
            "_language_engine",
            type=click.Choice(["local", "ray"]),
            help="With --backend vllm: spread the model over GPUs of this machine, or of a Ray cluster.  "
            "[default: local]",
        ),
        click.option(
            "--gpus",
            "_language_gpus",
            metavar="N",
            type=click.IntRange(min=1),
            help="With --backend vllm: number of GPUs that the model is split over.  [default: 1]",
        ),
    ]


def cost_text(cost: CostSummary) -> str:
    """What a run used or paid, and what is in the journal, on one line."""
    from abs_descriptions.generation.report import tokens_text

    verb = _verb(cost.prices)
    line = f"{verb}: {tokens_text(cost.paid, cost.prices)}"
    if not cost.saved.total:
        return line
    return f"{line}; in the journal, {verb} before: {tokens_text(cost.saved, cost.prices)}"


def estimate_text(estimate: CostEstimate) -> str:
    """What a dry run found."""
    from abs_descriptions.generation.report import tokens_text

    requests, prices = estimate.requests, estimate.prices
    lines = ["dry run: no request was sent, nothing was written"]
    if requests.reused:
        waits = f" ({requests.held} of the replies wait for others of their class)" if requests.held else ""
        lines.append(
            f"  from the journal: {requests.reused} replies, {requests.accepted} of {requests.wanted} descriptions"
            f"{waits}; {_verb(prices)} before: {tokens_text(requests.saved, prices)}"
        )
    billed = requests.billed_completion
    tokens_out = (
        f"tokens out are {billed} for a reply, as billed for those in the journal"
        if billed
        else "tokens out are the maximum, without reasoning that a server bills on top"
    )
    return "\n".join(
        [
            *lines,
            f"  to request: {requests.requests} requests, {tokens_text(requests.tokens, prices)}",
            f"  if every class needs all its tries: {requests.max_requests} requests, "
            f"{tokens_text(requests.max_tokens, prices)}",
            f"  tokens in are estimated: 1 for 4 bytes of text and 4 per message; {tokens_out}",
        ]
    )


def _verb(prices: Prices | None) -> str:
    """Nobody pays for a local model, and without prices nothing is said of paying."""
    return "used" if prices is None else "paid"
