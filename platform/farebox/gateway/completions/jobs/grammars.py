"""What a request says about the form of its answer, as the engine takes it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw

from farebox.gateway.completions.jobs.call_grammars import call_grammar
from farebox.gateway.completions.jobs.tools import OfferedTool
from farebox.gateway.completions.requests import (
    ChatCompletionRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Sampling,
    StructuredOutputs,
    TextFormat,
)
from farebox.gateway.errors import InvalidParameter
from farebox.gateway.models.answer_format import AnswerFormat
from farebox.gateway.models.grammar import GrammarSpec


def grammar_spec(
    request: Sampling, style: AnswerFormat, tools: Sequence[OfferedTool], *, opened: bool = False
) -> GrammarSpec | None:
    """The grammar asked for, or None. Raises InvalidParameter when a request asks for two.

    `tools` are those that may be called. `opened`: the prompt itself begins the model's reasoning.
    `response_format` and calls then come after it; `structured_outputs` is about all that the model writes.
    """
    asked: list[GrammarSpec] = []
    if request.structured_outputs is not None:
        asked.append(_structured(request.structured_outputs))
    if isinstance(request, ChatCompletionRequest):
        answer = _answer_schema(request.response_format)
        if tools:
            bound = call_grammar(request, style, tools, answer)
        else:
            bound = None if answer is None else _spoken(answer)
        if bound is not None:
            asked.append(replace(bound, after_reasoning=opened))
    if len(asked) > 1:
        raise InvalidParameter(
            f"`{asked[0].param}` and `{asked[1].param}` both say what the answer must be; send one of them.",
            asked[0].param,
        )
    return asked[0] if asked else None


def _answer_schema(asked: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> dict[str, Any] | None:
    """The JSON schema of what is said; None where it may be any text. Raises InvalidParameter."""
    if not isinstance(asked, JsonObjectFormat | JsonSchemaFormat):
        return None
    if isinstance(asked, JsonSchemaFormat) and isinstance(asked.json_schema.schema, Raw):
        return _schema(asked.json_schema.schema, "response_format")
    return {"type": "object"}


def _spoken(schema: dict[str, Any]) -> GrammarSpec:
    if schema == {"type": "object"}:
        return GrammarSpec("json_object", "", "response_format")
    return GrammarSpec("json_schema", msgspec.json.encode(schema).decode(), "response_format")


def _schema(raw: Raw, param: str) -> dict[str, Any]:
    """A JSON schema, which may be a bare `true`."""
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any] | bool)
    except msgspec.ValidationError:
        raise InvalidParameter("The schema must be a JSON object.", param) from None
    except RecursionError:
        raise InvalidParameter("The schema is nested too deeply.", param) from None
    if schema is False:
        raise InvalidParameter("Nothing obeys the schema `false`.", param)
    return schema if isinstance(schema, dict) else {}


def _structured(asked: StructuredOutputs) -> GrammarSpec:
    param = "structured_outputs"
    specs = []
    if isinstance(asked.json, Raw):
        source = msgspec.json.encode(_schema(asked.json, param)).decode()
        specs.append(GrammarSpec("json_schema", source, param))
    if asked.regex is not None:
        specs.append(GrammarSpec("regex", asked.regex, param))
    if asked.choice is not None:
        specs.append(GrammarSpec("choice", msgspec.json.encode(asked.choice).decode(), param))
    if asked.grammar is not None:
        specs.append(GrammarSpec("lark", asked.grammar, param))
    if len(specs) != 1:
        raise InvalidParameter(
            "`structured_outputs` takes exactly one of `json`, `regex`, `choice` and `grammar`.", param
        )
    return specs[0]
