"""What clients and other servers add to messages, parts and options: a program sends it back as it is."""

from typing import Any, Literal, cast

import httpx
import pytest
from openai import AsyncOpenAI, BaseModel, pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam

from tests.gateway.completions.test_tools import MESSAGES, TOOLS, talkers
from tests.gateway.conftest import CONTEXT_LENGTH

__all__ = ["talkers"]

CHAT = "/v1/chat/completions"
CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "now", "arguments": "{}"}}
USER = {"role": "user", "content": "Hello"}


class Departures(BaseModel):
    """The next departures."""

    harbour: Literal["north", "south"]


@pytest.mark.usefixtures("talkers")
async def test_a_message_of_the_clients_stream_goes_on(client: AsyncOpenAI) -> None:
    tool = pydantic_function_tool(Departures, name="departures")
    async with client.chat.completions.stream(
        model="hermes",
        messages=MESSAGES,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=300,
        seed=2,
    ) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    assert message.tool_calls
    assert message.tool_calls[0].function.parsed_arguments is not None
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "At nine."}
    history = [*MESSAGES, cast(ChatCompletionMessageParam, message), cast(ChatCompletionMessageParam, result)]
    again = await client.chat.completions.create(
        model="hermes",
        messages=history,
        tools=[tool],
        tool_choice="none",
        max_tokens=5,
    )
    assert again.choices[0].message.tool_calls is None


EARLIER: list[dict[str, Any]] = [
    {"content": "Hi", "refusal": None, "audio": None, "function_call": None, "annotations": []},
    {
        "content": "Hi",
        "parsed": {"a": 1},
        "provider_specific_fields": {"x": 1},
        "annotations": [{"type": "x"}],
    },
    {"content": None, "tool_calls": [CALL | {"parsed_arguments": {}}], "reasoning": "Hm"},
    {"content": [{"type": "text", "text": "Hi", "annotations": [], "cache_control": {"type": "ephemeral"}}]},
    {"content": [{"type": "refusal", "refusal": "No."}]},
    {"content": None, "refusal": "No."},
    {"content": None, "reasoning_content": "Hm", "reasoning_details": [{"text": "Hm"}]},
]


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize("message", EARLIER)
async def test_an_earlier_answer_is_taken_with_what_servers_add(
    message: dict[str, Any], http: httpx.AsyncClient
) -> None:
    messages = [USER, {"role": "assistant"} | message, USER]
    body = {"model": "hermes", "messages": messages, "tools": TOOLS, "max_tokens": 2}
    answer = await http.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text


async def prompt_tokens(http: httpx.AsyncClient, **fields: Any) -> int:
    answer = await http.post(CHAT, json={"model": "tiny", "messages": [USER], "max_tokens": 2} | fields)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens"])


async def test_a_refusal_is_in_the_prompt(http: httpx.AsyncClient) -> None:
    def history(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [USER, {"role": "assistant"} | message, USER]

    said = await prompt_tokens(http, messages=history({"content": "I must not."}))
    for refused in ({"refusal": "I must not."}, {"content": [{"type": "refusal", "refusal": "I must not."}]}):
        assert await prompt_tokens(http, messages=history(refused)) == said


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS, "tool_choice": "none"},
        {"stream": True, "stream_options": {"continuous_usage_stats": True, "include_obfuscation": False}},
        {"messages": [USER | {"cache_control": {"type": "ephemeral"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "id": "p"}]}]},
    ],
)
async def test_what_changes_no_result_is_taken(fields: dict[str, Any], http: httpx.AsyncClient) -> None:
    body = {"model": "tiny", "messages": [USER], "max_tokens": 2}
    answer = await http.post(CHAT, json=body | fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "content": None, "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call"),
        ({"role": "user", "content": "x", "images": ["…"]}, "messages[0].images"),
    ],
)
async def test_what_would_change_the_result_is_not_dropped(
    message: dict[str, Any], param: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post(CHAT, json={"model": "tiny", "messages": [message], "max_tokens": 2})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_the_end_of_a_prompt_is_kept_where_asked_for(http: httpx.AsyncClient) -> None:
    whole = await prompt_tokens(http)
    assert await prompt_tokens(http, truncate_prompt_tokens=whole + 1) == whole
    assert await prompt_tokens(http, truncate_prompt_tokens=2) == 2


async def test_tools_name_the_model_that_cannot(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json={"model": "tiny", "messages": [USER], "tools": TOOLS})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "tools")
    assert "`tiny`" in error["message"]
    assert "this server" not in error["message"]


