"""An inference route: Litestar finds it, and what follows is a plain ASGI application.

What Litestar does between a route and its function, for functions of any kind, costs as much as
everything that is to be done here.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import cleandoc
from typing import Any, TypeVar

import msgspec
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from farebox.core.bodies import LARGE_BODY_BYTES, ClientGone, read_body
from farebox.core.errors import FareboxError, MethodNotAllowed
from farebox.core.exchange import exchange_of
from farebox.core.openapi.documentation import Documentation, Operation
from farebox.core.strict_json import StrictDecoder
from farebox.gateway.errors import NothingLeft, TooManyPending, TooManyRefusals
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.key_check import verify_key
from farebox.gateway.live_runs import Run
from farebox.gateway.refusals import tell_refusal
from farebox.gateway.transport.wire import Wire

ALLOWED = "OPTIONS, POST"

Request = TypeVar("Request", bound=msgspec.Struct)
Answer = Callable[[Gateway, Request, Visit, Wire], Awaitable[Run]]


def inference(
    path: str, kind: type[Request], *, operation_id: str, summary: str, tag: str, documentation: Documentation
) -> Callable[[Answer[Request]], ASGIRouteHandler]:
    """Makes a function the answer to `POST path` with a JSON body of type `kind`.

    The key comes first, the body after it: what is wrong with a request is nothing a stranger should
    learn. The function gives an admitted run, which sends its answer itself; what the function raises, the
    client is told.
    """
    decoder = StrictDecoder(kind)

    def decorate(answer: Answer[Request]) -> ASGIRouteHandler:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            method = scope["method"]  # type: ignore[typeddict-item]  # the server speaks HTTP only
            if method != "POST":
                await _answer_other(method, send)
                return
            claims = await verify_key(scope)
            gateway: Gateway = scope["litestar_app"].state.gateway
            try:
                with gateway.gate.visit(claims, scope) as visit:
                    run = await admitted(gateway, visit, scope, receive)
                    await gateway.runs.execute(run)
            except (NothingLeft, TooManyPending, TooManyRefusals) as refusal:
                refusal.organization_id = claims.organization_id
                tell_refusal(exchange_of(scope), refusal)
                raise

        async def admitted(gateway: Gateway, visit: Visit, scope: Scope, receive: Receive) -> Run:
            # A frame of its own: the request, up to 30 MB of objects, goes before the run begins.
            request = await _read(gateway, decoder, visit, scope, receive)
            return await answer(gateway, request, visit, Wire(scope))

        operation = Operation(
            method="post",
            operation_id=operation_id,
            summary=summary,
            tags=(tag,),
            description=cleandoc(answer.__doc__ or ""),
        )
        opt: dict[str, Any] = {"operation": operation, "documentation": documentation}
        return asgi(path, copy_scope=False, opt=opt)(endpoint)

    return decorate


async def _read(
    gateway: Gateway, decoder: StrictDecoder[Request], visit: Visit, scope: Scope, receive: Receive
) -> Request:
    """The body. The key's row and purse are read before it where that may be much work, and the row before
    what is wrong is told."""
    try:
        if visit.row_first:
            await visit.authorise()
            await visit.open_purse()
            await visit.join()
        body = await read_body(scope, receive, note=visit.note_body)
        await visit.join()
        if len(body) <= LARGE_BODY_BYTES:
            return decoder.decode(body)
        return await visit.run(gateway.readers, partial(decoder.decode, body))
    except ClientGone:
        raise  # to nobody
    except FareboxError:
        await visit.authorise()
        raise


async def _answer_other(method: str, send: Send) -> None:
    """Say what is allowed here, as other routes do. Raises MethodNotAllowed for all but OPTIONS."""
    if method != "OPTIONS":
        raise MethodNotAllowed(
            "This address does not take this method.", code="method_not_allowed", headers={"Allow": ALLOWED}
        )
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", ALLOWED.encode())]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
