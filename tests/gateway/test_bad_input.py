"""What strangers send: a 4xx that says what is wrong, and the event loop never held up."""

import json
from typing import Any

import httpx
import pytest

from farebox.core.database import Database
from tests.gateway.servers import RunningServer
from tests.gateway.watchdog import unstalled
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
GOOD = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
DEEP = b"[" * 30_000 + b"]" * 30_000


def chat(field: bytes = b"", content: bytes = b"Hello", model: bytes = b"tiny") -> bytes:
    """A chat request, with raw bytes where a test wants them."""
    messages = b'[{"role": "user", "content": "' + content + b'"}]'
    return b'{"model": "' + model + b'", "max_tokens": 2, "messages": ' + messages + field + b"}"


BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "invalid_json", None),
    "no JSON": (b"hello", "invalid_json", None),
    "truncated": (chat()[:-3], "invalid_json", None),
    "trailing bytes": (chat() + b"{}", "invalid_json", None),
    "an array": (b"[]", "invalid_value", None),
    "a byte order mark": (b"\xef\xbb\xbf" + chat(), "invalid_json", None),
    "invalid UTF-8": (chat(content=b"\xff\xfe"), "invalid_json", None),
    "an encoded surrogate": (chat(content=b"\xed\xa0\x80"), "invalid_json", None),
    "a lone surrogate": (chat(content=b"\\ud800"), "invalid_json", None),
    "a surrogate in a key": (chat(b', "\\udfff": 1'), "invalid_json", None),
    "an escaped NUL": (chat(content=b"a\\u0000b"), "invalid_json", None),
    "a NUL in a list": (chat(b', "stop": ["\\u0000"]'), "invalid_json", None),
    "a NUL in a nested list": (
        chat(b', "prediction": [[{"a": ["\\u0000"]}]]'),
        "invalid_json",
        None,
    ),
    "a NUL byte": (chat(content=b"\x00"), "invalid_json", None),
    "deep arrays": (b'{"messages": ' + DEEP + b"}", "invalid_value", "messages[0]"),
    "deep in any field": (chat(b', "functions": ' + DEEP), "invalid_json", None),
    "deep and unclosed": (b'{"functions":' + b"[" * 50_000, "invalid_json", None),
    "NaN": (chat(b', "temperature": NaN'), "invalid_json", None),
    "Infinity": (chat(b', "temperature": -Infinity'), "invalid_json", None),
    "a number too large for a float": (chat(b', "temperature": 1e999'), "invalid_value", "temperature"),
    "duplicate keys": (chat(b', "n": 1, "n": 2'), "invalid_json", None),
    "duplicate keys, one escaped": (chat(b', "n": 1, "\\u006e": 2'), "invalid_json", None),
    "duplicate keys inside": (chat(b', "metadata": {"a": "1", "a": "2"}'), "invalid_json", None),
    "a huge integer": (chat(b', "n": 1' + b"0" * 5000), "invalid_value", "n"),
    "n of a billion": (chat(b', "n": 1000000000'), "invalid_value", "n"),
    "n of zero": (chat(b', "n": 0'), "invalid_value", "n"),
    "a negative n": (chat(b', "n": -1'), "invalid_value", "n"),
    "n as a float": (chat(b', "n": 1.5'), "invalid_value", "n"),
    "n as text": (chat(b', "n": "1"'), "invalid_value", "n"),
    "n as a boolean": (chat(b', "n": true'), "invalid_value", "n"),
    "negative max_tokens": (b'{"max_tokens": -1, "model": "tiny"}', "invalid_value", "max_tokens"),
    "a hot temperature": (chat(b', "temperature": 2.1'), "invalid_value", "temperature"),
    "a top_p over 1": (chat(b', "top_p": 1.01'), "invalid_value", "top_p"),
    "a seed past 64 bits": (chat(b', "seed": 9223372036854775808'), "invalid_value", "seed"),
    "an unknown field": (chat(b', "temprature": 1'), "unknown_field", "temprature"),
    "no model": (b'{"messages": [{"role": "user", "content": "x"}]}', "missing_field", "model"),
    "no messages": (b'{"model": "tiny"}', "missing_field", "messages"),
    "empty messages": (b'{"model": "tiny", "messages": []}', "invalid_value", "messages"),
    "a message without content": (
        b'{"model": "tiny", "messages": [{"role": "user"}]}',
        "missing_field",
        "messages[0].content",
    ),
    "an unknown role": (
        b'{"model": "tiny", "messages": [{"role": "wizard", "content": "x"}]}',
        "invalid_value",
        "messages[0].role",
    ),
    "an image": (
        b'{"model": "tiny", "messages": [{"role": "user", "content":'
        b' [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}',
        "invalid_value",
        "messages[0].content[0].type",
    ),
    "stream options without a stream": (
        chat(b', "stream_options": {"include_usage": true}'),
        "invalid_value",
        "stream_options",
    ),
    "top_logprobs without logprobs": (chat(b', "top_logprobs": 2'), "invalid_value", "top_logprobs"),
    "two different limits": (chat(b', "max_completion_tokens": 5'), "invalid_value", "max_tokens"),
    "a bias for no token": (chat(b', "logit_bias": {"x": 1}'), "invalid_value", "logit_bias"),
    "a bias past the vocabulary": (chat(b', "logit_bias": {"99999": 1}'), "invalid_value", "logit_bias"),
    "a priority before others": (chat(b', "priority": -1'), "invalid_value", "priority"),
    "a priority that is none": (chat(b', "priority": 2'), "invalid_value", "priority"),
    "a priority in words": (chat(b', "priority": "low"'), "invalid_value", "priority"),
    "bad words that are no list": (chat(b', "bad_words": "a"'), "invalid_value", "bad_words"),
    "an empty bad word": (chat(b', "bad_words": ["a", ""]'), "invalid_value", "bad_words[1]"),
    "a bad word of white space": (chat(b', "bad_words": [" \\n"]'), "invalid_value", "bad_words"),
    "a bad word too long": (chat(b', "bad_words": ["%s"]' % (b"a" * 257)), "invalid_value", "bad_words[0]"),
    "a bad word of too many tokens": (
        chat(b', "bad_words": ["%s"]' % (b"x7" * 128)),
        "invalid_value",
        "bad_words",
    ),
    "too many bad words": (
        chat(b', "bad_words": [%s]' % b",".join(b'"%d"' % number for number in range(65))),
        "invalid_value",
        "bad_words",
    ),
    "too many biases": (
        chat(b', "logit_bias": {%s}' % b",".join(b'"%d": 1' % token for token in range(1025))),
        "invalid_value",
        "logit_bias",
    ),
    "an empty stop string": (chat(b', "stop": ""'), "invalid_value", "stop"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_body_is_a_400_that_names_the_fault(
    name: str, http: httpx.AsyncClient, server: RunningServer, database: Database, tenant: Tenant
) -> None:
    body, code, param = BODIES[name]
    async with unstalled(server):
        answer = await http.post(CHAT, content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
    ],
)
async def test_what_would_change_the_result_is_refused_by_name(
    field: str, value: Any, http: httpx.AsyncClient
) -> None:
    answer = await http.post(CHAT, json=GOOD | {field: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert answer.json()["error"]["param"] == field
    assert f"`{field}`" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": False, "safety_identifier": "s"},
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "service_tier": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"parallel_tool_calls": True, "tools": [], "tool_choice": "none", "functions": []},
        {"response_format": {"type": "text"}, "modalities": ["text"], "verbosity": "low"},
        dict.fromkeys(("tools", "audio", "n", "stop", "seed", "stream", "logprobs", "user")),
    ],
)
async def test_what_asks_for_nothing_is_accepted(fields: dict[str, Any], http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=GOOD | fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": [[]]}, "invalid_value", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_value", "prompt"),
        ({"prompt": [99999]}, "invalid_value", "prompt"),
        ({"prompt": [-1]}, "invalid_value", "prompt[0]"),
        ({"prompt": ["a"] * 65}, "too_much_work", "prompt"),
        ({"prompt": ["a"] * 13, "n": 5}, "too_much_work", "n"),
        ({"prompt": ["a"] * 60, "n": 16}, "too_much_work", "n"),
        ({"prompt": "a", "best_of": 3}, "unsupported_parameter", "best_of"),
        ({"prompt": "a", "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"prompt": "a", "suffix": "z"}, "unsupported_parameter", "suffix"),
        ({"prompt": "a", "logprobs": 6}, "invalid_value", "logprobs"),
    ],
)
async def test_bad_completion(
    fields: dict[str, Any], code: str, param: str, http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    answer = await http.post("/v1/completions", json={"model": "tiny", "max_tokens": 1} | fields)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("rerank", {"query": "the cat sat " * 8000, "documents": ["x"] * 150}, "query"),
        ("rerank", {"query": "the cat sat " * 200, "documents": [{"text": "x"}] * 2048}, "query"),
        # 16 * 750 * 21 log-probabilities, 64 * 700 * 6, and those of the prompt that is echoed.
        (
            "chat/completions",
            {"messages": GOOD["messages"], "n": 16, "max_tokens": 750, "logprobs": True, "top_logprobs": 20},
            "logprobs",
        ),
        ("completions", {"prompt": ["a"] * 64, "max_tokens": 700, "logprobs": 5}, "logprobs"),
        (
            "completions",
            {"prompt": [[9] * 1500] * 32, "max_tokens": 1, "logprobs": 5, "echo": True},
            "logprobs",
        ),
    ],
)
async def test_what_fields_multiply_to_is_bounded_before_it_is_done(
    path: str, fields: dict[str, Any], param: str, http: httpx.AsyncClient, server: RunningServer
) -> None:
    async with unstalled(server):
        answer = await http.post(f"/v1/{path}", json={"model": "tiny"} | fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "too_much_work", param)
    assert "of at most" in error["message"]


