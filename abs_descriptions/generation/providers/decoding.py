"""Drawing tokens from a causal language model: one batch, one shared prefix, one seed a row.

Why not ``generate``: there a batch runs until its longest row ends, every prompt is read anew although a prompt set
with examples differs only in its last words, and one seed serves a whole batch. Here

    - what all prompts of the batch begin with is read once, and so is a prompt that several rows share;
    - a row leaves the batch when it ends;
    - row r draws from its own seed, so its text does not depend on the other rows but for the rounding of sums.

A token is drawn from the nucleus (Holtzman et al. 2020) among the 128 likeliest by inverting the cumulative
distribution at a uniform number. Shapes: B rows, T suffix tokens, V vocabulary, K = 128.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abs_descriptions.generation.providers.growing_cache import growing_cache

if TYPE_CHECKING:
    import torch

__all__ = ["DecodedText", "Decoder", "DecodingRow"]


_LIKELIEST = 128


# Taking rows out copies the cache, so ended rows are carried along until they are one in so many.
_COMPACT_AT = 8


@dataclass(frozen=True, slots=True)
class DecodingRow:
    """What one row of a batch starts from.

    Args:
        prompt: token ids, at least one.
        max_tokens: at least 1.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability that is drawn from, in (0, 1].
        seed: None draws one.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class DecodedText:
    """Token ids without the stop token, and whether the model ended the row itself."""

    tokens: tuple[int, ...]
    stopped: bool


class Decoder:
    """Draws batches from a ``transformers`` causal language model.

    Args:
        model: in evaluation mode.
        stop_ids: the tokens that end a row.
        pad_id: any token id; padding is masked.
    """

    def __init__(self, model: Any, stop_ids: frozenset[int], pad_id: int) -> None:
        self._model = model
        self._stop_ids = stop_ids
        self._pad_id = pad_id

    def decode(self, rows: Sequence[DecodingRow], cancelled: Callable[[], bool] = lambda: False) -> list[DecodedText]:
        """Draw every row; rows that are unfinished when ``cancelled`` says so come back as they are."""
        import torch

        with torch.inference_mode():
            return _Batch(self._model, rows, self._stop_ids, self._pad_id).run(cancelled)


class _Batch:
    """The state of one batch. Its tensors hold the rows that are still computed; ``places`` says which they are."""

    def __init__(self, model: Any, rows: Sequence[DecodingRow], stop_ids: frozenset[int], pad_id: int) -> None:
        import torch

        self._model, self._stop_ids, self._pad_id, self._rows = model, stop_ids, pad_id, rows
        self._tokens: list[list[int]] = [[] for _ in rows]
        self._stopped = [False] * len(rows)
        self._ended = [False] * len(rows)
        self._places = list(range(len(rows)))
        device = model.device
        self._cache = growing_cache(model.config, max(row.max_tokens for row in rows))
        self._cache_argument = _cache_argument(model)
        self._temperature = torch.tensor([[row.temperature] for row in rows], device=device)
        self._top_p = torch.tensor([[row.top_p] for row in rows], device=device)
        self._uniforms = _uniforms(rows).to(device)

    def run(self, cancelled: Callable[[], bool]) -> list[DecodedText]:
        logits = self._read_prompts()
        for step in range(max(row.max_tokens for row in self._rows)):
            drawn = _draw(logits, self._temperature, self._top_p, self._uniforms[:, step : step + 1])
            self._take(drawn.tolist())
            if all(self._ended) or cancelled():
                break
            logits = self._forward(self._advance(drawn), self._mask, self._positions)
        return [
            DecodedText(tuple(tokens), stopped) for tokens, stopped in zip(self._tokens, self._stopped, strict=True)
        ]

    def _read_prompts(self) -> torch.Tensor:
        """Read what all prompts share, then the rest of each different prompt; the logits [B,V] of all rows."""
        import torch

        device = self._model.device
        prompts = sorted({row.prompt for row in self._rows})
        shared = _shared_prefix(prompts)
        if shared:
            self._forward(torch.tensor([prompts[0][:shared]], device=device))
            self._cache.batch_repeat_interleave(len(prompts))
        suffixes = [prompt[shared:] for prompt in prompts]
        width = max(map(len, suffixes))
        pads = [width - len(suffix) for suffix in suffixes]
        # Left-padded behind the shared prefix: the hole is masked and takes no position.
        ids = [[self._pad_id] * pad + list(suffix) for pad, suffix in zip(pads, suffixes, strict=True)]
        mask = torch.tensor([[1] * shared + [0] * pad + [1] * (width - pad) for pad in pads], device=device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self._forward(torch.tensor(ids, device=device), mask, positions[:, shared:])
        index = torch.tensor([prompts.index(row.prompt) for row in self._rows], device=device)
        self._cache.batch_select_indices(index)
        self._mask, self._positions = mask[index], positions[index, -1:]
        return logits[index]

    def _forward(self, ids: Any, mask: Any = None, positions: Any = None) -> torch.Tensor:
        """Read ``ids`` [B,T] after what the cache holds; the logits [B,V] of the next token in float32."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self._cache},
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _take(self, drawn: list[int]) -> None:
        """File the drawn tokens of the rows that have not ended."""
        for row, token in zip(self._places, drawn, strict=True):
            if self._ended[row]:
                continue
            if token in self._stop_ids:
                self._stopped[row] = self._ended[row] = True
                continue
            self._tokens[row].append(token)
            self._ended[row] = len(self._tokens[row]) == self._rows[row].max_tokens

    def _advance(self, drawn: torch.Tensor) -> torch.Tensor:
        """Set up the next step, without the rows that have ended if they are many; its token ids [B,1]."""
        import torch

        kept = [place for place, row in enumerate(self._places) if not self._ended[row]]
        if len(self._places) - len(kept) >= max(1, len(self._places) // _COMPACT_AT):
            index = torch.tensor(kept, device=drawn.device)
            self._cache.batch_select_indices(index)
            self._places = [self._places[place] for place in kept]
            drawn, self._mask, self._positions = drawn[index], self._mask[index], self._positions[index]
            self._uniforms, self._temperature = self._uniforms[index], self._temperature[index]
            self._top_p = self._top_p[index]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(drawn), 1)], dim=1)
        self._positions = self._positions + 1
        return drawn[:, None]


def _cache_argument(model: Any) -> str:
    """What a model's forward pass calls its cache: transformers renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with; each keeps at least one token of its own."""
    first, last = min(prompts), max(prompts)
    longest = min(map(len, prompts)) - 1
    return next((at for at in range(longest) if first[at] != last[at]), longest)


def _uniforms(rows: Sequence[DecodingRow]) -> torch.Tensor:
    """Numbers in [0,1) as float32 [B, max_tokens], each row from its seed; zeros, the likeliest, at temperature 0."""
    import torch

    steps = max(row.max_tokens for row in rows)
    table = torch.zeros(len(rows), steps)
    for place, row in enumerate(rows):
        if row.temperature > 0:
            seed = row.seed if row.seed is not None else random.SystemRandom().getrandbits(31)
            table[place] = torch.rand(steps, generator=torch.Generator().manual_seed(seed))
    return table


def _draw(logits: torch.Tensor, temperature: Any, top_p: Any, uniforms: Any) -> torch.Tensor:
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
