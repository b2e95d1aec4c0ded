"""Response validation: is a server's answer a reply, and if not, is it a reason to retry, give up or stop? Pure.

Works on the JSON of an answer, whatever the server says that it is, and checks every field of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from abs_core.text import printable
from abs_descriptions.generation.providers.base import (
    FinishReason,
    Reply,
    Tokens,
)
from abs_descriptions.generation.providers.error_responses import ResponseProblem, classify_error_body
from abs_descriptions.generation.providers.error_words import parse_json, redact, redact_words, server_words
from abs_descriptions.generation.reasoning import final_answer

__all__ = ["LIST_SCHEMA", "validate_body", "validate_completion"]

#: An object with one list of texts. Only keywords that both OpenAI's strict mode and vLLM support.
LIST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"descriptions": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 12}},
    "required": ["descriptions"],
    "additionalProperties": False,
}


# A larger count is not plausible; JSON numbers may exceed any float, and costs are floats.
_MAX_TOKEN_COUNT = 1 << 40

# What servers call a reply that was cut, moderated, refused or broken off, in lower case. Any other name, and none, is
# that of a reply that the model ended: eos, eos_token, STOP, end_turn, completed, tool_calls, null and so on.
_CUT = frozenset(
    ("length", "max_tokens", "max_length", "model_length", "max_output_tokens", "token_limit", "max_new_tokens",
     "model_context_window_exceeded", "limit", "incomplete")
)  # fmt: skip
_MODERATED = frozenset(
    ("content_filter", "content-filter", "contentfilter", "content_filtered", "safety", "recitation", "blocklist",
     "prohibited_content", "spii", "sensitive", "image_safety", "guardrail_intervened", "guardrails", "moderation",
     "blocked", "flagged")
)  # fmt: skip
_REFUSED = frozenset(("refusal", "refused"))
_BROKEN = frozenset(
    ("error", "abort", "aborted", "cancel", "cancelled", "canceled", "network_error", "timeout", "server_error",
     "insufficient_system_resource", "malformed_function_call", "internal_error", "interrupted", "disconnect", "failed")
)  # fmt: skip
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thought")


def validate_body(
    raw: bytes, host: str, secret: str | None = None, *, max_tokens: int = 0, charset: str | None = None
) -> Reply | ResponseProblem:
    """``validate_completion`` of the bytes that came with a success.

    Args:
        raw: JSON, with white space or a byte order mark around it, or a stream of events although none was requested.
        charset: of the headers, for text that is not UTF-8.
    """
    try:
        raw = _without_comments(raw)
        body = _assembled(raw) if raw[:6].startswith((b"data:", b"event:")) else parse_json(raw, charset)
    except (ValueError, RecursionError):
        said = server_words(raw, secret, 80) if raw.lstrip().startswith(b"<") else ""
        reason = f"the reply is not JSON but a page: {said}" if said else "the reply is not JSON"
        return ResponseProblem("again", reason, billed=True, kind="not JSON")
    return validate_completion(body, host, secret, max_tokens=max_tokens)


def validate_completion(
    body: Any, host: str, secret: str | None = None, *, max_tokens: int = 0
) -> Reply | ResponseProblem:
    """A reply from a chat completion, or what is wrong with it.

    Args:
        body: the JSON value of the answer.
        host: the server, for messages.
        secret: the key; it is redacted if the server repeats it.
        max_tokens: that the reply may have; a reply that has them all was cut off, whatever the server calls it.
    """
    usage = body.get("usage") if isinstance(body, dict) else None
    prompt, completion = _billed(usage if isinstance(usage, dict) else {})
    is_full = 0 < max_tokens <= (completion or 0)
    result = _validate_choices(body, host, secret, is_full)
    if isinstance(result, Reply):
        return replace(result, prompt_tokens=prompt or 0, completion_tokens=completion or 0)
    # No prompt is empty, but a completion may be.
    stated = Tokens(prompt, completion) if prompt and completion is not None else None
    return replace(result, billed=result.billed or stated is not None, tokens=stated)


def _validate_choices(body: Any, host: str, secret: str | None, is_full: bool) -> Reply | ResponseProblem:
    choices = body.get("choices") if isinstance(body, dict) else None
    if isinstance(body, dict) and body.get("error") and not choices:
        return classify_error_body(body, host, secret)
    if not isinstance(choices, list):
        said = server_words(body, secret, 80) if isinstance(body, dict) else ""
        reason = "the reply is not a chat completion" + (f": {said}" if said else "")
        return ResponseProblem("again", reason, billed=True, kind="no chat completion")
    if not choices:
        return ResponseProblem("again", "the reply has no choices", billed=True, kind="no choices")
    choice = _first(choices)
    if isinstance(choice.get("error"), dict):
        return classify_error_body(choice, host, secret)
    message = choice.get("message", choice.get("delta"))
    message = message if isinstance(message, dict) else {}
    content = message.get("content", choice.get("text"))
    return _validate_message(message, redact(_text(content), secret), _finish(choice), is_full, secret)


def _validate_message(
    message: Mapping[str, Any], text: str, finish: str, is_full: bool, secret: str | None
) -> Reply | ResponseProblem:
    refusal = message.get("refusal")
    if finish in _MODERATED:
        reason = "the server's content filter blocked the reply"
        return ResponseProblem("give up", reason, billed=True, kind="moderated", scope="prompt", text=text)
    if finish in _REFUSED or (isinstance(refusal, str) and refusal and not text.strip()):
        said = refusal if isinstance(refusal, str) and refusal else text
        reason = f"the model refused: {printable(redact_words(' '.join(said.split()), secret), 120)}"
        return ResponseProblem("give up", reason, billed=True, kind="refused", scope="prompt", text=text)
    is_cut = finish in _CUT or (is_full and finish != "stop")
    if finish in _BROKEN:
        reason = f"the reply ended with {printable(finish, 40)!r}"
        return ResponseProblem("again", reason, billed=True, kind=f"ended with {finish}"[:60], text=text)
    has_answer = bool(text.strip())
    if has_answer and is_cut:
        answer = final_answer(text, "length")
        has_answer = bool(answer.text.strip()) or not answer.has_reasoning
    if has_answer:
        reason_given: FinishReason = "length" if is_cut else "stop"
        return Reply(text, reason_given)
    return _no_answer(message, is_cut=is_cut, text=text)


def _no_answer(message: Mapping[str, Any], *, is_cut: bool, text: str) -> ResponseProblem:
    if is_cut:
        reason = "the reply was cut off before its first word; raise --max-tokens, or turn reasoning off"
        return ResponseProblem("give up", reason, billed=True, kind="starved", is_starved=True, text=text)
    if any(_has_words(message.get(name)) for name in _REASONING) or _has_words(_parts(message.get("content"), True)):
        reason = "the reply has reasoning and no answer"
        return ResponseProblem("again", reason, billed=True, kind="reasoning alone")
    if message.get("tool_calls") or message.get("function_call"):
        return ResponseProblem("again", "the reply calls a tool and has no text", billed=True, kind="a tool call")
    return ResponseProblem("again", "the reply is empty", billed=True, kind="empty")


def _first(choices: list[Any]) -> dict[str, Any]:
    """The choice with the index 0, else the first one; servers may list them in the order of their ends."""
    numbered = [choice for choice in choices if isinstance(choice, dict) and choice.get("index") == 0]
    choice = numbered[0] if numbered else choices[0]
    return choice if isinstance(choice, dict) else {}


def _finish(choice: Mapping[str, Any]) -> str:
    finish = choice.get("finish_reason", choice.get("stop_reason"))
    name = finish.strip().lower()[:60] if isinstance(finish, str) else ""
    # Google adds the reason: "content_filter: PROHIBITED_CONTENT".
    return name.removeprefix("finishreason.").removeprefix("finish_reason_").partition(":")[0].rstrip()


def _text(content: Any) -> str:
    """The text of a message: a text, or a list of parts of which those of text count."""
    if isinstance(content, str):
        return content
    return "".join(_parts(content, False))


def _parts(content: Any, reasoning: bool) -> list[str]:
    parts = content if isinstance(content, list) else [content]
    texts = list[str]()
    for part in parts:
        if isinstance(part, str) and isinstance(content, list) and not reasoning:
            texts.append(part)
        if not isinstance(part, dict):
            continue
        kind = part.get("type", "text")
        is_reasoning = part.get("thought") is True or kind in ("thinking", "reasoning", "redacted_thinking")
        text = part.get("text", part.get("thinking") if is_reasoning else None)
        text = text.get("value") if isinstance(text, dict) else text
        if is_reasoning == reasoning and (is_reasoning or kind in ("text", "output_text")):
            if isinstance(text, str):
                texts.append(text)
            elif reasoning:
                texts += _parts(text, False)
    return texts


def _has_words(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_words(item) for item in value[:100] if not isinstance(item, list))
    if isinstance(value, dict):
        return any(isinstance(item, str) and item.strip() for item in value.values())
    return isinstance(value, str) and bool(value.strip())


def _billed(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion as they are billed; None where the server does not state them.

    Some servers count the reasoning in the total alone, some in the details alone.
    """
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    details = usage.get("completion_tokens_details", usage.get("output_tokens_details"))
    reasoning = (_count(details, "reasoning_tokens") if isinstance(details, dict) else None) or 0
    if total is not None and prompt is not None and total >= prompt and (total or prompt):
        return prompt, max(completion or 0, total - prompt)
    if completion is not None and reasoning > completion:
        return prompt, completion + reasoning
    return prompt, completion


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    value = next((usage[name] for name in names if usage.get(name) is not None), None)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 14:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKEN_COUNT else None


def _without_comments(raw: bytes) -> bytes:
    """An answer without the lines by which servers keep a connection alive, before events and before JSON alike."""
    raw = raw.lstrip()
    while raw.startswith(b":"):
        raw = raw.partition(b"\n")[2].lstrip()
    return raw


def _assembled(raw: bytes) -> dict[str, Any]:
    """The completion of a stream of events.

    Raises:
        ValueError, RecursionError: an event that is not JSON.
    """
    text, finish, usage = list[str](), None, None
    for chunk in _events(raw):
        if chunk.get("error"):
            return chunk
        usage = chunk.get("usage") or usage
        choices = chunk.get("choices")
        choice = _first(choices) if isinstance(choices, list) and choices else {}
        part = choice.get("delta", choice.get("message"))
        text.append(_text(part.get("content")) if isinstance(part, dict) else "")
        finish = choice.get("finish_reason") or finish
    choice = {"index": 0, "message": {"content": "".join(text)}, "finish_reason": finish}
    return {"choices": [choice], "usage": usage}


def _events(raw: bytes) -> Iterator[dict[str, Any]]:
    for line in raw.splitlines():
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            event = parse_json(data)
            if isinstance(event, dict):
                yield event
