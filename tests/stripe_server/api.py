"""One request to Stripe's API, from its headers to its answer."""

import asyncio
import json
import traceback
from dataclasses import dataclass, field
from typing import Any

from tests.stripe_server.wire.answers import presented
from tests.stripe_server.wire.errors import Json, StripeError, UnfaithfulAnswer, refused
from tests.stripe_server.wire.faults import Dropped, Fault, Faults, raise_fault
from tests.stripe_server.wire.forms import decode_form
from tests.stripe_server.wire.http import Receive, Request, Response, json_response, until_gone
from tests.stripe_server.wire.idempotency import IdempotencyKeys, Kept
from tests.stripe_server.wire.routing import Call, Params, Route, Router
from tests.stripe_server.wire.validation import judge
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import Cause, World

_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


@dataclass
class Seen:
    """A request as it came and how it was answered (0: not at all). `params` are still strings."""

    method: str
    path: str
    params: Json
    idempotency_key: str | None
    status: int = 0


@dataclass
class Api:
    world: World
    router: Router
    faults: Faults = field(default_factory=Faults)
    keys: IdempotencyKeys = field(default_factory=IdempotencyKeys)
    seen: list[Seen] = field(default_factory=list)
    unfaithful: list[str] = field(default_factory=list)

    async def answer(self, request: Request, receive: Receive) -> Response:
        """Raises Dropped where the connection shall end without an answer."""
        request_id = f"req_{new_token(14)}"
        headers = {"request-id": request_id, "stripe-version": self.world.settings.api_version}
        if "idempotency-key" in request.headers:
            headers |= {"idempotency-key": request.headers["idempotency-key"], "original-request": request_id}
        seen = Seen(request.method, request.path, {}, request.headers.get("idempotency-key"))
        self.seen.append(seen)
        try:
            response = await self._carry_out(request, receive, request_id, seen)
        except StripeError as error:
            response = _error_response(error, request_id)
        seen.status = response.status
        response.headers = headers | response.headers
        return response

    async def _carry_out(self, request: Request, receive: Receive, request_id: str, seen: Seen) -> Response:
        self._admit(request)
        seen.params = given = _given(request)
        route, args = self._route(request)
        fault = self.faults.take(request.method, request.path)
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            if fault is not None and not fault.after_the_work:
                raise_fault(fault)
            call = _judged(route, args, request, given, request_id)
            response = await self._once(route, call, given, fault, gone)
            if fault is not None and fault.kind == "lost_answer":
                raise Dropped
            if fault is not None and fault.kind == "hang_after":
                await self.faults.hang(fault, gone)
            return response
        finally:
            gone.cancel()

    def _admit(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise StripeError(401, "You did not provide an API key.")
        if key != self.world.settings.api_key:
            raise StripeError(401, f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[-4:]}")
        self._refuse_other_accounts(request)
        version = request.headers.get("stripe-version")
        if version is None and request.path.startswith("/v2/"):
            raise refused("Stripe-Version header is required.")
        if version not in (None, self.world.settings.api_version):
            raise refused(f"Invalid Stripe API version: {version}")

    def _refuse_other_accounts(self, request: Request) -> None:
        """The key opens its own account only, whatever a forged event says."""
        for header in ("stripe-account", "stripe-context"):
            account = request.headers.get(header, self.world.settings.account)
            if account != self.world.settings.account:
                message = f"The provided key does not have access to account '{account}'"
                raise StripeError(403, message, code="account_invalid")

    def _route(self, request: Request) -> tuple[Route, dict[str, str]]:
        found = self.router.find(request.method, request.path)
        if found is None:
            raise StripeError(404, f"Unrecognized request URL ({request.method}: {request.path}).")
        return found

    async def _once(
        self, route: Route, call: Call, given: Json, fault: Fault | None, gone: asyncio.Future[None]
    ) -> Response:
        """Carried out once for each idempotency key; an answer kept is given again."""
        key = call.idempotency_key
        if key is None:
            return await self._work(route, call, fault, gone)
        kept = self.keys.begin(key, call.path, given, self.world.now())
        if kept is not None:
            return _again(kept)
        try:
            response = await self._work(route, call, fault, gone)
        except BaseException:
            self.keys.forget(key)
            raise
        if response.status == UNFAITHFUL:
            self.keys.forget(key)
        else:
            self.keys.finish(key, response.status, response.body, call.request_id)
        return response

    async def _work(
        self, route: Route, call: Call, fault: Fault | None, gone: asyncio.Future[None]
    ) -> Response:
        if fault is not None and fault.kind == "hang":
            await self.faults.hang(fault, gone)
        return self._handled(route, call, fault)

    def _handled(self, route: Route, call: Call, fault: Fault | None) -> Response:
        world = self.world
        world.cause = Cause(call.request_id, call.idempotency_key)
        try:
            world.catch_up()
            answer = presented(world, route.handler(world, call), call.expand)
            if call.params.unserved:
                raise UnfaithfulAnswer(f"{call.path} does not serve {', '.join(call.params.unserved)}")
            if fault is not None and fault.kind == "server_error_after":
                raise_fault(fault)
            return json_response(200, answer)
        except StripeError as error:
            return _error_response(error, call.request_id)
        except Exception as error:
            self.unfaithful.append(traceback.format_exc())
            kind = "unfaithful" if isinstance(error, UnfaithfulAnswer) else type(error).__name__
            return json_response(UNFAITHFUL, {"error": {"type": "api_error", "message": f"{kind}: {error}"}})
        finally:
            world.cause = Cause()


# The stand-in itself is at fault: no answer of Stripe's has this status.
UNFAITHFUL = 599


def _given(request: Request) -> Json:
    if request.method != "POST":
        return decode_form(request.query)
    json_expected = request.path.startswith("/v2/")
    if request.body and request.content_type != (_JSON if json_expected else _FORM):
        raise refused(f"Invalid request content type: {request.content_type or 'none'}")
    return _json(request.body) if json_expected else decode_form(request.body.decode())


def _json(body: bytes) -> Json:
    try:
        content: Any = json.loads(body or b"{}")
    except ValueError:
        raise refused("Invalid JSON") from None
    if not isinstance(content, dict):
        raise refused("Invalid JSON")
    return content


def _judged(route: Route, args: dict[str, str], request: Request, given: Json, request_id: str) -> Call:
    key = request.headers.get("idempotency-key") if request.method == "POST" else None
    v2 = request.path.startswith("/v2/")
    place = {"page": given.pop("page")} if v2 and "page" in given else {}
    params = judge(route.params, given, json=v2 and request.method == "POST") | place
    expand = params.pop("expand", [])
    return Call(request.method, request.path, args, Params(params), request_id, key, expand)


def _again(kept: Kept) -> Response:
    headers = {"content-type": _JSON, "idempotent-replayed": "true", "original-request": kept.request_id}
    return Response(kept.status, kept.body, headers)


def _error_response(error: StripeError, request_id: str) -> Response:
    return json_response(error.status, error.envelope(request_id), error.headers)
