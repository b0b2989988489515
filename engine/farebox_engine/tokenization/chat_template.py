"""Chat templates: programs that come with a checkpoint, so they run in a sandbox and within bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from farebox_engine.errors import LoadError, TemplateError

MAX_SECONDS = 2.0
MAX_CHARACTERS = 4_000_000
_MAX_REPEAT = 100_000
_TICK = "_farebox_tick"


class ChatTemplate:
    """A compiled Jinja template as `transformers` defines them; safe to render in several threads."""

    def __init__(
        self,
        source: str,
        variables: Mapping[str, object],
        *,
        max_seconds: float = MAX_SECONDS,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        """`variables` are the special tokens the template may name, such as `bos_token`.

        Rendering past `max_seconds` or `max_characters` is broken off.

        Raises:
            LoadError: the template does not compile.
        """
        self._variables = dict(variables)
        self._max_seconds = max_seconds
        self._max_characters = max_characters
        self._environment = _Environment(trim_blocks=True, lstrip_blocks=True)
        try:
            tree = self._environment.parse(source)
            _bound_loops(tree)
            # Jinja compiles a changed tree as well as a text; its stubs know only the latter.
            code = self._environment.compile(tree)
        except (JinjaError, RecursionError) as error:
            raise LoadError(
                f"The chat template does not compile ({error}); mend it in the folder."
            ) from error
        self._code = code

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[object] | None = None,
    ) -> str:
        """The prompt text for `messages`, and `tools` that the model may call.

        Raises:
            TemplateError: the template failed, refused the messages, or ran past its bounds.
        """
        tick = self._clock()
        template = self._environment.template_class.from_code(
            self._environment, self._code, {**self._environment.globals, _TICK: tick}
        )
        parts: list[str] = []
        size = 0
        try:
            for part in template.generate(
                messages=messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            ):
                size += len(part)
                if size > self._max_characters:
                    raise TemplateError(
                        f"The chat template wrote more than {self._max_characters} characters."
                    )
                tick()
                parts.append(part)
        except TemplateError:
            raise
        # A template is foreign code: whatever it raises is its fault or the messages'.
        except Exception as error:
            raise TemplateError(f"The chat template failed: {error or type(error).__name__}.") from error
        return "".join(parts)

    def _clock(self) -> Callable[[], str]:
        """What raises TemplateError once it is called too late; a template may write what it returns."""
        deadline = time.monotonic() + self._max_seconds

        def tick() -> str:
            if time.monotonic() > deadline:
                raise TemplateError(f"The chat template ran longer than {self._max_seconds:g} seconds.")
            return ""

        return tick


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with what templates of checkpoints expect, less what can eat memory."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(extensions=[_GenerationBlock, loopcontrols], **options)
        self.filters["tojson"] = _to_json
        for greedy in (
            "center",
            "format",
            "indent",
            "wordwrap",
            "urlize",
            "xmlattr",
            "pprint",
            "batch",
            "slice",
        ):
            del self.filters[greedy]
        self.filters["indent"] = _indent
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals.pop("lipsum")

    def wrap_str_format(self, value: Any) -> None:
        """No formatting: a width of a billion is a gigabyte. `is_safe_attribute` refuses it."""
        return None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in {
            "format",
            "format_map",
            "center",
            "ljust",
            "rjust",
            "zfill",
            "expandtabs",
        }:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "*" and not numbers:
            repeat = left if isinstance(left, int) else right
            if not isinstance(repeat, int) or repeat > _MAX_REPEAT:
                raise TemplateError("The chat template repeats a value too often.")
        if (operator == "**" or operator == "*") and numbers and max(abs(left), abs(right)) > 2**32:
            raise TemplateError("The chat template computes with numbers that are too large.")
        if operator == "**" and abs(right) > 64:
            raise TemplateError("The chat template computes with numbers that are too large.")
        if operator == "%" and isinstance(left, str):
            raise TemplateError("The chat template formats strings with %, which is not supported.")
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}`, with which training marks the assistant's words; here only its body counts."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _bound_loops(tree: nodes.Template) -> None:
    """Check the clock on each turn of a loop and on entry to each macro."""
    bodies = [loop.body for loop in tree.find_all(nodes.For)]
    bodies += [macro.body for macro in tree.find_all(nodes.Macro)]
    for body in bodies:
        tick = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
        body.insert(0, nodes.ExprStmt(tick).set_lineno(tree.lineno))


def _to_json(value: object, indent: int | None = None, ensure_ascii: bool = False, **_: object) -> str:
    width = None if indent is None else min(indent, 16)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=width)


def _indent(text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    margin = " " * min(width, 64)
    lines = [margin + line if line or blank else line for line in text.split("\n")]
    return (
        "\n".join(lines) if first else "\n".join(lines)[len(margin) if lines[0].startswith(margin) else 0 :]
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(f"The chat template refuses these messages: {message}")


def _strftime_now(pattern: str) -> str:
    return datetime.now(tz=UTC).strftime(pattern[:100])
