"""What a request says about the form of its answer, as the engine takes it."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from farebox.gateway.errors import InvalidParameter
from farebox.gateway.requests import (
    ChatCompletionRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Sampling,
    StructuredOutputs,
)
from farebox_engine.grammar import GrammarSpec


def grammar_spec(request: Sampling) -> GrammarSpec | None:
    """The grammar asked for, or None. Raises InvalidParameter when a request asks for two."""
    spec = None
    if request.structured_outputs is not None:
        spec = _structured(request.structured_outputs)
    if not isinstance(request, ChatCompletionRequest):
        return spec
    asked = request.response_format
    if not isinstance(asked, JsonObjectFormat | JsonSchemaFormat):
        return spec
    if spec is not None:
        raise InvalidParameter(
            "`response_format` and `structured_outputs` both say what the answer must be; send one of them.",
            "structured_outputs",
        )
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
