"""Seeded sampling with ``generate`` of ``transformers``: one batch, one shared prefix, one seed a row.

``generate`` reads every prompt in full, runs a batch until its longest row ends and has one seed for all rows. Here

    - the tokens that all prompts begin with are read once: prompts with the same examples differ in their last words;
    - ``generate`` is called for a few tokens at a time, and rows that have ended leave the batch in between;
    - row r is sampled from its own seed, so its text does not depend on the other rows but for the rounding of sums.

A token is sampled from the nucleus (Holtzman et al. 2020) among the 128 likeliest by inverting the cumulative
distribution at a uniform random number. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Row", "SampledTokens", "sample_batch"]


_LIKELIEST = 128

# Rows that have ended are computed until the call returns, and each call copies the cache. Of 4, 8, 16 and no limit,
# 4 was the fastest: 17.2, 18.2, 20.0 and 31.1 processor seconds for 128 rows of SmolLM2-135M.
_TOKENS_A_CALL = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a batch and how to continue it.

    Args:
        prompt: token ids, at least one.
        max_tokens: at least 1.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability to sample from, in (0, 1].
        seed: None takes a random one.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Token ids without the stop token, and whether the model ended the row itself."""

    tokens: tuple[int, ...]
    stopped: bool


def sample_batch(
    model: Any, rows: Sequence[Row], stop_ids: frozenset[int], cancelled: Callable[[], bool] = lambda: False
) -> list[SampledTokens]:
    """Continue every row; rows that are unfinished when ``cancelled`` says so are returned as they are.

    Args:
        model: a ``transformers`` causal language model in evaluation mode, whose generation settings change no logits.
        rows: at least one.
        stop_ids: the tokens that end a row, at least one.
        cancelled: asked every few tokens.
    """
    import torch

    results = [SampledTokens((), False)] * len(rows)
    with torch.inference_mode():
        sequences, mask, cache = _read_shared_prefix(model, [row.prompt for row in rows], pad_id=min(stop_ids))
        width = sequences.shape[1]
        sampler = _RowSampler(rows, width, model.device)
        running = list(range(len(rows)))
        while running and not cancelled():
            sequences = model.generate(
                sequences,
                attention_mask=mask,
                logits_processor=[sampler],
                do_sample=False,
                max_new_tokens=min(_TOKENS_A_CALL, sampler.steps - (sequences.shape[1] - width)),
                eos_token_id=sorted(stop_ids),
                pad_token_id=min(stop_ids),
                **cache,
            )
            kept = []
            for place, tokens in enumerate(sequences[:, width:].tolist()):
                row = rows[running[place]]
                result = results[running[place]] = _cut(tokens[: row.max_tokens], stop_ids)
                if not result.stopped and len(result.tokens) < row.max_tokens:
                    kept.append(place)
            running = [running[place] for place in kept]
            index = torch.tensor(kept, dtype=torch.long, device=model.device)
            sequences = sequences[index]
            mask = torch.cat([mask[index], mask.new_ones(len(kept), sequences.shape[1] - mask.shape[1])], dim=1)
            sampler.select(index)
            for layers in cache.values():
                layers.batch_select_indices(index)
    return results


def _cut(tokens: list[int], stop_ids: frozenset[int]) -> SampledTokens:
    end = next((place for place, token in enumerate(tokens) if token in stop_ids), None)
    return SampledTokens(tuple(tokens[:end]), end is not None)


def _read_shared_prefix(
    model: Any, prompts: Sequence[tuple[int, ...]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Prompts [B,T] with their mask [B,T] and the cache of what all begin with, under the name the model has for it."""
    import torch
    from transformers import DynamicCache

    first, last = min(prompts), max(prompts)
    # Each row keeps at least one token to read.
    longest = min(map(len, prompts)) - 1
    shared = next((place for place in range(longest) if first[place] != last[place]), longest)
    # transformers renamed the argument in 5.24.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    cache = DynamicCache(config=model.config)
    if shared:
        model(input_ids=torch.tensor([first[:shared]], device=model.device), use_cache=True, **{name: cache})
        cache.batch_repeat_interleave(len(prompts))
    pads = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
    # Padded behind the shared prefix: the hole is masked and takes no position.
    ids = [prompt[:shared] + (pad_id,) * pad + prompt[shared:] for prompt, pad in zip(prompts, pads, strict=True)]
    mask = [[1] * shared + [0] * pad + [1] * (len(prompt) - shared) for prompt, pad in zip(prompts, pads, strict=True)]
    return torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device), {name: cache}


class _RowSampler:
    """A logits processor that makes one token a row certain, sampled with the row's parameters and random numbers."""

    def __init__(self, rows: Sequence[Row], width: int, device: Any) -> None:
        """``width``: tokens of a prompt with its padding."""
        import torch

        self.steps = max(row.max_tokens for row in rows)
        self._width = width
        self._temperature = torch.tensor([[row.temperature] for row in rows], device=device)
        self._top_p = torch.tensor([[row.top_p] for row in rows], device=device)
        self._uniforms = torch.stack([_random_numbers(row, self.steps) for row in rows]).to(device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores`` [B,V], changed in place, after ``input_ids`` [B,T]."""
        step = input_ids.shape[1] - self._width
        tokens = _sample(scores, self._temperature, self._top_p, self._uniforms[:, step : step + 1])
        return scores.scatter_(1, tokens[:, None], math.inf)

    def select(self, index: torch.Tensor) -> None:
        """Keep these rows only."""
        self._temperature, self._top_p = self._temperature[index], self._top_p[index]
        self._uniforms = self._uniforms[index]


def _random_numbers(row: Row, count: int) -> torch.Tensor:
    """Numbers in [0,1) as float32 [count] from the row's seed; zeros, the likeliest, at temperature 0."""
    import torch

    if row.temperature == 0:
        return torch.zeros(count)
    seed = row.seed if row.seed is not None else random.SystemRandom().getrandbits(31)
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _sample(logits: torch.Tensor, temperature: Any, top_p: Any, uniforms: Any) -> torch.Tensor:
    """Token ids [B] from logits [B,V] at uniforms [B,1]; the nucleus is the smallest set that holds ``top_p``."""
    scaled = logits / temperature.clamp(min=1e-4)
    likeliest, ids = scaled.topk(min(_LIKELIEST, scaled.shape[-1]))
    probability = (likeliest - scaled.logsumexp(-1, keepdim=True)).exp()
    before = probability.cumsum(-1) - probability
    inside = before < top_p
    reach = (probability * inside).cumsum(-1)
    chosen = (reach <= uniforms * reach[:, -1:]).sum(-1, keepdim=True)
    token: torch.Tensor = ids.gather(1, chosen.minimum(inside.sum(-1, keepdim=True) - 1))[:, 0]
    return token
