"""Stripe's errors, as it words and shapes them. Source: Stripe's API reference, "Errors"."""

from typing import Any

Json = dict[str, Any]

_DOCUMENTATION = "https://stripe.com/docs/error-codes/"


class StripeError(Exception):
    """What a request is answered with instead of an object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.fields: Json = {"code": code, "message": message, "param": param, "type": type, **more}
        if code is not None:
            self.fields["doc_url"] = _DOCUMENTATION + code.replace("_", "-")

    def envelope(self, request_id: str) -> Json:
        fields = {name: value for name, value in self.fields.items() if value is not None}
        log = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": {**fields, "request_log_url": log}}


class UnfaithfulAnswer(AssertionError):
    """The stand-in was about to send what Stripe would not: a fault of the stand-in, never of its caller."""


def refused(message: str, *, param: str | None = None, code: str | None = None, **more: Any) -> StripeError:
    """400: the request cannot be carried out as it stands."""
    return StripeError(400, message, param=param, code=code, **more)


def missing(noun: str, identifier: str, param: str = "id") -> StripeError:
    """404: no object of that kind has that id, in this account and mode."""
    return StripeError(404, f"No such {noun}: '{identifier}'", code="resource_missing", param=param)


def card_error(code: str, message: str, **more: Any) -> StripeError:
    """402: the bank or the card's holder has to agree, and did not."""
    return StripeError(402, message, type="card_error", code=code, **more)