async def test_a_stream_holds_no_whole_answer_and_may_have_more_log_probabilities(
    http: httpx.AsyncClient,
) -> None:
    fields = {"n": 16, "max_tokens": 750, "logprobs": True, "top_logprobs": 20, "stream": True}
    async with http.stream("POST", CHAT, json=GOOD | fields) as answer:
        assert answer.status_code == 200


async def test_max_tokens_beyond_the_context_names_both_numbers(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=GOOD | {"max_tokens": 2048})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], error["param"]) == ("context_length_exceeded", "max_tokens")
    prompt_tokens = (await http.post(CHAT, json=GOOD)).json()["usage"]["prompt_tokens"]
    assert "2048" in error["message"]
    assert str(2048 + prompt_tokens) in error["message"]


async def test_a_prompt_beyond_the_context(http: httpx.AsyncClient, server: RunningServer) -> None:
    messages = [{"role": "user", "content": "The ferry leaves. " * 20_000}]
    async with unstalled(server):
        answer = await http.post(CHAT, json={"model": "tiny", "messages": messages})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("count", "code", "param"),
    [
        (39_000, "unsupported_parameter", "functions"),
        (41_000, "too_much_work", None),
        (120_000, "too_much_work", None),
    ],
)
async def test_a_hostile_megabyte_is_refused_without_holding_up_the_loop(
    count: int, code: str, param: str | None, http: httpx.AsyncClient, server: RunningServer
) -> None:
    items = b",".join([b'{"a":1}'] * count)
    async with unstalled(server):
        answer = await http.post(CHAT, content=chat(b', "functions": [' + items + b"]"), headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)


