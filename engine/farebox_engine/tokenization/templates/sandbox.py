"""Jinja as `transformers` sets it up for chat templates, less what can eat memory or time."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import BuiltinMethodType, GeneratorType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from farebox_engine.errors import TemplateError
from farebox_engine.tokenization.templates import functions, rendering
from farebox_engine.tokenization.templates.filters import bounded
from farebox_engine.tokenization.templates.marked_text import MarkedText

_TICK = "_farebox_tick"
_TAKE = "_farebox_take"
_TIMED = "_farebox_timed"
_SEARCHED = "_farebox_searched"
_CONCATENATED = "_farebox_concatenated"
_MAX_NUMBER = 2**32
_LOSE_MARKS = frozenset({"encode", "striptags", "unescape"})
_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill"})


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles templates. They run within the bounds of the `rendering.current` one."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(rendering.joined)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, loopcontrols],
            finalize=rendering.written,
        )
        self.filters = bounded(self.filters) | {"tojson": functions.to_json}
        self.filters = {name: _taken(function) for name, function in self.filters.items()}
        self.filters |= {
            _TAKE: rendering.take,
            _TIMED: rendering.timed,
            _SEARCHED: _searched,
            _CONCATENATED: rendering.concatenated,
        }
        self.tests["in"] = lambda value, found: value in rendering.searched(found)
        self.globals |= {
            "raise_exception": functions.raise_exception,
            "strftime_now": functions.strftime_now,
            "namespace": _Namespace,
            _TICK: rendering.tick,
        }
        self.globals.pop("lipsum")

    def compile_bounded(self, source: str) -> Any:
        """Code that checks the clock in each loop and macro. Raises what Jinja raises."""
        tree = self.parse(source)
        bodies = [loop.body for loop in tree.find_all(nodes.For)]
        bodies += [macro.body for macro in tree.find_all(nodes.Macro)]
        for body in bodies:
            tick = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
            body.insert(0, nodes.ExprStmt(tick).set_lineno(tree.lineno))
        _TakeMade().visit(tree)
        # Jinja compiles a changed tree as well as a text; its stubs know only the latter.
        return self.compile(tree.set_environment(self))  # type: ignore[call-overload]

    def wrap_str_format(self, value: Any) -> Any:
        """A text's own `format`, within bounds."""
        if not isinstance(value, (MethodType, BuiltinMethodType)):
            return None
        owner, name = value.__self__, value.__name__
        if not isinstance(owner, str) or name not in {"format", "format_map"}:
            return None
        if isinstance(owner, Markup):
            raise TemplateError("The chat template formats a text that it marked as safe.")

        def run(*args: Any, **kwargs: Any) -> str:
            if name == "format_map":
                (kwargs,), args = args, ()
            return rendering.BoundedFormatter(self).vformat(owner, args, kwargs)

        return run

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as Jinja's
        rendering.tick()
        rendering.check_weights((*args, *kwargs.values()))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = _checked(owner, __obj.__name__, args, kwargs)
            if any(isinstance(arg, MarkedText) for arg in args):
                __obj = getattr(rendering.searched(owner), __obj.__name__)
        return rendering.take(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Nor is what would make new characters of a user's text, without a way to tell whose they are."""
        lost = isinstance(obj, str) and attr in _LOSE_MARKS
        return not lost and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operation(operator, left, right)
        return rendering.take(super().call_binop(context, operator, left, right))


class _GenerationBlock(Extension):
    """`{% generation %}`, with which training marks the assistant's words; here only its body counts.

    A block of its own, so that what is set in it is unknown after it, as in `transformers`.
    """

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("written"), [], [], body).set_lineno(line)

    def written(self, caller: Callable[[], str]) -> str:
        return caller()


class _TakeMade(NodeTransformer):
    """Has what is made otherwise than by calls and filters go by the rendering, too."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # named by Jinja
        self.generic_visit(node)
        return _filtered(_filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCATENATED), _TAKE)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  # named by Jinja
        self.generic_visit(node)
        return _filtered(node, _TAKE)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  # named by Jinja
        self.generic_visit(node)
        return _filtered(node, _TAKE)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  # named by Jinja
        self.generic_visit(node)
        return _filtered(node, _TAKE) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802  # named by Jinja
        self.generic_visit(node)
        return _filtered(node, _TIMED)

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:  # noqa: N802  # named by Jinja
        listed = isinstance(node.expr, nodes.List | nodes.Tuple)
        self.generic_visit(node)
        if node.op in {"in", "notin"} and not listed:
            node.expr = _filtered(node.expr, _SEARCHED)
        return node


@pass_context  # so that it is no constant, where a constant is looked through
def _searched(_: Context, value: Any) -> Any:
    return rendering.searched(value)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Namespace(Namespace):
    """Jinja's, without names that lead into Python, as in `transformers`."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        attributes = dict(*given, **kwargs)
        for name in attributes:
            _refuse_private(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        """Without what is in it: that may hold others, and these again others."""
        return "<Namespace>"


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"A namespace takes no name like {name!r}.")


def _checked(owner: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a method of a text, for which its result stays small enough."""
    if method in _WIDTHS:
        rendering.check_widths((*args, *kwargs.values()))
    elif method == "expandtabs":
        size = next((n for n in (*args, *kwargs.values()) if isinstance(n, int)), 8)
        rendering.check_size(len(owner) + owner.count("\t") * size)
    elif method == "join" and args:
        items = list(args[0])
        rendering.check_join(owner, items)
        return (items, *args[1:])
    elif method == "replace" and len(args) > 1:
        rendering.check_replace(owner, args[0], args[1])
    return args


def _check_operation(operator: str, left: Any, right: Any) -> None:
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    if operator == "%" and isinstance(left, str):
        rendering.check_conversions(left, right)
    elif operator == "+" and not numbers:
        _check_length(
            left, len(left) + len(right) if hasattr(left, "__len__") and hasattr(right, "__len__") else 0
        )
    elif operator == "*" and not numbers:
        sequence, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(times, int) and hasattr(sequence, "__len__"):
            _check_length(sequence, len(sequence) * times)
    elif operator in {"*", "**"} and (
        max(abs(left), abs(right)) > _MAX_NUMBER or (operator == "**" and abs(right) > 64)
    ):
        raise TemplateError("The chat template computes with numbers that are too large.")


def _check_length(sequence: object, length: int) -> None:
    if isinstance(sequence, str):
        rendering.check_size(length)
    else:
        rendering.check_items(length)


def _taken(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        made = rendering.timed(function(*args, **kwargs))
        return map(rendering.take, made) if isinstance(made, GeneratorType) else rendering.take(made)

    return run
