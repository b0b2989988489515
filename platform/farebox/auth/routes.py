"""`/auth/…`: the doors for people, in JSON. The dashboard's forms call the same services."""

from litestar import Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from farebox.auth import csrf, devices, service, sessions
from farebox.auth.credentials import NewSession
from farebox.auth.dependencies import Client, SignedIn, provide_client, provide_signed_in
from farebox.auth.documentation import (
    PASSWORD_RESET,
    PASSWORD_RESET_REQUEST,
    SESSION,
    SIGN_IN,
    SIGN_OUT,
    SIGN_UP,
    VERIFICATION,
)
from farebox.auth.passwords import PasswordHasher
from farebox.auth.schemas import (
    Accepted,
    Reset,
    ResetRequest,
    Session,
    SessionOpened,
    SignIn,
    SignUp,
    Verification,
)
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.core.settings import Settings

CHECK_YOUR_MAIL = "Check your mail: we have sent you a message with what to do next."


@post("/signup", status_code=202, summary="Sign up", operation_id="signUp", opt={"documentation": SIGN_UP})
async def sign_up(
    data: JSONBody[SignUp],
    client: NamedDependency[Client],
    database: NamedDependency[Database],
    passwords: NamedDependency[PasswordHasher],
    settings: NamedDependency[Settings],
) -> Accepted:
    """Make an account with an organization; the answer does not tell whether the address had one."""
    await service.sign_up(
        database,
        passwords,
        settings,
        email=data.email,
        password=data.password,
        name=data.name,
        organization=data.organization,
        address=client.address,
    )
    return Accepted(CHECK_YOUR_MAIL)


@post("/signin", status_code=200, summary="Sign in", operation_id="signIn", opt={"documentation": SIGN_IN})
async def sign_in(
    data: JSONBody[SignIn],
    client: NamedDependency[Client],
    database: NamedDependency[Database],
    passwords: NamedDependency[PasswordHasher],
    settings: NamedDependency[Settings],
) -> Response[SessionOpened]:
    """Open a session and set its cookie."""
    opened = await service.sign_in(
        database,
        passwords,
        settings,
        email=data.email,
        password=data.password,
        address=client.address,
        device=client.device,
        replaces=client.token,
    )
    return _welcome(settings, opened)


@post(
    "/verify",
    status_code=200,
    summary="Confirm an e-mail address",
    operation_id="verifyEmail",
    opt={"documentation": VERIFICATION},
)
async def verify_email(
    data: JSONBody[Verification],
    client: NamedDependency[Client],
    database: NamedDependency[Database],
    passwords: NamedDependency[PasswordHasher],
    settings: NamedDependency[Settings],
) -> Response[SessionOpened]:
    """Confirm the address that a link was mailed to, and sign in."""
    opened = await service.verify_email(
        database,
        passwords,
        token=data.token,
        password=data.password,
        address=client.address,
        replaces=client.token,
    )
    return _welcome(settings, opened)


@post(
    "/forgot",
    status_code=202,
    summary="Ask for a password reset",
    operation_id="requestPasswordReset",
    opt={"documentation": PASSWORD_RESET_REQUEST},
)
async def request_password_reset(
    data: JSONBody[ResetRequest], client: NamedDependency[Client], database: NamedDependency[Database]
) -> Accepted:
    """Have a link mailed; the answer does not tell whether the address has an account."""
    await service.request_password_reset(database, email=data.email, address=client.address)
    return Accepted(CHECK_YOUR_MAIL)


@post(
    "/reset",
    status_code=204,
    summary="Set a new password",
    operation_id="resetPassword",
    opt={"documentation": PASSWORD_RESET},
)
async def reset_password(
    data: JSONBody[Reset],
    client: NamedDependency[Client],
    database: NamedDependency[Database],
    passwords: NamedDependency[PasswordHasher],
    settings: NamedDependency[Settings],
) -> Response[None]:
    """Set a new password by a mailed link. Every session of the user ends."""
    device = await service.reset_password(database, passwords, token=data.token, password=data.password)
    return Response(None, cookies=[devices.cookie(settings, device)])


@get(
    "/session",
    dependencies={"signed_in": Provide(provide_signed_in)},
    summary="Who is signed in",
    operation_id="getSession",
    opt={"documentation": SESSION},
)
async def show_session(signed_in: NamedDependency[SignedIn]) -> Session:
    """The person and the organization behind the cookie."""
    return Session(
        user_id=external("user", signed_in.user_id),
        organization_id=external("org", signed_in.organization_id),
        role=signed_in.role,
        email=signed_in.email,
        name=signed_in.name,
        csrf_token=signed_in.csrf_token,
    )


@post(
    "/signout",
    status_code=204,
    dependencies={"signed_in": Provide(provide_signed_in)},
    summary="Sign out",
    operation_id="signOut",
    opt={"documentation": SIGN_OUT},
)
async def sign_out(
    signed_in: NamedDependency[SignedIn],
    client: NamedDependency[Client],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[None]:
    """End the session and take its cookie away; needs the CSRF token, as a header or a form field."""
    await service.sign_out(database, client.token or "")
    return Response(None, cookies=[sessions.expired_cookie(settings)])


def _welcome(settings: Settings, opened: NewSession) -> Response[SessionOpened]:
    return Response(
        SessionOpened(csrf.token_for(opened.token)),
        cookies=[sessions.cookie(settings, opened.token), devices.cookie(settings, opened.device)],
    )


router = Router(
    path="/auth",
    route_handlers=[
        sign_up,
        sign_in,
        sign_out,
        verify_email,
        request_password_reset,
        reset_password,
        show_session,
    ],
    dependencies={"client": Provide(provide_client)},
    response_headers={"Cache-Control": "no-store"},
    tags=["Accounts"],
)
