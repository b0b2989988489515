"""What the fields of a request multiply to, bounded before any of it is done."""

from farebox.gateway.completions.requests import MAX_PROMPTS, CompletionRequest, Sampling
from farebox.gateway.errors import TooMuchWork

# All prompts may have one answer each; a single prompt may have as many as `n` can say.
MAX_ANSWERS = MAX_PROMPTS

# Of an answer that is sent whole. At 100 bytes each they make a document of 25 MB.
MAX_SCORES = 250_000


def check_answers(request: Sampling) -> None:
    """Raises TooMuchWork where prompts times `n` are more than MAX_ANSWERS."""
    prompts, n = _prompts(request), request.n or 1
    if prompts * n > MAX_ANSWERS:
        raise TooMuchWork(
            f"{prompts} prompts times n={n} are {prompts * n} answers, of at most {MAX_ANSWERS} in one"
            " request. Send fewer prompts, or lower `n`.",
            "prompt" if prompts > MAX_PROMPTS else "n",
        )


def tokens_with_scores(answers: int, top: int) -> int:
    """How many tokens each of `answers` may have, with the log-probabilities of it and `top` others each."""
    return MAX_SCORES // (answers * (1 + top))


def check_scores(answers: int, tokens: int, top: int) -> None:
    """Raises TooMuchWork where a whole answer would hold more than MAX_SCORES log-probabilities.

    `tokens` of each of `answers` get one, and `top` others beside it.
    """
    scores = answers * tokens * (1 + top)
    if scores > MAX_SCORES:
        raise TooMuchWork(
            f"{answers} answers of up to {tokens} tokens with {1 + top} log-probabilities each are {scores},"
            f" of at most {MAX_SCORES} in one answer. Lower `max_tokens`, `n` or the log-probabilities,"
            " or stream.",
            "logprobs",
        )


def _prompts(request: Sampling) -> int:
    if not isinstance(request, CompletionRequest) or isinstance(request.prompt, str):
        return 1
    # One prompt of token ids looks like a list of prompts.
    return 1 if isinstance(request.prompt[0], int) else len(request.prompt)
