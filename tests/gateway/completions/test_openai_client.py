"""The official `openai` package is the judge of the shapes: its typed client must work unchanged."""

import asyncio
from decimal import Decimal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam

from farebox.core.database import Database
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "When does the ferry leave?"}]
END = "0"  # the end token's id in the tiny vocabulary
NO_END = {END: -100}


async def test_chat_completion(client: AsyncOpenAI, database: Database, tenant: Tenant) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=12, seed=1, user="u-1", logit_bias=NO_END
    )
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "tiny"
    [choice] = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "length")
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("fp_")
    await assert_billed(database, tenant, answer.usage)


async def test_streamed_chat_says_the_same(client: AsyncOpenAI, database: Database, tenant: Tenant) -> None:
    whole = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=20, seed=7, logit_bias=NO_END
    )
    stream = await client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=20,
        seed=7,
        logit_bias=NO_END,
        stream=True,
        stream_options={"include_usage": True},
    )
    events = [event async for event in stream]
    first, *middle, last = events
    assert first.choices[0].delta.role == "assistant"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 20
    assert all(event.usage is None for event in (first, *middle))
    assert len({event.id for event in events}) == 1
    text = "".join(event.choices[0].delta.content or "" for event in (first, *middle))
    assert text == whole.choices[0].message.content
    assert [e.choices[0].finish_reason for e in middle if e.choices[0].finish_reason] == ["length"]
    books = await read_books(database, tenant.organization_id)
    assert [event.output_tokens for event in books.events] == [20, 20]
    assert not books.holds


async def test_stream_without_usage_has_no_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=3, stream=True)
    events = [event async for event in stream]
    assert all(event.usage is None and event.choices for event in events)


def test_sync_client(server: RunningServer, tenant: Tenant) -> None:
    with OpenAI(base_url=f"{server.url}/v1", api_key=tenant.api_key, max_retries=0) as client:
        answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=4)
        assert answer.choices[0].message.content is not None
        with client.chat.completions.create(
            model="tiny", messages=MESSAGES, max_tokens=4, stream=True
        ) as stream:
            assert [event.choices[0].finish_reason for event in stream][-1] in ("length", "stop")
        completion = client.completions.create(model="tiny", prompt="The ferry", max_tokens=4)
        assert completion.choices[0].text is not None
        assert "tiny" in [model.id for model in client.models.list()]
        model = client.models.retrieve("tiny")
        assert model.owned_by == "tests"
        price = {"input": "1.00", "cached_input": "0.50", "output": "2.00", "item": "0.00"}
        assert model.model_extra == {
            "kind": "generation",
            "context_length": 2048,
            "price": {f"{name}_per_million": amount for name, amount in price.items()}
            | {"currency": "USD", "scheme": "flat", "package_tokens": None, "tiers": []},
        }


async def test_several_choices_differ_and_the_prompt_is_billed_once(
    client: AsyncOpenAI, database: Database, tenant: Tenant
) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_completion_tokens=16, n=3, seed=5, logit_bias=NO_END
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 48
    single = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=1)
    assert single.usage is not None
    assert answer.usage.prompt_tokens == single.usage.prompt_tokens


async def test_streamed_choices_interleave(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=10, n=3, seed=5, logit_bias=NO_END, stream=True
    )
    texts = {0: "", 1: "", 2: ""}
    roles: list[int] = []
    ended: list[int] = []
    async for event in stream:
        for choice in event.choices:
            if choice.delta.role:
                roles.append(choice.index)
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ended.append(choice.index)
    assert sorted(roles) == sorted(ended) == [0, 1, 2]
    whole = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=10, n=3, seed=5, logit_bias=NO_END
    )
    assert list(texts.values()) == [choice.message.content for choice in whole.choices]


async def test_chat_logprobs(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3,
        logit_bias=NO_END,
    )  # fmt: skip
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 5
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0
        assert token.bytes is not None
    spelled = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content)
    assert spelled.decode(errors="replace").startswith(choice.message.content or "-")
    stream = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=5, temperature=0, logprobs=True, stream=True,
        logit_bias=NO_END,
    )  # fmt: skip
    streamed = [
        token.token
        async for event in stream
        if event.choices[0].logprobs
        for token in event.choices[0].logprobs.content or []
    ]
    assert streamed == [token.token for token in choice.logprobs.content]


