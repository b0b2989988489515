"""The dashboard's router, mounted at `/`: pages in HTML, errors as pages, assets under `/static`."""

from litestar import Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from farebox.auth.dependencies import provide_signed_in
from farebox.core.errors import FareboxError
from farebox.dashboard import account, billing
from farebox.dashboard.api_keys import keys_page, make_key, revoke
from farebox.dashboard.assets import asset
from farebox.dashboard.errors import error_page
from farebox.dashboard.limits import change_limits, key_limits_page, limits_page, make_project
from farebox.dashboard.overview import overview_page
from farebox.dashboard.pages import redirect
from farebox.dashboard.price_list import models_page
from farebox.dashboard.reference import reference_page


@get("/")
async def home() -> Redirect:
    return redirect("/overview")


pages = Router(
    path="/",
    route_handlers=[
        home,
        overview_page,
        keys_page,
        make_key,
        revoke,
        models_page,
        limits_page,
        key_limits_page,
        change_limits,
        make_project,
        billing.billing_page,
        billing.order,
        billing.to_checkout,
        billing.save_automatic,
        billing.to_portal,
        reference_page,
        account.sign_out,
        account.router,
    ],
    dependencies={"signed_in": Provide(provide_signed_in)},
    exception_handlers={FareboxError: error_page, HTTPException: error_page, Exception: error_page},
    include_in_schema=False,
)

router = Router(path="/", route_handlers=[pages, asset])
