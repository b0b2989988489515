"""Rendering: one Jinja environment, one set of headers for every page."""

from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response
from litestar.response import Redirect

from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.dashboard import formats
from farebox.dashboard.assets import asset_url
from farebox.dashboard.frame import Frame

# Nothing inline, nothing from elsewhere. `same-origin` and not `no-referrer`: with the latter a browser
# sends `Origin: null` with our own forms, and the Origin check would refuse them.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}

_templates = Environment(
    loader=PackageLoader("farebox.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["asset"] = asset_url
_templates.filters |= {
    "external": lambda value, prefix: external(prefix, value),
    "money": formats.money,
    "money_brief": formats.money_brief,
    "money_left": formats.money_left,
    "plain": plain,
    "count": formats.count,
    "count_brief": formats.count_brief,
    "moment": formats.moment,
    "day": formats.day,
    "seconds": formats.seconds,
}


def page(template: str, *, status: int = 200, **values: Any) -> Response[str]:
    """A template as a response; a name the template uses and `values` lacks is an error."""
    html = _templates.get_template(template).render(**values)
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=HEADERS)


async def framed_page(
    printers: FairThreads, template: str, *, frame: Frame, status: int = 200, **values: Any
) -> Response[str]:
    """`page` in a thread: what a tenant has may be long, and one tenant's pages wait for none of another's.

    To be called outside of transactions: others need the connection meanwhile.
    """
    draw = partial(page, template, status=status, frame=frame, **values)
    return await printers.run(frame.person.organization_id, draw)


def redirect(path: str) -> Redirect:
    """On to another page, by GET whatever the method was."""
    return Redirect(path, status_code=303, headers=HEADERS)