async def test_stop_string_is_not_shown(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=40, temperature=0, logit_bias=NO_END
    )
    text = whole.choices[0].message.content or ""
    stop = text[10:14]
    answer = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=40, temperature=0, logit_bias=NO_END, stop=[stop]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == text[: text.index(stop)]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("The ferry", 1),
        (["The ferry", "Der Zug"], 2),
        ([60, 61, 62], 1),
        ([[60, 61, 62], [70, 71]], 2),
    ],
)
async def test_completion_prompts(
    client: AsyncOpenAI, prompt: "str | list[str] | list[int] | list[list[int]]", prompts: int
) -> None:
    answer = await client.completions.create(
        model="tiny", prompt=prompt, max_tokens=3, n=2, logit_bias=NO_END
    )
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert [choice.index for choice in answer.choices] == list(range(2 * prompts))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6 * prompts
    stream = await client.completions.create(
        model="tiny", prompt=prompt, max_tokens=3, logit_bias=NO_END, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    events = [event async for event in stream]
    assert {choice.index for event in events for choice in event.choices} == set(range(prompts))
    assert events[-1].choices == []
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 3 * prompts


async def test_completion_logprobs(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="tiny", prompt="The ferry", max_tokens=4, temperature=0, logprobs=2, logit_bias=NO_END
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.top_logprobs is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 4
    assert all(len(top) <= 2 for top in logprobs.top_logprobs)
    assert logprobs.text_offset is not None
    assert logprobs.text_offset[0] == 0


async def test_headers(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="tiny", messages=MESSAGES, max_tokens=2
    )
    headers = raw.headers
    assert headers["x-request-id"].startswith("req_")
    assert int(headers["openai-processing-ms"]) >= 0
    for kind in ("requests", "tokens"):
        assert int(headers[f"x-ratelimit-limit-{kind}"]) > 0
        assert int(headers[f"x-ratelimit-remaining-{kind}"]) > 0
        assert headers[f"x-ratelimit-reset-{kind}"].endswith("s")
    assert raw.parse().id.removeprefix("chatcmpl-") == headers["x-request-id"].removeprefix("req_")


async def test_many_at_once(client: AsyncOpenAI, database: Database, tenant: Tenant) -> None:
    answers = await asyncio.gather(
        *(
            client.chat.completions.create(
                model="tiny", messages=MESSAGES, max_tokens=8, seed=seed, logit_bias=NO_END
            )
            for seed in range(24)
        )
    )
    assert all(answer.usage and answer.usage.completion_tokens == 8 for answer in answers)
    books = await read_books(database, tenant.organization_id)
    assert len(books.events) == 24
    assert not books.holds


async def test_errors_are_typed(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        await client.chat.completions.create(model="absent", messages=MESSAGES)
    assert not_found.value.code == "model_not_found"
    assert not_found.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=10**6)
    assert bad.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="fb_live_nonsense").models.list()
    assert unknown.value.code == "invalid_api_key"


async def assert_billed(database: Database, tenant: Tenant, usage: openai.types.CompletionUsage) -> None:
    """One event, with the very tokens that the client was told, at the price on offer."""
    books = await read_books(database, tenant.organization_id)
    [event] = books.events
    assert event.status == "completed"
    assert event.input_tokens + event.cached_input_tokens == usage.prompt_tokens
    assert usage.prompt_tokens_details is not None
    assert event.cached_input_tokens == usage.prompt_tokens_details.cached_tokens
    assert event.output_tokens == usage.completion_tokens
    cents = event.input_tokens + event.cached_input_tokens * Decimal("0.5") + event.output_tokens * 2
    assert event.amount == cents / Decimal(1_000_000)
    assert not books.holds


async def test_echo_repeats_the_prompt_with_its_log_probabilities(
    client: AsyncOpenAI, database: Database, tenant: Tenant
) -> None:
    prompt = "The ferry leaves the harbour at nine."
    only = await client.completions.create(
        model="tiny", prompt=prompt, echo=True, max_tokens=0, logprobs=2, temperature=0
    )
    [choice] = only.choices
    assert (choice.text, choice.finish_reason) == (prompt, "length")
    assert only.usage is not None
    assert only.usage.completion_tokens == 0
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == prompt
    first, *rest = choice.logprobs.token_logprobs or []
    assert first is None
    assert all(value is not None and value <= 0 for value in rest)
    stream = await client.completions.create(
        model="tiny", prompt=prompt, echo=True, max_tokens=6, stream=True, temperature=0, logit_bias=NO_END
    )
    text = "".join([event.choices[0].text async for event in stream])
    assert text.startswith(prompt)
    assert len(text) > len(prompt)
    books = await read_books(database, tenant.organization_id)
    assert sorted(event.output_tokens for event in books.events) == [0, 6]


async def test_min_tokens_puts_the_end_off(client: AsyncOpenAI) -> None:
    for extra, length in (({"min_tokens": 9}, 9), ({"ignore_eos": True}, 9)):
        answer = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, max_tokens=length, logit_bias={END: 100}, extra_body=extra
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == length