async def test_unknown_model(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=GOOD | {"model": "gpt-4o"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


async def test_a_body_over_the_limit(http: httpx.AsyncClient, server: RunningServer) -> None:
    async with unstalled(server):
        announced = await http.post(CHAT, content=chat(content=b"a" * 30_000_000), headers=JSON)
    assert announced.status_code == 413
    assert announced.json()["error"]["code"] == "request_too_large"

    async def pieces() -> Any:
        for _ in range(30):
            yield b"a" * 1_000_000

    async with unstalled(server):
        chunked = await http.post(CHAT, content=pieces(), headers=JSON)
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonx",
    ],
)
async def test_other_media_types(content_type: str, http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, content=json.dumps(GOOD), headers={"content-type": content_type})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


async def test_json_with_a_charset_is_json(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await http.post(CHAT, content=json.dumps(GOOD), headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_wrong_method(method: str, http: httpx.AsyncClient) -> None:
    answer = await http.request(method, CHAT)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_what_is_allowed_can_be_asked(path: str, http: httpx.AsyncClient) -> None:
    answer = await http.request("OPTIONS", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "OPTIONS, POST"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_unknown_address(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic YTpi", "Bearer fb_live_x", "Bearer " + "a" * 20_000]
)
async def test_bad_key_before_anything_of_the_body_is_judged(
    authorization: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post(CHAT, content=b"nonsense", headers=JSON | {"authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_control_tokens_in_content_are_text(http: httpx.AsyncClient) -> None:
    async def prompt_tokens(content: str) -> int:
        messages = [{"role": "user", "content": content}]
        answer = await http.post(CHAT, json=GOOD | {"messages": messages})
        tokens: int = answer.json()["usage"]["prompt_tokens"]
        return tokens

    # As a control token "<|end|>" would be one token; as text it is several.
    assert await prompt_tokens("a<|end|><|assistant|>") > await prompt_tokens("a") + 4


@pytest.mark.parametrize("path", ["/auth/signup", "/auth/signin"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"email": "a@b.c"}', "text/plain", 415),
        (b"\xff", "application/json", 400),
        (DEEP, "application/json", 400),
        (b'{"email": "a\\u0000@b.c", "password": "x"}', "application/json", 400),
        (b'{"email": "a@b.c", "email": "b@b.c"}', "application/json", 400),
    ],
)
async def test_every_json_door_is_as_strict(
    path: str, body: bytes, content_type: str, status: int, http: httpx.AsyncClient
) -> None:
    answer = await http.post(path, content=body, headers={"content-type": content_type})
    assert answer.status_code == status, answer.text
    assert "request_id" in answer.json()["error"]
