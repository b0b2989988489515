"""A family of objects says here which requests it answers, what it adds on `expand`, what it listens to."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.world import Duty, Include, Listener, World


class Params(dict[str, Any]):
    """Notes which parameters were looked at: one that nobody looked at was not served."""

    def __init__(self, given: Json) -> None:
        super().__init__(given)
        self.looked_at: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.looked_at.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.looked_at.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.looked_at.add(name)
        return super().get(name, default)

    @property
    def unserved(self) -> list[str]:
        return [name for name in self if name not in self.looked_at]


@dataclass
class Call:
    """One request that was judged. `params` has the types that its declaration gives it."""

    method: str
    path: str
    args: dict[str, str]
    params: Params
    request_id: str
    idempotency_key: str | None = None
    expand: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        """A part of the path."""
        return self.args[name]


Handler = Callable[[World, Call], Json]


@dataclass(frozen=True)
class Route:
    method: str
    template: str
    params: Any
    handler: Handler

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.template))


class Family:
    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.listeners: list[tuple[str, Listener]] = []
        self.includes: dict[tuple[str, str], Include] = {}
        self.duties: list[Duty] = []

    def get(self, template: str, params: Any) -> Callable[[Handler], Handler]:
        return self._route("GET", template, params)

    def post(self, template: str, params: Any) -> Callable[[Handler], Handler]:
        return self._route("POST", template, params)

    def delete(self, template: str, params: Any) -> Callable[[Handler], Handler]:
        return self._route("DELETE", template, params)

    def listens(self, *event_types: str) -> Callable[[Listener], Listener]:
        """To be called right after an event of those types was written, with its object."""

        def note(listener: Listener) -> Listener:
            self.listeners.extend((event_type, listener) for event_type in event_types)
            return listener

        return note

    def due(self, duty: Duty) -> Duty:
        """To be called whenever time may have passed."""
        self.duties.append(duty)
        return duty

    def join(self, world: World) -> None:
        """Take part in an account's life."""
        for event_type, listener in self.listeners:
            world.listeners[event_type].append(listener)
        world.includes |= self.includes
        world.duties += self.duties

    def included(self, kind: str, name: str) -> Callable[[Include], Include]:
        """What a field holds that is left out unless `expand` asks for it."""

        def note(include: Include) -> Include:
            self.includes[kind, name] = include
            return include

        return note

    def _route(self, method: str, template: str, params: Any) -> Callable[[Handler], Handler]:
        def note(handler: Handler) -> Handler:
            self.routes.append(Route(method, template, params, handler))
            return handler

        return note


class Router:
    """All families together."""

    def __init__(self, families: list[Family]) -> None:
        self.routes = [route for family in families for route in family.routes]
        self._patterns = [(route.pattern, route) for route in self.routes]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route whose fixed parts fit best: `/invoices/create_preview` before `/invoices/{id}`."""
        fitting = [
            (len(match.groupdict()), route, match.groupdict())
            for pattern, route in self._patterns
            if route.method == method and (match := pattern.fullmatch(path))
        ]
        if not fitting:
            return None
        _, route, args = min(fitting, key=lambda found: found[0])
        return route, args
