"""A model's `generation_config.json` fills in what a request leaves out."""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.billing.offers import remove_model
from farebox.core.database import Database
from farebox.core.ids import new_id
from tests.gateway.conftest import CONTEXT_LENGTH, offer
from tests.gateway.servers import RunningServer

# Forbidding the special tokens makes every answer as long as it may be.
ENDLESS = {str(token): -100 for token in range(5)}
BODY = {"prompt": "The ferry leaves the harbour", "logit_bias": ENDLESS, "seed": 3}

OfferWith = Callable[..., Awaitable[str]]


@pytest.fixture
async def offer_with(
    server: RunningServer, database: Database, checkpoint: Path, tmp_path: Path
) -> AsyncIterator[OfferWith]:
    """Offers the tiny model with the given generation_config.json; answers with its name."""
    names: list[str] = []

    async def offer_with(**config: Any) -> str:
        name = f"tiny-{new_id().hex}"
        folder = shutil.copytree(checkpoint, tmp_path / name)
        (folder / "generation_config.json").write_text(json.dumps(config))
        await offer(database, name, folder)
        names.append(name)
        await server.call(server.gateway.catalog.refresh)
        return name

    yield offer_with
    # Each has a cache of its own in memory.
    async with database.meter_transaction() as session:
        for name in names:
            await remove_model(session, name)
    await server.call(server.gateway.catalog.refresh)


async def complete(http: httpx.AsyncClient, model: str, **parameters: Any) -> dict[str, Any]:
    answer = await http.post("/v1/completions", json={**BODY, "model": model, **parameters})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def text(http: httpx.AsyncClient, model: str, **parameters: Any) -> str:
    document = await complete(http, model, max_tokens=24, **parameters)
    return str(document["choices"][0]["text"])


async def test_do_sample_false_is_greedy(
    http: httpx.AsyncClient, offer_with: OfferWith, offered: str
) -> None:
    model = await offer_with(do_sample=False, temperature=0.9)
    greedy = await text(http, offered, temperature=0)
    assert await text(http, model) == greedy
    assert await text(http, model, seed=4) == greedy
    assert await text(http, offered) != greedy, "where the file is silent, OpenAI's temperature holds: 1"
    assert await text(http, model, temperature=1) == await text(http, offered), "what is asked for wins"


@pytest.mark.parametrize(
    ("config", "same"),
    [
        ({"temperature": 0.4}, {"temperature": 0.4}),
        ({"top_p": 0.3}, {"top_p": 0.3}),
        ({"top_k": 2}, {"top_k": 2}),
        ({"min_p": 0.4}, {"min_p": 0.4}),
        ({"repetition_penalty": 3.0}, {"repetition_penalty": 3.0}),
        ({"temperature": 0.5, "top_k": 5, "do_sample": True}, {"temperature": 0.5, "top_k": 5}),
    ],
)
async def test_each_value_is_the_default_of_its_parameter(
    config: dict[str, Any],
    same: dict[str, Any],
    http: httpx.AsyncClient,
    offer_with: OfferWith,
    offered: str,
) -> None:
    model = await offer_with(**config)
    plain = await text(http, offered)
    by_default = await text(http, model)
    assert by_default == await text(http, offered, **same)
    assert by_default != plain
    off = {"temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}
    assert await text(http, model, **off) == plain, "a request overrides every one of them"


async def test_max_new_tokens_only_lowers(http: httpx.AsyncClient, offer_with: OfferWith) -> None:
    short = await offer_with(max_new_tokens=7)
    assert (await complete(http, short))["usage"]["completion_tokens"] == 7
    assert (await complete(http, short, max_tokens=9))["usage"]["completion_tokens"] == 9
    generous = await offer_with(max_new_tokens=1_000_000)
    assert (await complete(http, generous))["usage"]["completion_tokens"] == 16
    answer = await complete(http, generous, prompt=[5] * (CONTEXT_LENGTH - 10))
    assert answer["usage"]["completion_tokens"] == 10, "what the context has room for"


async def test_chats_have_the_same_defaults(http: httpx.AsyncClient, offer_with: OfferWith) -> None:
    model = await offer_with(do_sample=False, max_new_tokens=6)
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "logit_bias": ENDLESS}
    answers = [(await http.post("/v1/chat/completions", json=body)).json() for _ in range(2)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"]["completion_tokens"] == 6


async def test_a_file_that_cannot_be_is_told_of_in_readyz_without_its_place(
    http: httpx.AsyncClient, offer_with: OfferWith, tmp_path: Path
) -> None:
    model = await offer_with(temperature="hot")
    readiness = (await http.get("/readyz")).json()
    reason = readiness["failed_models"][model]
    assert reason.startswith(
        f"{model} cannot be loaded: generation_config.json: temperature must be a number"
    )
    assert str(tmp_path) not in reason
    assert (await http.post("/v1/completions", json={**BODY, "model": model})).status_code == 404
