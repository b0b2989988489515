"""Tools of a request: decoded once, and little of them kept for the answer."""

import gc
import json
from typing import Any

import msgspec

from farebox.gateway.completions.jobs.call_grammars import call_grammar
from farebox.gateway.completions.jobs.job import make_job
from farebox.gateway.completions.jobs.prompts import ReadRequest
from farebox.gateway.completions.jobs.tools import described_tools, offered_tools
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox.gateway.models.answer_format import AnswerFormat, outline
from tests.gateway.servers import RunningServer

LISTS = 1_000
SCHEMA = {"type": "object", "properties": {"zone": {"type": "integer", "examples": [[]] * LISTS}}}
CODER = AnswerFormat("qwen3_coder")


def asked(**fields: Any) -> ChatCompletionRequest:
    tool = {"type": "function", "function": {"name": "now", "parameters": SCHEMA}}
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": [tool], **fields}
    return msgspec.json.decode(json.dumps(body), type=ChatCompletionRequest)


def lists() -> int:
    return sum(type(each) is list for each in gc.get_objects())


def test_a_schema_is_decoded_once_for_the_template_and_the_grammar() -> None:
    request = asked()
    tools = offered_tools(request, CODER)
    before = lists()
    assert described_tools(tools)
    assert call_grammar(request, CODER, tools) is None
    assert lists() - before < LISTS / 2


def test_an_answer_keeps_the_outline_of_a_schema_only() -> None:
    before = lists()
    tools = {tool.name: outline(tool.parameters) for tool in offered_tools(asked(), CODER)}
    assert lists() - before < LISTS / 2
    assert tools == {"now": {"properties": {"zone": {"type": None}}}}


async def test_a_job_reads_no_schema_again(server: RunningServer) -> None:
    model = server.gateway.catalog.get("tiny")
    found = ReadRequest([[5]], opened=False, spec=None, bad_words=(), tools={"now": outline(SCHEMA)})
    before = lists()
    job = make_job(asked(), model, found, None, default_tokens=16)
    assert lists() - before < LISTS / 2
    assert job.new_parser is not None


def test_no_tool_is_offered_where_none_may_be_called() -> None:
    tools = offered_tools(asked(tool_choice="none"), CODER)
    assert tools == []
    assert described_tools(tools) is None
