"""Sign-up, sign-in, sign-out, forgotten passwords, confirmed addresses."""

from typing import Annotated, Any

import msgspec
from litestar import Response, Router, get, post
from litestar.connection import Request
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, QueryParameter
from litestar.response import Redirect

from farebox.auth import devices, service, sessions
from farebox.auth.credentials import NewSession
from farebox.auth.dependencies import SignedIn, device_token, session_token
from farebox.auth.errors import InvalidLink
from farebox.auth.links import Purpose
from farebox.auth.passwords import PasswordHasher
from farebox.core.database import Database
from farebox.core.errors import FareboxError
from farebox.core.settings import Settings
from farebox.dashboard.filled_form import EMPTY, FilledForm, refused
from farebox.dashboard.forms import EmailForm, LinkForm, SignInForm, SignUpForm, fill_in, read_typed
from farebox.dashboard.pages import page, redirect
from farebox.dashboard.pre_session import PreSession, provide_pre_session

Passwords = NamedDependency[PasswordHasher]
LinkToken = Annotated[str, QueryParameter(max_length=200)]

_CHECK_MAIL = "Check your mail: we have sent you a message with what to do next."


def _form_page(name: str, pre_session: PreSession, form: FilledForm = EMPTY, **values: Any) -> Response[Any]:
    drawn = page(f"account/{name}.html", status=form.status, person=pre_session, form=form, **values)
    response = pre_session.remember(drawn)
    response.headers.update(form.headers)
    return response


async def _link_page(
    purpose: Purpose, pre_session: PreSession, database: Database, token: str
) -> Response[Any]:
    """The form behind a mailed link, or at once that the link has been used or has expired."""
    try:
        await service.check_link(database, token, purpose)
    except InvalidLink as error:
        return _form_page("dead_link", pre_session, refused({}, error, LinkForm), purpose=purpose)
    return _form_page(purpose, pre_session, FilledForm(typed={"token": token}))


def _welcome(settings: Settings, opened: NewSession, path: str = "/overview") -> Redirect:
    response = redirect(path)
    response.cookies += [sessions.cookie(settings, opened.token), devices.cookie(settings, opened.device)]
    return response


@get("/sign-up")
async def sign_up_page(
    pre_session: NamedDependency[PreSession], settings: NamedDependency[Settings]
) -> Response[Any]:
    return _form_page("sign_up", pre_session, closed=settings.sign_up == "closed")


@post("/sign-up")
async def sign_up(
    request: Request[Any, Any, Any],
    pre_session: NamedDependency[PreSession],
    database: NamedDependency[Database],
    passwords: Passwords,
    settings: NamedDependency[Settings],
) -> Response[Any]:
    typed = await read_typed(request)
    try:
        form = fill_in(typed, SignUpForm)
        await service.sign_up(
            database, passwords, settings, **msgspec.structs.asdict(form), address=pre_session.address
        )
    except FareboxError as error:
        filled = refused(typed, error, SignUpForm)
        return _form_page("sign_up", pre_session, filled, closed=settings.sign_up == "closed")
    return _form_page(
        "notice", pre_session, heading="Almost there", message=_CHECK_MAIL, link=not settings.smtp_url
    )


@get("/sign-in")
async def sign_in_page(
    pre_session: NamedDependency[PreSession],
    next: FromQuery[str] = "",  # noqa: A002
    ended: FromQuery[bool] = False,
) -> Response[Any]:
    return _form_page("sign_in", pre_session, FilledForm(typed={"next": next}), ended=ended)


@post("/sign-in")
async def sign_in(
    request: Request[Any, Any, Any],
    pre_session: NamedDependency[PreSession],
    database: NamedDependency[Database],
    passwords: Passwords,
    settings: NamedDependency[Settings],
) -> Response[Any]:
    typed = await read_typed(request)
    try:
        form = fill_in(typed, SignInForm)
        opened = await service.sign_in(
            database,
            passwords,
            settings,
            email=form.email,
            password=form.password,
            address=pre_session.address,
            device=device_token(request, settings),
            replaces=session_token(request, settings),
        )
    except FareboxError as error:
        return _form_page("sign_in", pre_session, refused(typed, error, SignInForm), ended=False)
    return _welcome(settings, opened, _own_path(form.next))


@post("/sign-out")
async def sign_out(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Redirect:
    await service.sign_out(database, session_token(request, settings) or "")
    response = redirect("/sign-in")
    response.cookies.append(sessions.expired_cookie(settings))
    return response


@get("/forgot")
async def forgot_page(pre_session: NamedDependency[PreSession]) -> Response[Any]:
    return _form_page("forgot", pre_session)


@post("/forgot")
async def forgot(
    request: Request[Any, Any, Any],
    pre_session: NamedDependency[PreSession],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    typed = await read_typed(request)
    try:
        form = fill_in(typed, EmailForm)
        await service.request_password_reset(database, email=form.email, address=pre_session.address)
    except FareboxError as error:
        return _form_page("forgot", pre_session, refused(typed, error, EmailForm))
    return _form_page(
        "notice", pre_session, heading="Check your mail", message=_CHECK_MAIL, link=not settings.smtp_url
    )


@get("/reset")
async def reset_page(
    pre_session: NamedDependency[PreSession], database: NamedDependency[Database], token: LinkToken = ""
) -> Response[Any]:
    return await _link_page("reset", pre_session, database, token)


@post("/reset")
async def reset(
    request: Request[Any, Any, Any],
    pre_session: NamedDependency[PreSession],
    database: NamedDependency[Database],
    passwords: Passwords,
    settings: NamedDependency[Settings],
) -> Response[Any]:
    typed = await read_typed(request)
    try:
        form = fill_in(typed, LinkForm)
        device = await service.reset_password(database, passwords, token=form.token, password=form.password)
    except FareboxError as error:
        return _form_page("reset", pre_session, refused(typed, error, LinkForm))
    response = _form_page(
        "notice", pre_session, heading="Done", message="Your password is changed.", link=False
    )
    response.cookies.append(devices.cookie(settings, device))
    return response


@get("/verify")
async def verify_page(
    pre_session: NamedDependency[PreSession], database: NamedDependency[Database], token: LinkToken = ""
) -> Response[Any]:
    return await _link_page("verify", pre_session, database, token)


@post("/verify")
async def verify(
    request: Request[Any, Any, Any],
    pre_session: NamedDependency[PreSession],
    database: NamedDependency[Database],
    passwords: Passwords,
    settings: NamedDependency[Settings],
) -> Response[Any]:
    typed = await read_typed(request)
    try:
        form = fill_in(typed, LinkForm)
        opened = await service.verify_email(
            database,
            passwords,
            token=form.token,
            password=form.password,
            address=pre_session.address,
            replaces=session_token(request, settings),
        )
    except FareboxError as error:
        return _form_page("verify", pre_session, refused(typed, error, LinkForm))
    return _welcome(settings, opened)


def _own_path(path: str) -> str:
    """`next` as a path on this site, or the overview: never another site's address."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/overview"


router = Router(
    path="/",
    route_handlers=[
        sign_up_page,
        sign_up,
        sign_in_page,
        sign_in,
        forgot_page,
        forgot,
        reset_page,
        reset,
        verify_page,
        verify,
    ],
    dependencies={"pre_session": Provide(provide_pre_session)},
)
