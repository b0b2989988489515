"""Parameters of sampling: what is kept of them for the next request, and what is not."""

from typing import Any

import msgspec
import pytest

from farebox.gateway.completions.jobs.sampling import sampling_params
from farebox.gateway.completions.requests import CompletionRequest
from farebox.gateway.models.generation import GenerationDefaults, SamplingParams


def params(**fields: Any) -> SamplingParams:
    request = msgspec.convert({"model": "m", "prompt": "a", **fields}, type=CompletionRequest)
    bad_words = ((7, 8),) if request.bad_words else ()
    return sampling_params(request, 16, GenerationDefaults(), bad_words)


def test_parameters_that_are_numbers_are_made_once() -> None:
    asked = {"temperature": 0.25, "top_p": 0.5, "seed": 3}
    assert params(**asked) is params(**asked)
    assert params(stop=[], **asked) is params(**asked)


@pytest.mark.parametrize("field", [{"stop": "end"}, {"bad_words": ["tram"]}, {"logit_bias": {"5": 1.0}}])
def test_no_text_and_no_list_of_a_request_is_kept_for_the_next(field: dict[str, Any]) -> None:
    first, second = params(**field), params(**field)
    assert first == second
    assert first is not second
