"""What `/auth` says of itself in the API reference; see `core.openapi.documentation`."""

from farebox.auth.errors import (
    ForgedRequest,
    InvalidLink,
    NotSignedIn,
    SignUpClosed,
    TooManyAttempts,
    WrongCredentials,
)
from farebox.auth.schemas import Accepted, Session, SessionOpened
from farebox.auth.sessions import cookie_name
from farebox.core.errors import BadRequest
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS, Content, Documentation, Reply
from farebox.core.settings import Settings

_EMAIL = "ada@example.com"
_PASSWORD = "correct horse battery staple"  # noqa: S105  an example
_LINK_TOKEN = "nV3qk0zJ8mYtR1wXc5aLbE7uHsPdGfQ2"  # noqa: S105  an example
_CSRF_TOKEN = "u0h2k1c5q8Vt3yZx"  # noqa: S105  an example
_BAD_EMAIL = BadRequest("This is not an e-mail address.", code="invalid_email", param="email")
_BAD_PASSWORD = BadRequest(
    "A password must have 12 to 128 characters.", code="invalid_password", param="password"
)
_DOOR_ERRORS = (*BODY_ERRORS, ForgedRequest(), TooManyAttempts(30), *SERVER_ERRORS)

_MAILED = Reply(
    description="Accepted: mail is on its way, if there is anything to say to this address.",
    status=202,
    contents=[
        Content(
            kind=Accepted,
            examples={
                "accepted": Accepted("Check your mail: we have sent you a message with what to do next.")
            },
        )
    ],
)
_OPENED = Reply(
    description="A session is open; its cookie is set.",
    headers=("Set-Cookie",),
    contents=[Content(kind=SessionOpened, examples={"opened": SessionOpened(_CSRF_TOKEN)})],
)

SIGN_UP = Documentation(
    request={
        "a person": {
            "email": _EMAIL,
            "password": _PASSWORD,
            "name": "Ada Lovelace",
            "organization": "Analytical Engines",
        }
    },
    replies=[_MAILED],
    errors=(*_DOOR_ERRORS, _BAD_EMAIL, _BAD_PASSWORD, SignUpClosed()),
)

SIGN_IN = Documentation(
    request={"a person": {"email": _EMAIL, "password": _PASSWORD}},
    replies=[_OPENED],
    errors=(*_DOOR_ERRORS, _BAD_EMAIL, WrongCredentials()),
)

VERIFICATION = Documentation(
    request={"a link": {"token": _LINK_TOKEN, "password": _PASSWORD}},
    replies=[_OPENED],
    errors=(*_DOOR_ERRORS, InvalidLink(), WrongCredentials()),
)

PASSWORD_RESET_REQUEST = Documentation(
    request={"an address": {"email": _EMAIL}},
    replies=[_MAILED],
    errors=(*_DOOR_ERRORS, _BAD_EMAIL),
)

PASSWORD_RESET = Documentation(
    request={"a link": {"token": _LINK_TOKEN, "password": _PASSWORD}},
    replies=[
        Reply(
            description="The password is set; every session has ended.", status=204, headers=("Set-Cookie",)
        )
    ],
    errors=(*BODY_ERRORS, ForgedRequest(), *SERVER_ERRORS, InvalidLink(), _BAD_PASSWORD),
)

SESSION = Documentation(
    replies=[
        Reply(
            description="Who is signed in.",
            contents=[
                Content(
                    kind=Session,
                    examples={
                        "an owner": Session(
                            user_id="user_0199d3eea2c47e1f8b6a90d3c5f71b28",
                            organization_id="org_0199d3eea2c57a60b1d27f4e8093ac65",
                            role="owner",
                            email=_EMAIL,
                            name="Ada Lovelace",
                            csrf_token=_CSRF_TOKEN,
                        )
                    },
                )
            ],
        )
    ],
    errors=(NotSignedIn(), *SERVER_ERRORS),
    security="session",
)

SIGN_OUT = Documentation(
    replies=[
        Reply(description="The session has ended; its cookie is gone.", status=204, headers=("Set-Cookie",))
    ],
    errors=(NotSignedIn(), ForgedRequest(), *SERVER_ERRORS),
    security="session",
)


def session_cookie(settings: Settings) -> dict[str, dict[str, str]]:
    """OpenAPI's description of the cookie that signing in sets."""
    return {
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie_name(settings),
            "description": "The cookie that signing in sets; unsafe methods also need `X-CSRF-Token`.",
        }
    }
