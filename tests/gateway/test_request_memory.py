"""What is kept of a request: nothing of a field that nobody reads, and nothing at all once its run begins."""

import gc
import json
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import inspect

from farebox.core.strict_json import StrictDecoder
from farebox.gateway.completions.requests import (
    INERT,
    MAX_INERT_BYTES,
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
    refuse_unsupported,
)
from farebox.gateway.encoding.requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from farebox.gateway.errors import UnsupportedParameter
from tests.docs.test_fields import fields_within

ASKED = {"role": "user", "content": "Hello"}
LISTS = 1_000
MANY: list[list[int]] = [[]] * LISTS
CHAT: dict[str, Any] = {"model": "tiny", "messages": [ASKED]}
CHAT_FIELDS = [name for name in INERT if name in ChatCompletionRequest.__struct_fields__]
UNREAD: dict[str, dict[str, Any]] = {name: CHAT | {name: MANY} for name in CHAT_FIELDS} | {
    f"cache_control of {role}": {"model": "tiny", "messages": [ASKED | {"role": role, "cache_control": MANY}]}
    for role in ("system", "developer", "user", "assistant")
}
UNREAD["cache_control of a tool"] = CHAT | {
    "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": MANY}]
}


def lists() -> int:
    return sum(type(each) is list for each in gc.get_objects())


@pytest.mark.parametrize("name", UNREAD)
def test_nothing_is_built_of_what_nobody_reads(name: str) -> None:
    body = json.dumps(UNREAD[name]).encode()
    decoder = StrictDecoder(ChatCompletionRequest)
    before = lists()
    request = decoder.decode(body)
    assert lists() - before < LISTS / 2
    assert request.model == "tiny"


@pytest.mark.parametrize(
    "kind", [ChatCompletionRequest, CompletionRequest, EmbeddingRequest, RerankRequest, ClassifyRequest]
)
def test_no_field_of_a_request_takes_any_object(kind: type[msgspec.Struct]) -> None:
    found = dict(fields_within(inspect.type_info(kind)))
    assert found
    assert [name for name, type_ in found.items() if isinstance(type_, inspect.AnyType)] == []


@pytest.mark.parametrize(
    ("name", "value", "inert"),
    [
        ("functions", "[]", True),
        ("functions", "[ \n ]", True),
        ("functions", "null", True),
        ("functions", "[0]", False),
        ("function_call", '"no\\u006ee"', True),
        ("function_call", '"auto"', False),
        ("modalities", '[\n  "text"\n]', True),
        ("modalities", '["text", "audio"]', False),
        ("audio", "{}", False),
        ("functions", f"[{' ' * MAX_INERT_BYTES}]", False),
    ],
)
def test_what_asks_for_nothing_is_known_by_its_text(name: str, value: str, inert: bool) -> None:
    body = json.dumps(CHAT)[:-1] + f', "{name}": {value}}}'
    request = StrictDecoder(ChatCompletionRequest).decode(body.encode())
    if inert:
        refuse_unsupported(request)
    else:
        with pytest.raises(UnsupportedParameter, match=name):
            refuse_unsupported(request)


def alive(user: str) -> int:
    """How many requests there are of this user."""
    return sum(issubclass(type(each), Sampling) and each.user == user for each in gc.get_objects())


async def test_a_run_holds_nothing_of_its_request(http: httpx.AsyncClient) -> None:
    kept = StrictDecoder(ChatCompletionRequest).decode(json.dumps(CHAT | {"user": "kept"}).encode())
    assert alive("kept") == 1, kept
    asked = CHAT | {"user": "let go", "stream": True, "max_tokens": 1_900, "ignore_eos": True}
    async with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_lines())
        assert alive("let go") == 0
