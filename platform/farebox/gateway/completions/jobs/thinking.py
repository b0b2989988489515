"""How much a model is to think, in the variables that chat templates read."""

import re
from collections.abc import Iterator, Mapping

from farebox.gateway.completions.requests import ChatCompletionRequest, TemplateValue
from farebox.gateway.errors import InvalidParameter

# What a template is given of itself.
_TAKEN = {"messages", "tools", "documents", "add_generation_prompt"}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}")
# Qwen's and GLM's switch, and DeepSeek's and Granite's.
_SWITCHES = ("enable_thinking", "thinking")
# Templates that know levels know these three (gpt-oss).
_LEVELS = {"minimal": "low", "xhigh": "high"}


def template_variables(request: ChatCompletionRequest) -> dict[str, TemplateValue]:
    """The variables for the template; those that it does not read have no effect.

    Raises InvalidParameter for a variable that is not the client's, and for fields that contradict
    each other.
    """
    named = request.chat_template_kwargs or {}
    _refuse_taken(named)
    asked = dict(_switches(request))
    _refuse_contradictions(asked, named)
    found: dict[str, TemplateValue] = {}
    if asked:
        found = dict.fromkeys(_SWITCHES, next(iter(asked.values())))
    effort = request.reasoning_effort
    if effort not in (None, "none"):
        found["reasoning_effort"] = _LEVELS.get(effort, effort)
    return found | named


def _refuse_taken(named: Mapping[str, TemplateValue]) -> None:
    refused = [name for name in named if name in _TAKEN or not _NAME.fullmatch(name)]
    if refused:
        raise InvalidParameter(
            f"`{refused[0][:64]}` in `chat_template_kwargs` is not the client's to set.",
            "chat_template_kwargs",
        )


def _switches(request: ChatCompletionRequest) -> Iterator[tuple[str, bool]]:
    """The fields that say whether to think, and what they say."""
    if request.reasoning_effort is not None:
        yield "reasoning_effort", request.reasoning_effort != "none"
    if request.thinking is not None:
        yield "thinking", request.thinking.type == "enabled"
    if request.enable_thinking is not None:
        yield "enable_thinking", request.enable_thinking


def _refuse_contradictions(asked: Mapping[str, bool], named: Mapping[str, TemplateValue]) -> None:
    """Raises InvalidParameter where fields, or a field and a variable of the client's own, say both."""
    own = {
        f"chat_template_kwargs.{name}": value
        for name in _SWITCHES
        if isinstance(value := named.get(name), bool)
    }
    for first, thinks in asked.items():
        for other, value in {**asked, **own}.items():
            if value != thinks:
                raise InvalidParameter(
                    f"`{first}` and `{other}` contradict each other: one switches thinking on, the other"
                    " off. Send one of them.",
                    other,
                )
