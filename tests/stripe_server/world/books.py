"""Every object of one account in test mode, in the order of their making."""

import secrets
import string
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.stripe_server.wire.errors import Json, missing, refused
from tests.stripe_server.world.kinds import KINDS
from tests.stripe_server.world.shapes import complete, fields

_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24


def new_token(length: int = _ID_LENGTH) -> str:
    """Random, as objects of several runs may meet in one database of ours."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Books:
    """What the account holds. `facts` has what Stripe knows of an object and never shows."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, Json]] = defaultdict(dict)
        self._by_id: dict[str, Json] = {}
        self.facts: dict[str, Json] = defaultdict(dict)

    def add(self, kind: str, created: int | str, **values: Any) -> Json:
        """A new object, completed. Raises UnfaithfulAnswer for fields amiss."""
        known = fields(KINDS[kind].klass)
        common: Json = {
            "id": f"{KINDS[kind].prefix}_{new_token()}",
            "object": kind,
            "created": created,
            "livemode": False,
            "metadata": {},
        }
        given = {name: value for name, value in common.items() if name in known} | values
        made = complete(KINDS[kind].klass, given)
        self._kinds[kind][made["id"]] = made
        self._by_id[made["id"]] = made
        return made

    def get(self, kind: str, identifier: str, param: str = "id") -> Json:
        """Raises StripeError, as Stripe does for what it does not know."""
        try:
            return self._kinds[kind][identifier]
        except KeyError:
            raise missing(KINDS[kind].noun, identifier, param) from None

    def referred(self, kind: str, params: Json, param: str) -> Json:
        """The object that a parameter names; that it names none is a 400 in Stripe's words."""
        if params[param] not in self._kinds[kind]:
            noun = KINDS[kind].noun
            raise refused(f"No such {noun}: '{params[param]}'", code="resource_missing", param=param)
        return self._kinds[kind][params[param]]

    def find(self, identifier: str) -> Json | None:
        return self._by_id.get(identifier)

    def remove(self, kind: str, identifier: str) -> None:
        del self._kinds[kind][identifier], self._by_id[identifier]

    def newest_first(self, kind: str) -> Iterator[Json]:
        return iter(list(reversed(self._kinds[kind].values())))

    def oldest_first(self, kind: str, **equal: Any) -> list[Json]:
        """Those whose fields equal what is given."""
        every = list(self._kinds[kind].values())
        return [each for each in every if all(each[name] == value for name, value in equal.items())]
