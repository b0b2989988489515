"""Tools and reasoning through the official client, with models that speak Hermes's and Llama's forms."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from farebox.core.database import Database
from tests.engine.checkpoints import build_checkpoint
from tests.gateway.conftest import CONTEXT_LENGTH, offer
from tests.gateway.servers import RunningServer

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "When does the ferry leave?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "departures",
            "description": "The next departures.",
            "parameters": {
                "type": "object",
                "properties": {
                    "harbour": {"enum": ["north", "south"]},
                    "count": {"type": "integer", "minimum": 1, "maximum": 5},
                },
                "required": ["harbour", "count"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]
BODY = (
    "{% for message in messages %}<|{{ 'user' if message.role == 'tool' else message.role }}|>"
    "{{ message.content }}{% for call in message.tool_calls %}CALL{% endfor %}<|end|>"
    "{% endfor %}<|assistant|>"
)
TEMPLATES = {
    "hermes": "{% if tools %}{{ tools | tojson }} within <tool_call></tool_call>{% endif %}" + BODY,
    "llama": '{% if tools %}{{ tools | tojson }} as {"name": …, "parameters": …}{% endif %}' + BODY,
    "switch": BODY + "{% if enable_thinking is false %}<think></think>{% endif %}{{ reasoning_effort }}",
    "hidden": BODY + "{% if enable_thinking %}<think>{% endif %}",
    "thinker": BODY + "{# <think>…</think> #}<think>",
}


@pytest.fixture(scope="session")
async def talkers(
    server: RunningServer, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name, template in TEMPLATES.items():
        folder = build_checkpoint(
            tmp_path_factory.mktemp("talker") / name, max_position_embeddings=CONTEXT_LENGTH
        )
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
        await offer(database, name, Path(folder))
    await server.call(server.gateway.catalog.refresh)


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize("model", ["hermes", "llama"])
async def test_a_required_call_has_a_known_name_and_right_arguments(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "departures"}},
        max_tokens=300,
        seed=2,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "departures"
    arguments = json.loads(call.function.arguments)
    assert arguments["harbour"] in {"north", "south"}
    assert arguments["count"] in range(1, 6)
    again: list[ChatCompletionMessageParam] = [
        *MESSAGES,
        cast(ChatCompletionMessageParam, choice.message.model_dump(exclude_none=True)),
        {"role": "tool", "tool_call_id": call.id, "content": "At nine."},
    ]
    followed = await client.chat.completions.create(
        model=model, messages=again, tools=TOOLS, tool_choice="none", max_tokens=5
    )
    assert followed.usage is not None
    assert followed.choices[0].message.tool_calls is None


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize("model", ["hermes", "llama"])
async def test_streamed_calls_are_assembled_by_the_client(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(
        model=model,
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=300,
        seed=4,
    ) as stream:
        answer = await stream.get_final_completion()
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert call.function.name in {"departures", "now"}
    assert isinstance(json.loads(call.function.arguments), dict)


@pytest.fixture
def strict(server: RunningServer, talkers: None) -> dict[str, Any]:
    """A strict tool under `auto`, and a bias that makes a model of Llama's form begin like a call."""
    model = server.gateway.catalog.find("llama")
    assert model is not None
    [brace] = model.generator.encode("{")
    tools = cast(list[Any], json.loads(json.dumps(TOOLS)))
    tools[0]["function"]["strict"] = True
    return {"messages": MESSAGES, "tools": tools, "max_tokens": 300, "logit_bias": {str(brace): 100}}


@pytest.mark.parametrize("seed", [1, 2])
async def test_under_auto_what_begins_like_a_llama_call_is_right(
    client: AsyncOpenAI, strict: dict[str, Any], seed: int
) -> None:
    strict |= {"parallel_tool_calls": False, "stop": [f"stop {number}" for number in range(16)]}
    whole = await client.chat.completions.create(model="llama", **strict, seed=seed)
    async with client.chat.completions.stream(model="llama", **strict, seed=seed) as stream:
        streamed = await stream.get_final_completion()
    for choice in (*whole.choices, *streamed.choices):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls
        for call in choice.message.tool_calls:
            assert call.type == "function"
            arguments = json.loads(call.function.arguments)
            if call.function.name == "now":
                assert arguments == {}
            else:
                assert call.function.name == "departures"
                assert arguments["harbour"] in {"north", "south"}
                assert arguments["count"] in range(1, 6)


