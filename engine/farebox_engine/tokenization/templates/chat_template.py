"""Chat templates: programs that come with a checkpoint, so they run in a sandbox and within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jinja2 import TemplateError as JinjaError

from farebox_engine.errors import LoadError, TemplateError
from farebox_engine.tokenization.templates import rendering
from farebox_engine.tokenization.templates.marked_text import Marking
from farebox_engine.tokenization.templates.rendering import MAX_CHARACTERS, MAX_SECONDS, Rendering
from farebox_engine.tokenization.templates.sandbox import Sandbox

# The names under which a message's reasoning is passed; templates read the first, some the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")


class Prompt(NamedTuple):
    """What a template wrote: its text, and the same with a stand-in for every character of a user's.

    A user's are those of messages (but of roles), tools and variables. The places in both are the same.
    """

    text: str
    marked: str


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
        sandbox = Sandbox()
        try:
            code = sandbox.compile_bounded(source)
        except (JinjaError, RecursionError, SyntaxError) as error:
            raise LoadError(
                f"The chat template does not compile ({error}); mend it in the folder."
            ) from error
        self._template = sandbox.template_class.from_code(sandbox, code, sandbox.globals)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> Prompt:
        """The prompt for `messages`, and `tools` that the model may call.

        `variables` are the caller's; what the template is given otherwise takes precedence.

        Raises:
            TemplateError: the template failed, refused the messages, or ran past its bounds.
        """
        marking = Marking()
        run = Rendering(marking, self._max_seconds, self._max_characters)
        token = rendering.current.set(run)
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(
                {name: marking.mark(value) for name, value in (variables or {}).items()}
                | self._variables
                | {
                    "messages": [_message(message, marking) for message in messages],
                    "tools": marking.mark(tools),
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                }
            ):
                size += len(part)
                run.check_size(size)
                run.check_time()
                parts.append(part)
        except TemplateError as error:
            raise TemplateError(marking.plain(str(error))) from error
        # A template is foreign code: whatever it raises is its fault or the messages'.
        except Exception as error:
            said = marking.plain(str(error)) or type(error).__name__
            raise TemplateError(f"The chat template failed: {said}.") from error
        finally:
            rendering.current.reset(token)
        marked = "".join(parts)
        return Prompt(marking.plain(marked), marked)


def _message(message: Mapping[str, object], marking: Marking) -> dict[str, object]:
    """A message as templates get it from `transformers`: without what is None, reasoning under each name."""
    found = {
        key: value if key == "role" else marking.mark(value)
        for key, value in message.items()
        if value is not None
    }
    reasoning = next((found[name] for name in _REASONING if name in found), None)
    if reasoning is None:
        return found
    return {"thinking": reasoning} | found | {"reasoning_content": reasoning}