@pytest.mark.usefixtures("talkers")
async def test_thinking_is_switched_by_the_templates_own_variable(http: httpx.AsyncClient) -> None:
    default = await prompt_tokens(http, model="switch")
    silent = await prompt_tokens(http, model="switch", reasoning_effort="none")
    thinking = await prompt_tokens(http, model="switch", reasoning_effort="xhigh")
    assert silent > default, "the template closes the reasoning itself"
    assert thinking > default, "the template writes the level"
    named = {"enable_thinking": False}
    assert await prompt_tokens(http, model="switch", chat_template_kwargs=named) == silent
    plain = await prompt_tokens(http)
    assert await prompt_tokens(http, reasoning_effort="high", verbosity="low") == plain


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize(
    ("off", "on"),
    [
        ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled", "budget_tokens": 9, "x": 1}}),
        ({"enable_thinking": False}, {"enable_thinking": True}),
    ],
    ids=["thinking", "enable_thinking"],
)
async def test_thinking_is_switched_as_other_servers_spell_it(
    off: dict[str, Any], on: dict[str, Any], http: httpx.AsyncClient
) -> None:
    silent = await prompt_tokens(http, model="switch", reasoning_effort="none")
    assert await prompt_tokens(http, model="switch", **off) == silent
    assert await prompt_tokens(http, model="switch", reasoning_effort="none", **off) == silent
    named = {"enable_thinking": True}
    thinking = await prompt_tokens(http, model="hidden", chat_template_kwargs=named)
    assert thinking > await prompt_tokens(http, model="hidden")
    assert await prompt_tokens(http, model="hidden", **on) == thinking
    assert await prompt_tokens(http, model="hidden", **on, chat_template_kwargs=named) == thinking
    level = await prompt_tokens(http, model="switch", reasoning_effort="high")
    assert await prompt_tokens(http, model="switch", reasoning_effort="high", **on) == level
    # A template without a switch.
    assert await prompt_tokens(http, **on) == await prompt_tokens(http, **off) == await prompt_tokens(http)


OFF = {"thinking": {"type": "disabled"}}


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize(
    ("fields", "first", "other"),
    [
        (OFF | {"reasoning_effort": "low"}, "reasoning_effort", "thinking"),
        (OFF | {"enable_thinking": True}, "thinking", "enable_thinking"),
        (
            {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
            "reasoning_effort",
            "chat_template_kwargs.enable_thinking",
        ),
        (OFF | {"chat_template_kwargs": {"thinking": True}}, "thinking", "chat_template_kwargs.thinking"),
    ],
)
async def test_fields_that_contradict_each_other_on_thinking_are_refused(
    fields: dict[str, Any], first: str, other: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post(CHAT, json={"model": "switch", "messages": [USER]} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, other)
    assert f"`{first}` and `{other}` contradict" in error["message"]


@pytest.mark.parametrize("thinking", [True, "enabled", {}, {"type": "auto"}])
async def test_other_values_of_thinking_are_refused(thinking: Any, http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json={"model": "tiny", "messages": [USER], "thinking": thinking})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("thinking")


@pytest.mark.usefixtures("talkers")
@pytest.mark.parametrize(
    "variables",
    [
        {"messages": "x"},
        {"enable_thinking": [True]},
        {"enable_thinking": "x" * 257},
        {"not a name": 1},
        {f"v{number}": 1 for number in range(17)},
    ],
)
async def test_a_templates_variables_are_bounded(variables: dict[str, Any], http: httpx.AsyncClient) -> None:
    body = {"model": "switch", "messages": [USER], "chat_template_kwargs": variables}
    answer = await http.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("chat_template_kwargs")


async def test_without_a_limit_a_chat_has_the_room_and_a_text_sixteen_tokens(client: AsyncOpenAI) -> None:
    text = await client.completions.create(model="tiny", prompt="Hello", extra_body={"ignore_eos": True})
    assert text.usage is not None
    assert text.usage.completion_tokens == 16
    chat = await client.chat.completions.create(
        model="tiny", messages=MESSAGES, extra_body={"ignore_eos": True}
    )
    assert chat.usage is not None
    assert chat.usage.total_tokens == CONTEXT_LENGTH
