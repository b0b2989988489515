"""Answers in a form that the request names, from a model that would say anything."""

import asyncio
import json
import re
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel, Field

from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.engine.grammar.stuck_grammars import AMBIGUOUS, SLOW
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant, make_tenant

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "When does the ferry leave?"}]


class Departure(BaseModel, extra="forbid"):
    harbour: str = Field(max_length=8)
    hour: int = Field(ge=0, le=23)


async def test_the_clients_own_parsing_of_a_schema(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model="tiny", messages=MESSAGES, response_format=Departure, max_tokens=400, seed=3
    )
    departure = answer.choices[0].message.parsed
    assert isinstance(departure, Departure)
    assert answer.choices[0].finish_reason == "stop"


async def test_a_streamed_answer_obeys_too(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "departure", "schema": Departure.model_json_schema()},
        },
        max_tokens=400,
        seed=5,
        n=3,
        stream=True,
    )
    texts = ["", "", ""]
    async for event in stream:
        texts[event.choices[0].index] += event.choices[0].delta.content or ""
    for text in texts:
        Departure.model_validate_json(text)


async def test_any_object(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=30
    )
    assert (answer.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [
        ({"regex": r"[0-9]{2}:[0-9]{2}"}, r"[0-9]{2}:[0-9]{2}"),
        ({"choice": ["at nine", "never"]}, "at nine|never"),
        ({"grammar": 'start: "no"+ "."'}, r"(no)+\."),
        ({"json": {"enum": [1, 22]}}, "1|22"),
    ],
)
async def test_structured_outputs(client: AsyncOpenAI, asked: dict[str, Any], pattern: str) -> None:
    completion = await client.completions.create(
        model="tiny", prompt="The ferry leaves", max_tokens=300, extra_body={"structured_outputs": asked}
    )
    assert completion.choices[0].finish_reason == "length" or re.fullmatch(
        pattern, completion.choices[0].text
    )
    chat = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=300, extra_body={"structured_outputs": asked}
    )
    assert chat.choices[0].finish_reason == "length" or re.fullmatch(
        pattern, chat.choices[0].message.content or ""
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("structured_outputs", {}, "exactly one"),
        ("structured_outputs", {"regex": "a", "choice": ["b"]}, "exactly one"),
        ("structured_outputs", {"regex": "(?=a)"}, "look-around"),
        ("structured_outputs", {"grammar": "x" * 100_000}, "at most 65536"),
        ("structured_outputs", {"json": json.loads('{"items":' * 200 + "{}" + "}" * 200)}, "nested 201 deep"),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"uniqueItems": True}}},
            "uniqueItems",
        ),
        ("structured_outputs", {"json": {"minimum": 10**3_999}}, "number out of range"),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"minimum": 10**3_999}}},
            "number out of range",
        ),
        ("response_format", {"type": "json_schema", "json_schema": {"name": ""}}, "name"),
        ("response_format", {"type": "yaml"}, "yaml"),
    ],
)
async def test_what_cannot_be_enforced_is_a_400_that_names_it(
    http: httpx.AsyncClient, field: str, value: Any, reason: str
) -> None:
    response = await http.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": MESSAGES, field: value}
    )
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"].split(".")[0] == field
    assert reason in error["message"]


async def test_two_ways_of_saying_it_contradict_each_other(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send one of them"):
        await client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            response_format={"type": "json_object"},
            extra_body={"structured_outputs": {"regex": "a"}},
        )


STUCK: dict[str, Any] = {
    "model": "tiny",
    "messages": MESSAGES,
    "max_tokens": 60,
    "seed": 1,
    "extra_body": {"structured_outputs": {"grammar": AMBIGUOUS}},
}


async def test_a_grammar_that_takes_too_long_is_a_400_while_another_tenant_is_served(
    client: AsyncOpenAI, database: Database, keyring: Keyring
) -> None:
    other = await make_tenant(database, keyring, balance=Decimal(1))
    slow = [
        asyncio.create_task(
            client.chat.completions.create(
                model="tiny",
                messages=MESSAGES,
                extra_body={"structured_outputs": {"grammar": SLOW.replace("so", f"so {number}")}},
            )
        )
        for number in range(4)
    ]
    await client.with_options(api_key=other.api_key).chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=4,
        extra_body={"structured_outputs": {"regex": "[a-f]{9}"}},
    )
    assert sum(each.done() for each in slow) <= 2, "one may have been at it, one may have gone before"
    for found in await asyncio.gather(*slow, return_exceptions=True):
        assert isinstance(found, openai.BadRequestError)
        assert found.param == "structured_outputs"
        assert "takes too long to compile" in found.message


async def test_a_whole_answer_whose_grammar_gets_stuck_is_a_400_and_costs_nothing(
    client: AsyncOpenAI, server: RunningServer, database: Database, tenant: Tenant
) -> None:
    beside = asyncio.create_task(
        client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=20)
    )
    with pytest.raises(openai.BadRequestError, match="as one terminal each") as refused:
        await client.chat.completions.create(**STUCK, n=2)
    assert (refused.value.code, refused.value.param) == ("grammar_stuck", "structured_outputs")
    assert refused.value.type == "invalid_request_error"
    assert (await beside).usage is not None
    books = await read_books(database, tenant.organization_id)
    assert [event.status for event in books.events] == ["completed"], "the one beside it"
    assert not books.holds
    served = server.gateway.catalog.find("tiny")
    assert served is not None
    assert served.generator.stats().failed_steps == 0


async def test_a_stream_whose_grammar_gets_stuck_ends_with_an_error_and_costs_what_came(
    client: AsyncOpenAI, database: Database, tenant: Tenant
) -> None:
    said: list[str] = []

    async def read() -> None:
        async for event in await client.chat.completions.create(**STUCK, stream=True):
            said.append(event.choices[0].delta.content or "")

    with pytest.raises(openai.APIError, match="too ambiguous") as broken:
        await read()
    text = "".join(said)
    assert (broken.value.code, broken.value.param) == ("grammar_stuck", "structured_outputs")
    assert text[:4] == "so: "[: len(text)]
    books = await read_books(database, tenant.organization_id)
    assert not books.holds
    (event,) = books.events
    assert (event.status, event.output_tokens > 0) == ("failed", True)
    assert event.output_tokens <= len(text)
