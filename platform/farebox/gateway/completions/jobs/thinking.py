"""How much a model is to think, in the variables that chat templates read."""

import re

from farebox.gateway.completions.requests import ChatCompletionRequest, TemplateValue
from farebox.gateway.errors import InvalidParameter

# What a template is given of itself.
_TAKEN = {"messages", "tools", "documents", "add_generation_prompt"}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}")
# Templates that know levels know these three (gpt-oss).
_LEVELS = {"minimal": "low", "xhigh": "high"}


def template_variables(request: ChatCompletionRequest) -> dict[str, TemplateValue]:
    """The variables for the template; those that it does not read have no effect.

    `enable_thinking` is Qwen's and GLM's switch, `thinking` is DeepSeek's and Granite's. Raises
    InvalidParameter for a variable that is not the client's.
    """
    found: dict[str, TemplateValue] = {}
    if request.reasoning_effort is not None:
        thinks = request.reasoning_effort != "none"
        found = {"enable_thinking": thinks, "thinking": thinks}
        if thinks:
            effort = request.reasoning_effort
            found["reasoning_effort"] = _LEVELS.get(effort, effort)
    named = request.chat_template_kwargs or {}
    refused = [name for name in named if name in _TAKEN or not _NAME.fullmatch(name)]
    if refused:
        raise InvalidParameter(
            f"`{refused[0][:64]}` in `chat_template_kwargs` is not the client's to set.",
            "chat_template_kwargs",
        )
    return found | named
