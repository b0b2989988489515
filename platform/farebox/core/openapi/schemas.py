"""The types of all bodies as JSON Schema."""

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from farebox.core.openapi.documentation import ErrorEnvelope
from farebox.core.openapi.endpoints import Endpoint

_REFERENCE = "#/components/schemas/{name}"


class Schemas:
    """Every type of the document, described once."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        kinds = [ErrorEnvelope]
        for endpoint in endpoints:
            kinds += [endpoint.body] if endpoint.body is not None else []
            kinds += [content.kind for reply in endpoint.documentation.replies for content in reply.contents]
        schemas, self.components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
        _polish(self.components)
        self._by_kind = dict(zip(map(repr, kinds), schemas, strict=True))

        for endpoint in endpoints:
            for name, text in endpoint.documentation.fields.items():
                self.components[endpoint.body.__name__]["properties"][name]["description"] = text

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type that an endpoint names: mostly a reference."""
        return self._by_kind[repr(kind)]


def _polish(schema: Any) -> None:
    """Carry out what WRITTEN_AS_NUMBER and `shown_as` ask for, and take the indentation out of docstrings."""
    if isinstance(schema, dict):
        if (shown := schema.pop("x-shown-as", None)) is not None:
            schema.pop("anyOf", None)
            schema |= shown
        if (kind := schema.pop("x-written-as", None)) is not None:
            schema["type"] = kind
        if isinstance(text := schema.get("description"), str):
            schema["description"] = cleandoc(text)
        for part in schema.values():
            _polish(part)
