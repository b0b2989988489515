"""The ASGI application: Stripe's API, the pages its customers meet, and the control beside both."""

import json

from tests.stripe_server.api import Api
from tests.stripe_server.control.control import Control
from tests.stripe_server.families import FAMILIES, PAGES
from tests.stripe_server.webhooks.dispatch import dispatch
from tests.stripe_server.webhooks.outbox import Outbox
from tests.stripe_server.wire.errors import StripeError
from tests.stripe_server.wire.faults import Dropped
from tests.stripe_server.wire.http import (
    Receive,
    Request,
    Response,
    Scope,
    Send,
    json_response,
    read_request,
    until_gone,
)
from tests.stripe_server.wire.pages import serve_page
from tests.stripe_server.wire.routing import Router
from tests.stripe_server.world.world import Settings, World

_CONTROL = "/_control/"


class StripeApp:
    def __init__(self, settings: Settings | None = None) -> None:
        self.world = World(settings or Settings())
        self.outbox = Outbox()
        self.world.on_event.append(lambda event: dispatch(self.world, self.outbox, event))
        for family in FAMILIES:
            family.join(self.world)
        self.api = Api(self.world, Router(FAMILIES))
        self.control = Control(self.api, self.outbox)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await read_request(scope, receive)
        try:
            response = await self._respond(request, receive)
        except Dropped:
            scope["state"]["transport"].abort()
            await until_gone(receive)
            return
        await response.send_to(send)

    async def _respond(self, request: Request, receive: Receive) -> Response:
        if request.path.startswith(("/v1/", "/v2/")):
            return await self.api.answer(request, receive)
        if request.path.startswith(_CONTROL):
            return await self._controlled(request)
        return serve_page(self.world, PAGES, request)

    async def _controlled(self, request: Request) -> Response:
        """`POST /_control/<what>` with arguments in JSON does as `Control.<what>` does."""
        name = request.path.removeprefix(_CONTROL)
        try:
            return json_response(200, await self.control.by_name(name, json.loads(request.body or b"{}")))
        except (StripeError, LookupError, TypeError, ValueError) as error:
            return json_response(400, {"error": f"{type(error).__name__}: {error}"})
