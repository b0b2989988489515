"""The bodies of `/auth/…`. Contents are judged by `tenants.text`, alike for JSON and for forms."""

from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=1000)]


class SignUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`password` has 12 to 128 characters, the names 1 to 100."""

    email: Text
    password: Text
    name: Text
    organization: Text


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Text
    password: Text


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token of a mailed link, and the password chosen at sign-up."""

    token: Text
    password: Text


class ResetRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Text


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token of a mailed link, and the new password."""

    token: Text
    password: Text


class Accepted(msgspec.Struct, frozen=True):
    """The same words whether or not the address has an account."""

    message: str


class Session(msgspec.Struct, frozen=True):
    """Who is signed in. Unsafe requests with the cookie carry `csrf_token` in `X-CSRF-Token`."""

    user_id: str
    organization_id: str
    role: str
    email: str
    name: str
    csrf_token: str


class SessionOpened(msgspec.Struct, frozen=True):
    """The cookie is set; `csrf_token` is what unsafe requests with it carry in `X-CSRF-Token`."""

    csrf_token: str
