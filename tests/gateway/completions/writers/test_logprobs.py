"""Log-probabilities of tokens that are not characters."""

from farebox.gateway.completions.writers.logprobs import legacy_logprobs, scored_prompt
from farebox.gateway.models.generation import PromptDetails, TokenLogprob
from farebox_engine.outputs import TokenAlternative

HALF = TokenAlternative(3, "\ufffd", b"\xf0", -0.1), TokenAlternative(4, "\ufffd", b"\xe2", -2.0)


def token(text: str, characters: int | None = None) -> TokenLogprob:
    count = len(text) if characters is None else characters
    return TokenLogprob(1, text, text.encode(), -0.1, HALF, characters=count)


def test_offsets_are_places_in_the_text() -> None:
    tokens = [
        token("Hi "),
        token("\ufffd", 0),
        token("\ufffd\ufffd", 1),
        token("<|sep|>", 0),
        token(" ok"),
        token("!"),
    ]
    assert legacy_logprobs(tokens, 10).text_offset == [10, 13, 13, 14, 14, 17]


def test_of_alternatives_with_one_text_the_best_is_told() -> None:
    assert legacy_logprobs([token("a")], 0).top_logprobs == [{"\ufffd": -0.1}]


def test_the_first_token_of_a_prompt_is_what_the_others_leave() -> None:
    prompt = PromptDetails("ab\U0001f600", (None, token("b"), token("\ufffd", 0), token("\ufffd", 1)))
    tokens = scored_prompt(prompt)
    assert tokens[0] == "a"
    assert legacy_logprobs(tokens, 0).text_offset == [0, 1, 2, 2]
