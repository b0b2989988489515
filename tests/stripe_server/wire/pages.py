"""Pages that people meet at Stripe, as plain forms."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qs

from tests.stripe_server.wire.errors import StripeError
from tests.stripe_server.wire.http import Request, Response
from tests.stripe_server.world.world import World

Fields = dict[str, str]


@dataclass(frozen=True)
class Shown:
    """A page, with the status of its answer."""

    title: str
    body: str
    status: int = 200


@dataclass(frozen=True)
class SentOn:
    """A redirect."""

    url: str


@dataclass(frozen=True)
class Page:
    """`shown` answers a GET and `posted` its form's POST; both get the id in the path."""

    path: str
    shown: Callable[[World, str], Shown]
    posted: Callable[[World, str, Fields], Shown | SentOn]


_LAYOUT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui;max-width:32rem;margin:3rem auto;padding:0 1rem}}
label,button{{display:block;margin:.5rem 0}}button{{padding:.5rem 1rem}}</style></head>
<body><h1>{title}</h1>{body}<p><small>A stand-in for Stripe. No money moves here.</small></p></body></html>
"""


def serve_page(world: World, pages: list[Page], request: Request) -> Response:
    for page in pages:
        match = re.fullmatch(re.escape(page.path) + "/([^/]+)", request.path)
        if match is not None:
            return _served(world, page, match[1], request)
    return _response(Shown("Not found", "<p>There is no such page.</p>", 404))


def _served(world: World, page: Page, identifier: str, request: Request) -> Response:
    world.catch_up()
    try:
        if request.method != "POST":
            return _response(page.shown(world, identifier))
        fields = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        return _response(page.posted(world, identifier, fields))
    except StripeError as error:
        return _response(Shown("Something went wrong", f"<p>{escape(str(error))}</p>", error.status))


def _response(result: Shown | SentOn) -> Response:
    if isinstance(result, SentOn):
        return Response(303, b"", {"location": result.url})
    html = _LAYOUT.format(title=escape(result.title), body=result.body)
    return Response(result.status, html.encode(), {"content-type": "text/html; charset=utf-8"})


def form(*controls: str) -> str:
    return f'<form method="post">{"".join(controls)}</form>'


def button(action: str, text: str) -> str:
    return f'<button name="action" value="{escape(action)}">{escape(text)}</button>'


def choice(name: str, label: str, options: dict[str, str]) -> str:
    listed = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items()
    )
    return f'<label>{escape(label)} <select name="{escape(name)}">{listed}</select></label>'


def text_field(name: str, label: str, value: str = "", kind: str = "text") -> str:
    return (
        f'<label>{escape(label)} <input name="{escape(name)}" type="{kind}" value="{escape(value)}"></label>'
    )
