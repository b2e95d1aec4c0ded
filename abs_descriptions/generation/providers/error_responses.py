"""What an error of a server means: wait, ask again, give up this request, or end the run. Pure.

Statuses mean different things at different servers: 400, 403 and 429 are answered for a single prompt that a filter
does not like, for a wrong key and for credits that are gone. So codes and words count as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from abs_descriptions.generation.providers.base import (
    NO_ADAPTATION,
    Adaptation,
    Failure,
    FailureScope,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.error_words import error_codes, parse_json, server_words
from abs_descriptions.generation.providers.reset_times import reset_wait

__all__ = ["ResponseProblem", "classify_error_body", "classify_status", "is_quota_code", "resume_remedy"]


@dataclass(frozen=True, slots=True)
class ResponseProblem:
    """What is wrong with an answer, and what to do about it.

    Args:
        action: "again" retries, "give up" fails this request, "stop" ends the run.
        reason: short; contains nothing of the request.
        wait: seconds that the server asks to wait, or None.
        throttled: the server reported too many requests.
        remedy: what the user can do, if the run ends.
        status: the HTTP status; 0 if there was none.
        billed: the server may bill for it: it answered with a success, or its answer did not arrive.
        tokens: the tokens that the answer states; None if it states none.
        kind, scope, text: as of a ``Failure``.
        words: what the server said, not cut, and the codes that it gave.
        is_starved: the tokens that a reply may have were used up before its first word.
    """

    action: Literal["again", "give up", "stop"]
    reason: str
    wait: float | None = None
    throttled: bool = False
    remedy: str = ""
    status: int = 0
    billed: bool = False
    tokens: Tokens | None = None
    kind: str = ""
    scope: FailureScope = "unknown"
    text: str = ""
    words: str = ""
    is_starved: bool = False

    @property
    def is_outage(self) -> bool:
        """Whether the server gave no answer, or could not deal with any request."""
        return self.status >= 500 or self.kind in ("timeout", "connection")

    def lost(self, request: Request, adaptation: Adaptation = NO_ADAPTATION) -> Tokens:
        """The tokens of the attempt at ``request`` that had this problem; the maximum if they are not known."""
        if not self.billed:
            return Tokens()
        return max_tokens_per_attempt(request, adaptation) if self.tokens is None else self.tokens

    def failure(self, reason: str, lost: Tokens, adaptation: Adaptation = NO_ADAPTATION) -> Failure:
        """The failure of a request that is given up because of this problem."""
        return Failure(reason, lost, self.kind, self.scope, self.text, adaptation)


# Codes and types of error bodies for which neither waiting nor another request helps.
_QUOTA = frozenset(
    (
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded", "access_terminated",
        "insufficient_balance", "insufficient_credits", "insufficient_funds", "payment_required", "arrearage",
        "credit_balance_too_low", "exceeded_current_quota_error", "billing_error", "out_of_credits",
        "budget_exceeded",
    )
)  # fmt: skip
_KEY = frozenset(
    (
        "invalid_api_key", "incorrect_api_key", "api_key_invalid", "authentication_error", "invalid_authentication",
        "invalid_authentication_error", "unauthenticated", "unauthorized", "account_deactivated", "missing_api_key",
    )
)  # fmt: skip
_UNFIT = frozenset(
    ("invalid_model", "unsupported_parameter", "unsupported_value", "unknown_parameter", "unsupported_model")
)
_NO_MODEL = frozenset(("model_not_found", "model_not_available", "model_not_loaded", "deploymentnotfound"))
_MODERATED = frozenset(
    (
        "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content_policy",
        "data_inspection_failed", "datainspectionfailed", "moderation_blocked", "prohibited_content", "invalid_prompt",
        "content_filtered", "content_moderation", "moderation", "moderation_error", "safety", "guardrail_intervened",
        "unsafe_content", "sensitive_content", "1301", "input_moderation", "safety_check_failed", "image_safety",
    )
)  # fmt: skip

_MODERATED_WORDS = re.compile(
    r"\bflagged\b|moderation|content[ _-]?(?:policy|policies|filter|management|restriction)|usage (?:policy|policies|"
    r"guidelines)|safety (?:system|policy|policies|filter|check|guideline)|(?:inappropriate|unsafe|prohibited|harmful|"
    r"sensitive) (?:content|input|prompt)|responsible ai",
    re.IGNORECASE,
)
_QUOTA_WORDS = re.compile(
    r"insufficient[ _](?:credit|balance|quota|fund)|(?:not enough|out of|no (?:more )?|add (?:more )?) ?credits?\b|"
    r"(?:credit )?balance is (?:too low|insufficient|negative)|billing hard limit|exceeded your current quota|"
    r"payment required|spend(?:ing)? limit|never purchased credits|requires? more credits|"
    r"quota (?:is )?exhausted|budget (?:has been |is |was )?exceeded|"
    r"arrears",
    re.IGNORECASE,
)
_KEY_WORDS = re.compile(
    r"\b(?:api[ _-]?key|access[ _-]?token|token|credentials?)\b.{0,30}\b(?:not valid|invalid|incorrect|expired|"
    r"missing|revoked|disabled)|\b(?:invalid|incorrect|missing|expired|no) "
    r"(?:api[ _-]?key|access token|auth\w*|credentials)",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(
    r"\bno models? (?:is |are )?(?:loaded|available|found)|\bmodel\b.{0,120}\b(?:not found|does not exist|doesn't "
    r"exist|not exist|not loaded|not available|is unknown|not served|no longer (?:available|supported)|decommissioned|"
    r"deprecated and)|\b(?:unknown|invalid|unsupported|no such) model\b|not a valid model|multiple models|"
    r"the server is configured to serve only",
    re.IGNORECASE,
)
# Of subscriptions: an hour, a session, a week.
_USAGE_WORDS = re.compile(
    r"\b(?:session|hourly|weekly|usage) (?:usage )?limits?\b.{0,80}\b(?:upgrade|wait)\b", re.IGNORECASE
)
# In Qwen's words; its models think by default, and then reply only in streams.
_THINKING_WORDS = re.compile(r"enable_thinking must be (?:set to )?false", re.IGNORECASE)
_DAILY_WORDS = re.compile(
    r"per[ _-]?(?:day|week|month)\b|perday|permonth|\b(?:daily|weekly|monthly)\b|\b[rt]pd\b|free-models-per-day|"
    r"24[ -]hours?\b",
    re.IGNORECASE,
)

# 498 is the capacity of Groq's cheaper tier.
_RETRIED = frozenset((408, 409, 425, 429, 498))
# Of a limit of a day; servers give the wait for the next minute with it.
_MIN_DAILY_WAIT = 60.0


def classify_status(
    status: int, headers: Any, body: Any, host: str, secret: str | None = None, *, now: datetime | None = None
) -> ResponseProblem:
    """What an HTTP status outside 2xx means.

    Args:
        status: the code.
        headers: mapping with ``get`` and ``items``.
        body: the bytes of the answer, or the value of its JSON.
        host: the server, for messages.
        secret: the key; it is redacted if the server repeats it.
        now: with a time zone; by default the time of this machine.
    """
    now = now or datetime.now(UTC)
    if isinstance(body, bytes):
        try:
            body = parse_json(body)
        except (ValueError, RecursionError):
            body = body[:20_000].decode("utf-8", "replace")
    words = server_words(body, secret, 2000)
    said = server_words(body, secret)
    detail = f": {said}" if said else ""
    codes = error_codes(body)
    kind = " ".join([f"status {status}", *sorted(codes & (_UNFIT | _QUOTA | _KEY | _NO_MODEL))])
    common: dict[str, Any] = {"status": status, "kind": kind, "words": " ".join([words, *sorted(codes)])}
    if _is_moderated(status, codes, words, body):
        reason = f"the server's content filter refused the prompt (status {status}{detail})"
        return ResponseProblem("give up", reason, **{**common, "kind": "moderated", "scope": "prompt"})
    wait = reset_wait(headers, body, words, now) if status == 429 or status >= 500 or status in _RETRIED else None
    ends = _end_of_run(status, codes, words, host, detail, wait) or _daily_limit(
        status, codes, words, host, detail, wait, now
    )
    if ends is not None:
        return ResponseProblem("stop", ends[0], wait, remedy=ends[1], **{**common, "scope": "run"})
    if status in _RETRIED or status >= 500:
        return ResponseProblem("again", f"status {status}{detail}", wait, throttled=status == 429, **common)
    return ResponseProblem("give up", f"status {status}{detail}", **common)


def classify_error_body(body: dict[str, Any], host: str, secret: str | None = None) -> ResponseProblem:
    """What the body of an error that came with a success means: gateways have sent the status by then."""
    inner = body.get("error")
    code = inner.get("code") if isinstance(inner, dict) else None
    if isinstance(code, str) and code.isdigit() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return classify_status(code, {}, body, host, secret)
    problem = classify_status(200, {}, body, host, secret)
    if problem.action == "stop" or problem.scope == "prompt":
        return problem
    said = server_words(body, secret)
    reason = "the server answers with an error" + (f": {said}" if said else "")
    return ResponseProblem("again", reason, kind="an error in a success", words=problem.words)


def is_quota_code(codes: frozenset[str] | set[str]) -> bool:
    """Whether one of these error codes says that the quota is exhausted."""
    return bool(codes & _QUOTA)


def resume_remedy(wait: float | None, now: datetime | None = None) -> str:
    """What to do once a server asks for a pause of this many seconds that is too long to be waited for."""
    if not wait:
        return "Run the same command again later; it resumes from here"
    then = (now or datetime.now(UTC)) + timedelta(seconds=wait)
    return f"Run the same command again after {then:%Y-%m-%d %H:%M} UTC; it resumes from here"


def _is_moderated(status: int, codes: frozenset[str], words: str, body: Any) -> bool:
    if status == 451 or codes & _MODERATED:
        return status not in (401, 402, 404, 429)
    if status not in (200, 400, 403, 422, 500):
        return False
    inner = body.get("error", body) if isinstance(body, dict) else None
    metadata = inner.get("metadata") if isinstance(inner, dict) else None
    return bool(
        (isinstance(metadata, dict) and metadata.get("reasons") and status == 403) or _MODERATED_WORDS.search(words)
    )


def _end_of_run(
    status: int, codes: frozenset[str], words: str, host: str, detail: str, wait: float | None
) -> tuple[str, str] | None:
    """Reason and remedy if neither waiting nor another request helps."""
    # Google's servers speak of a quota where a minute's limit is meant, and say when to come back.
    has_quota_words = status in (200, 400, 402, 403, 412, 429) and wait is None and _QUOTA_WORDS.search(words)
    if status == 402 or is_quota_code(codes) or has_quota_words:
        return f"the quota at {host} is exhausted{detail}", "Add credit, or use another server"
    if status == 401 or (status in (200, 400, 403) and (codes & _KEY or _KEY_WORDS.search(words))):
        return f"{host} does not accept the key{detail}", "Check the key, and whether it is for this host"
    if codes & _NO_MODEL or (status in (200, 400, 422) and _MODEL_WORDS.search(words)):
        return f"{host} has no such model{detail}", "Check the model and the base URL"
    if status == 403:
        return f"{host} does not permit this{detail}", "Check the key's rights"
    if status == 404:
        return f"{host} has no such model or path{detail}", "Check the model and the base URL"
    if status == 400 and _THINKING_WORDS.search(words):
        reason = f"{host} cannot take such requests{detail}"
        return reason, "Turn reasoning off with --extra-body '{\"enable_thinking\": false}'"
    if codes & _UNFIT or status == 405:
        return f"{host} cannot take such requests{detail}", "Check the model and its parameters"
    if 300 <= status < 400:
        return f"{host} redirects elsewhere; the key is not sent there", "Give the base URL of the target"
    return None


def _daily_limit(
    status: int, codes: frozenset[str], words: str, host: str, detail: str, wait: float | None, now: datetime
) -> tuple[str, str] | None:
    """Reason and remedy for a limit of a day or longer, however soon the server takes single requests again."""
    if status == 429 and wait is None and _USAGE_WORDS.search(words):
        return f"the usage limit at {host} is reached{detail}", resume_remedy(None, now)
    if status != 429 or not (_DAILY_WORDS.search(words) or any(_DAILY_WORDS.search(code) for code in codes)):
        return None
    reason = f"the limit of {host} for a day or longer is used up{detail}"
    return reason, resume_remedy(wait if wait and wait > _MIN_DAILY_WAIT else None, now)
