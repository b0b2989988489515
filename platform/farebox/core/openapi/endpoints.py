"""The endpoints of an application, found among its routes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from litestar import Litestar, Response
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.params import BodyKwarg
from litestar.routes import ASGIRoute, HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from farebox.core.openapi.documentation import Content, Documentation, Operation, Reply


@dataclass(frozen=True)
class Endpoint:
    """One method of one route."""

    path: str
    operation: Operation
    handler: HTTPRouteHandler | ASGIRouteHandler
    path_parameters: Mapping[str, PathParameterDefinition]

    @property
    def documentation(self) -> Documentation:
        """What the route declares; else what its signature tells."""
        declared = self.handler.opt.get("documentation")
        if isinstance(declared, Documentation):
            return declared
        returned = self.handler.parsed_return_field
        kind = returned.inner_types[0].raw if returned.is_subclass_of(Response) else returned.raw
        contents = [] if kind in (None, type(None)) else [Content(kind=kind, examples={})]
        status = self.handler.status_code if isinstance(self.handler, HTTPRouteHandler) else 200
        return Documentation(replies=[Reply(description="Done.", status=status, contents=contents)])

    @property
    def body(self) -> Any:
        """The type of the request's body; None if there is none."""
        data = self.handler.parsed_fn_signature.parameters.get("data")
        return self.documentation.body or (None if data is None else data.annotation)

    @property
    def media_type(self) -> str:
        """The media type of the request's body."""
        data = self.handler.parsed_fn_signature.parameters.get("data")
        definition = None if data is None else data.kwarg_definition
        media_type = definition.media_type if isinstance(definition, BodyKwarg) else "application/json"
        return str(getattr(media_type, "value", media_type))


def endpoints_of(app: Litestar) -> Iterator[Endpoint]:
    """All endpoints that the document is to show."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS" and handler.resolve_include_in_schema():
                    operation = _operation_of(handler, method.lower())
                    yield Endpoint(route.path_format, operation, handler, route.path_parameters)
        elif isinstance(route, ASGIRoute):
            declared = route.route_handler.opt.get("operation")
            if isinstance(declared, Operation):
                yield Endpoint(route.path_format, declared, route.route_handler, route.path_parameters)


def _operation_of(handler: HTTPRouteHandler, method: str) -> Operation:
    return Operation(
        method=method,
        operation_id=str(handler.operation_id),
        summary=handler.summary or "",
        tags=sorted(handler.resolve_tags()),
        description=handler.description or cleandoc(handler.fn.__doc__ or ""),
    )
