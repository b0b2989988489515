"""Jinja's filters, with a look at how much they are about to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from jinja2.environment import Environment
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.utils import pass_environment

from farebox_engine.errors import TemplateError
from farebox_engine.tokenization.templates.functions import MAX_MARGIN
from farebox_engine.tokenization.templates.marked_text import MarkedText
from farebox_engine.tokenization.templates.rendering import (
    check_conversions,
    check_join,
    check_replace,
    check_size,
    check_widths,
    current,
    searched,
)
from farebox_engine.tokenization.templates.weights import CONTAINERS

Filter = Callable[..., Any]

# Their time grows with the square of a text, and no template of a model has use for them.
_LEFT_OUT = ("urlize", "xmlattr", "pprint")
# They look at characters one by one, or make others of them.
_SPELL_ANEW = (
    *("e", "escape", "filesizeformat", "float", "forceescape", "int"),
    *("striptags", "title", "urlencode", "wordcount", "wordwrap"),
)


def bounded(filters: Mapping[str, Filter]) -> dict[str, Filter]:
    """Jinja's own `filters` by name, those that could write without bound checked."""
    found = {name: function for name, function in filters.items() if name not in _LEFT_OUT}
    for name in ("center", "batch", "slice"):
        found[name] = _after(found[name], lambda *given: check_widths(given))
    found["format"] = _after(found["format"], _check_format)
    found["indent"] = _after(found["indent"], _check_indent)
    found["replace"] = _replace
    found["safe"] = _safe(found["safe"])
    found["sum"] = _after(found["sum"], _check_sum)
    found["wordwrap"] = _after(found["wordwrap"], _check_wordwrap)
    found["join"] = _join(found["join"])
    return found | {name: _of_plain(found[name]) for name in _SPELL_ANEW if name in found}


def _after(function: Filter, check: Callable[..., None]) -> Filter:
    """A filter that first has its arguments looked at, those by name after the others."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        check(*args, *kwargs.values())
        return function(*args, **kwargs)

    return run


def _of_plain(function: Filter) -> Filter:
    """A filter that reads a user's text as it is, and gives nothing but a user's text."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        rendering = current.get(None)
        if rendering is None or not any(isinstance(arg, (MarkedText, *CONTAINERS)) for arg in args):
            return function(*args, **kwargs)
        marking = rendering.marking
        made = function(*map(marking.unmark, args), **kwargs)
        return type(made)(marking.made_of(str(made))) if isinstance(made, str) else made

    return run


def _safe(function: Filter) -> Filter:
    """Nothing is escaped, so that what is marked as safe is what it was: a user's text stays a user's."""

    @wraps(function)
    def run(value: Any) -> Any:
        return value if isinstance(value, MarkedText) else function(value)

    return run


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(s), str(old), str(new)
    check_replace(text, old, new)
    return str(searched(text).replace(old, new, -1 if count is None else count))


def _check_format(pattern: str, *values: Any) -> None:
    check_conversions(str(pattern), values)


def _check_indent(text: str, width: int | str = 4, *__: Any) -> None:
    margin = width if isinstance(width, int) else len(width)
    if margin > MAX_MARGIN:
        raise TemplateError("The chat template indents too far.")
    check_size(len(text) + (text.count("\n") + 1) * margin)


def _check_sum(*given: Any) -> None:
    if len(given) > 2 and not all(isinstance(value, (int, float, str)) for value in given[2:]):
        raise TemplateError("The chat template adds up what are no numbers.")


def _check_wordwrap(_: object, text: str, *rest: Any) -> None:
    longest = max((len(value) for value in rest if isinstance(value, str)), default=1)
    check_size(len(text) * (1 + longest))


def _join(function: Filter) -> Filter:
    @pass_environment
    def run(environment: Environment, value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        items = list(value if attribute is None else map(make_attrgetter(environment, attribute), value))
        check_join(d, items)
        joined: str = function(EvalContext(environment), items, d)
        return joined

    return run
