"""The Idempotency-Key: the first answer is kept and given again. Source: Stripe's API reference."""

from dataclasses import dataclass

from tests.stripe_server.wire.errors import Json, StripeError

_KEPT_SECONDS = {"v1": 24 * 3600, "v2": 30 * 24 * 3600}
_LONGEST = 255


@dataclass
class Kept:
    path: str
    params: Json
    at: int
    status: int = 0
    body: bytes = b""
    request_id: str = ""

    @property
    def in_progress(self) -> bool:
        return self.status == 0


class IdempotencyKeys:
    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def begin(self, key: str, path: str, params: Json, now: int) -> Kept | None:
        """The answer to give again, or None for a first request, which must `finish` or `forget`.

        Raises StripeError where the key was used for something else or is in use.
        """
        if len(key) > _LONGEST:
            raise StripeError(400, "Idempotency keys can be up to 255 characters", type="idempotency_error")
        kept = self._kept.get(key)
        if kept is None or now - kept.at > _KEPT_SECONDS[path.split("/")[1]]:
            self._kept[key] = Kept(path, params, now)
            return None
        _refuse_other_use(kept, key, path, params)
        return kept

    def finish(self, key: str, status: int, body: bytes, request_id: str) -> None:
        kept = self._kept[key]
        kept.status, kept.body, kept.request_id = status, body, request_id

    def forget(self, key: str) -> None:
        del self._kept[key]


def _refuse_other_use(kept: Kept, key: str, path: str, params: Json) -> None:
    if kept.path != path:
        raise StripeError(
            400,
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{path}' vs '{kept.path}'). Try using a key other than '{key}' if you meant to execute a "
            "different request.",
            type="idempotency_error",
        )
    if kept.params != params:
        raise StripeError(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used "
            f"with. Try using a key other than '{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    if kept.in_progress:
        raise StripeError(
            409,
            f"There is currently another in-progress request using this Idempotent Key ({key}).",
            type="idempotency_error",
            code="idempotency_key_in_use",
        )
