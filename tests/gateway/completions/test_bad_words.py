"""Words that an answer must not hold, through both endpoints, in the company of answers that may."""

import asyncio
from typing import Any

import httpx
import pytest

from farebox.core.database import Database
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

PROMPT = "The ferry leaves"
ASKED: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "temperature": 0}
# Tokens that end an answer or that have no text.
NO_CONTROLS = dict.fromkeys(map(str, range(5)), -100)


@pytest.fixture
def zeros(server: RunningServer) -> dict[str, Any]:
    """The wish for an answer of nothing but zeros."""
    model = server.gateway.catalog.find("tiny")
    assert model is not None
    [zero] = model.generator.encode("0")
    return {"logit_bias": NO_CONTROLS | {str(zero): 100}}


async def completed(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/v1/completions", json=ASKED | fields)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


async def test_a_phrase_never_comes_but_its_parts_do(http: httpx.AsyncClient, zeros: dict[str, Any]) -> None:
    assert (await completed(http, **zeros))["text"] == "0" * 40
    for extra in ({}, {"temperature": 1.0, "seed": 4}, {"temperature": 1.0, "top_p": 0.9, "seed": 5}):
        text = (await completed(http, **zeros, **extra, bad_words=["00"]))["text"]
        assert "00" not in text
        assert text.count("0") > 10
    chat = await http.post(
        "/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40}
        | {"temperature": 0, "bad_words": [" 00", "unheard of"]}
        | zeros,
    )
    text = chat.json()["choices"][0]["message"]["content"]
    assert "00" not in text
    assert text.count("0") > 10


async def test_words_are_kept_out_of_one_answer_and_of_no_other(http: httpx.AsyncClient) -> None:
    """At once, sampled with a seed, and with log-probabilities, so that each token is seen."""
    free: dict[str, Any] = {"temperature": 1.0, "seed": 6, "logprobs": 0, "max_tokens": 120}
    free["logit_bias"] = NO_CONTROLS
    alone = await completed(http, **free)
    said = {token.strip() for token in alone["logprobs"]["tokens"]}
    words = sorted(word for word in said if word.isascii() and word.isalnum())
    assert len(words) > 5
    beside, bound, again = await asyncio.gather(
        completed(http, **free),
        completed(http, **free, bad_words=words),
        completed(http, **free, bad_words=words),
    )
    assert beside["text"] == alone["text"]
    assert again["text"] == bound["text"] != alone["text"]
    assert not {token.strip() for token in bound["logprobs"]["tokens"]} & set(words)


async def test_an_answer_that_has_no_way_on_ends_there(
    http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    """The form is `a0` or `a00`; that it may not end before five tokens excludes both."""
    wish = {"structured_outputs": {"regex": "a00?"}, "bad_words": ["00"], "min_tokens": 5, "logprobs": 0}
    whole = await completed(http, **wish)
    streamed = await http.post("/v1/completions", json=ASKED | wish | {"stream": True})
    assert (whole["text"], whole["finish_reason"]) == ("a0", "content_filter")
    assert whole["logprobs"]["tokens"] == ["a", "0"]
    assert '"finish_reason":"content_filter"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    beginning = await completed(http, structured_outputs={"choice": ["0", "a"]}, bad_words=["0", "a"])
    assert (beginning["text"], beginning["finish_reason"]) == ("", "content_filter")
    events = (await read_books(database, tenant.organization_id)).events
    assert sorted((event.status, event.output_tokens) for event in events) == [
        ("completed", 0),
        ("completed", 2),
        ("completed", 2),
    ]
