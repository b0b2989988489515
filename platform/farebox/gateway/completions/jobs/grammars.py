"""What a request says about the form of its answer, as the engine takes it."""

from dataclasses import replace

import msgspec
from msgspec import UNSET, Raw, UnsetType

from farebox.gateway.completions.jobs.call_grammars import call_grammar
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


def grammar_spec(request: Sampling, style: AnswerFormat, *, opened: bool = False) -> GrammarSpec | None:
    """The grammar asked for, or None. Raises InvalidParameter when a request asks for two.

    `opened`: the prompt itself begins the model's reasoning. `response_format` and calls then come after
    it; `structured_outputs` is about all that the model writes.
    """
    asked: list[GrammarSpec] = []
    if request.structured_outputs is not None:
        asked.append(_structured(request.structured_outputs))
    if isinstance(request, ChatCompletionRequest):
        bound = [_formatted(request.response_format), call_grammar(request, style)]
        asked += [replace(spec, after_reasoning=opened) for spec in bound if spec is not None]
    if len(asked) > 1:
        raise InvalidParameter(
            f"`{asked[0].param}` and `{asked[1].param}` both say what the answer must be; send one of them.",
            asked[0].param,
        )
    return asked[0] if asked else None


def _formatted(asked: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> GrammarSpec | None:
    if not isinstance(asked, JsonObjectFormat | JsonSchemaFormat):
        return None
    if isinstance(asked, JsonSchemaFormat) and asked.json_schema.schema is not UNSET:
        return GrammarSpec("json_schema", _text(asked.json_schema.schema), "response_format")
    return GrammarSpec("json_object", "", "response_format")


def _structured(asked: StructuredOutputs) -> GrammarSpec:
    param = "structured_outputs"
    specs = []
    if asked.json is not UNSET:
        specs.append(GrammarSpec("json_schema", _text(asked.json), param))
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


def _text(raw: Raw | UnsetType) -> str:
    return bytes(raw).decode() if isinstance(raw, Raw) else ""
