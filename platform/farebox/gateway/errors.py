"""What the gateway answers when a request cannot be run.

UnsupportedParameter   400  OpenAI defines it, it would change the result, Farebox cannot do it
UnsupportedByModel     400  the model that was asked for cannot do it; others may
ContextLengthExceeded  400  prompt and answer do not fit into the model's context
InvalidParameter       400  fields that contradict each other, or a value this model refuses
TooMuchWork            400  small fields that multiply to more than one request may ask for
GrammarStuck           400  the grammar asked for ran into its bounds or a dead end in mid-answer
NothingLeft            402  all of a balance or a spend cap is spent or reserved: told before the body is read
GenerationFailed       500  the engine failed; nothing, or only what was delivered, is billed
TooManyPending         429  more requests of one key, organization or address than may wait for admission
TooManyRefusals        429  more of a key's or an organization's requests were refused than may be
ShuttingDown           503  the server is draining
LeaseLost              503  the server was cut off for so long that another settled the request
"""

from uuid import UUID

from farebox.core.errors import BadRequest, FareboxError, InsufficientQuota, RateLimited, Unavailable
from farebox.metering.errors import LimitReached


class InvalidParameter(BadRequest):
    code = "invalid_value"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param=param)


class TooMuchWork(BadRequest):
    """`message` names the product, its bound, and how to stay within it."""

    code = "too_much_work"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param=param)


class UnsupportedParameter(BadRequest):
    code = "unsupported_parameter"

    def __init__(self, param: str, hint: str = "") -> None:
        super().__init__(
            f"Unsupported parameter: `{param}` is not supported by this server.{hint}", param=param
        )


class UnsupportedByModel(BadRequest):
    """`why` ends the sentence, after a colon."""

    code = "unsupported_parameter"

    def __init__(self, param: str, model: str, why: str) -> None:
        super().__init__(
            f"Unsupported parameter: the model `{model}` cannot do `{param}`: {why}", param=param
        )


class ContextLengthExceeded(BadRequest):
    """`limit`, `prompt_tokens` and `output_tokens` are counts of tokens; all are named to the client."""

    code = "context_length_exceeded"

    def __init__(self, limit: int, prompt_tokens: int, output_tokens: int | None, param: str) -> None:
        message = f"This model's maximum context length is {limit} tokens."
        if output_tokens is None:
            message += f" Your prompt has {prompt_tokens} tokens, which leaves none for the answer."
        else:
            message += (
                f" You requested {prompt_tokens + output_tokens} tokens"
                f" ({prompt_tokens} in the prompt, {output_tokens} for the answer)."
            )
        super().__init__(message, param=param)


class GrammarStuck(BadRequest):
    """`message` says what the grammar ran into and how to mend it; `param` is the field it came in."""

    code = "grammar_stuck"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param=param)


class GenerationFailed(FareboxError):
    code = "generation_failed"

    def __init__(self) -> None:
        super().__init__("The model failed while answering; please try again.")


class TooManyPending(LimitReached, RateLimited):
    """`limit` is `pending_requests` or `pending_bytes`, `scope` may be an `address`, too."""

    def __init__(self, limit: str, scope: str, scope_id: UUID | None = None) -> None:
        super().__init__(
            "Too many of your requests wait to be admitted; please send fewer at a time.",
            headers={"Retry-After": "1"},
        )
        self.limit = limit
        self.scope = scope
        self.scope_id = scope_id


class TooManyRefusals(LimitReached, RateLimited):
    """`limit` is `refused_requests_per_minute`, or `refused_seconds_per_minute`: what they cost.

    `seconds` are whole ones until a request will be looked at again.
    """

    def __init__(self, limit: str, scope: str, seconds: int, scope_id: UUID | None = None) -> None:
        super().__init__(
            "Too many of your requests were refused; please mend them, and try again more slowly.",
            headers={"Retry-After": str(seconds)},
        )
        self.limit = limit
        self.scope = scope
        self.scope_id = scope_id


class NothingLeft(LimitReached, InsufficientQuota):
    """`limit` is `balance` or `monthly_cap`. Said of any request, whatever it would have cost."""

    def __init__(self, limit: str, scope: str, scope_id: UUID) -> None:
        name, advice = "prepaid balance", "Add funds"
        if limit == "monthly_cap":
            name, advice = "monthly spend cap", "Raise the cap"
        super().__init__(
            f"Nothing is left of the {scope}'s {name}: it is spent, or reserved for requests under way."
            f" {advice}.",
            headers={"x-should-retry": "false"},
        )
        self.limit = limit
        self.scope = scope
        self.scope_id = scope_id


class ShuttingDown(Unavailable):
    def __init__(self) -> None:
        super().__init__("The server is shutting down; please try again.", retry_after_seconds=5)


class ModelLoading(Unavailable):
    def __init__(self, model_id: str) -> None:
        super().__init__(f"The model `{model_id}` is being loaded; please try again.", retry_after_seconds=2)


class LeaseLost(Unavailable):
    def __init__(self) -> None:
        super().__init__("The server lost touch with this request and ended it; please try again.")