@pytest.mark.parametrize("model", ["hermes", "llama"])
async def test_under_auto_a_model_may_say_what_is_no_call(
    client: AsyncOpenAI, strict: dict[str, Any], model: str
) -> None:
    answer = await client.chat.completions.create(
        model=model, **(strict | {"logit_bias": {}, "max_tokens": 40}), seed=1
    )
    [choice] = answer.choices
    assert choice.finish_reason in {"stop", "length"}
    assert choice.message.content
    assert choice.message.tool_calls is None


@pytest.mark.usefixtures("talkers")
async def test_what_comes_before_the_closing_mark_is_reasoning(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="thinker",
        messages=MESSAGES,
        max_tokens=200,
        stream=True,
        extra_body={"structured_outputs": {"choice": ["A ferry? Nine.</think>\n\nAt nine."]}},
    )
    content, reasoning = "", ""
    async for event in stream:
        delta = event.choices[0].delta
        content += delta.content or ""
        reasoning += (delta.model_extra or {}).get("reasoning_content") or ""
    assert (reasoning, content) == ("A ferry? Nine.", "At nine.")
    whole = await client.chat.completions.create(
        model="thinker",
        messages=MESSAGES,
        max_tokens=200,
        extra_body={"structured_outputs": {"choice": ["Hm.</think>Nine."]}},
    )
    assert whole.choices[0].message.content == "Nine."
    assert (whole.choices[0].message.model_extra or {})["reasoning_content"] == "Hm."


def reasoned(usage: CompletionUsage | None) -> int:
    assert usage is not None
    assert usage.completion_tokens_details is not None
    return usage.completion_tokens_details.reasoning_tokens or 0


THOUGHT = {"structured_outputs": {"choice": ["A ferry?</think>\n\nAt nine.", "Hm, a tram.</think>Never."]}}


@pytest.mark.usefixtures("talkers")
async def test_reasoning_tokens_are_those_up_to_the_closing_mark_of_every_choice(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "thinker",
        "messages": MESSAGES,
        "n": 3,
        "seed": 5,
        "extra_body": THOUGHT,
    }
    whole = await client.chat.completions.create(**asked, logprobs=True)
    counted = 0
    for choice in whole.choices:
        assert choice.logprobs is not None
        texts = accumulate(token.token for token in choice.logprobs.content or ())
        counted += next(count for count, text in enumerate(texts, 1) if "</think>" in text)
    assert counted > 3
    assert reasoned(whole.usage) == counted
    stream = await client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    usages = [event.usage async for event in stream if event.usage is not None]
    assert [reasoned(usage) for usage in usages] == [counted]


@pytest.mark.usefixtures("talkers")
async def test_an_answer_cut_in_mid_reasoning_is_all_reasoning(client: AsyncOpenAI) -> None:
    cut = await client.chat.completions.create(
        model="thinker", messages=MESSAGES, n=2, max_tokens=3, extra_body=THOUGHT
    )
    assert cut.usage is not None
    assert reasoned(cut.usage) == cut.usage.completion_tokens == 6
    text = await client.completions.create(model="thinker", prompt="Why?<think>", max_tokens=3)
    assert reasoned(text.usage) == 0, "a text is not read"
    plain = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=9, extra_body=THOUGHT
    )
    assert reasoned(plain.usage) == 0


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("tiny", {"tools": TOOLS}, "knows no tools"),
        ("hermes", {"tool_choice": "required"}, "goes with `tools`"),
        (
            "hermes",
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "not among `tools`",
        ),
        (
            "hermes",
            {
                "tools": TOOLS,
                "tool_choice": "required",
                "extra_body": {"structured_outputs": {"choice": ["a"]}},
            },
            "send one of them",
        ),
        (
            "hermes",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": cast(dict[str, object], False)},
                }
            },
            "schema `false`",
        ),
        ("hermes", {"tools": [{"type": "function", "function": {"name": "no good"}}]}, "name"),
        (
            "hermes",
            {
                "tools": [
                    {"type": "function", "function": {"name": "a", "parameters": {"uniqueItems": True}}}
                ],
                "tool_choice": "required",
            },
            "uniqueItems",
        ),
        (
            "hermes",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "a", "type": "function", "function": {"name": "a", "arguments": "[1]"}}
                        ],
                    }
                ]
            },
            "JSON text of an object",
        ),
        ("hermes", {"messages": [{"role": "assistant"}]}, "needs content"),
    ],
)
async def test_what_makes_no_sense_is_a_400(
    client: AsyncOpenAI, model: str, changes: dict[str, Any], reason: str
) -> None:
    body: dict[str, Any] = {"model": model, "messages": MESSAGES} | changes
    with pytest.raises(openai.BadRequestError, match=reason):
        await client.chat.completions.create(**body)
