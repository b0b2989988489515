"""The marks by which a model's answer tells reasoning, calls of tools and what is said to the user.

Models write all three into one text, each family by marks of its own; their chat template, which has to
write the same marks when a conversation goes on, tells which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

CallStyle = Literal["hermes", "llama3", "qwen3_coder"]

OPEN_REASONING, CLOSE_REASONING = "<think>", "</think>"
OPEN_CALL, CLOSE_CALL = "<tool_call>", "</tool_call>"
# What `str.lstrip` takes off, as a regular expression that a grammar can hold.
WHITE_SPACE = r"[\s\x1c-\x1f]"
# Marks of calls in forms that are not read: [TOOL_CALLS], <|tool_call|>, <x:tool_call>, <arg_key> and such.
_OTHER_MARKS = re.compile(
    r"<arg_key>|<invoke\b|<function name=|\[TOOL_CALLS?\]|(?!</?tool_call>)"
    r"<(?:[^\s<>'\"]*[^\s<>'\"a-zA-Z0-9])?(?i:(?:tool|function)[_\u2581]?calls?)[^\s<>\[\]'\"]*>"
)
# `{% if not message.tool_calls|length == 1 %}{{ raise_exception("… single tool-calls at once!") }}`
_ONE_CALL = re.compile(r"tool_calls\s*\|\s*length\s*(?:==|!=|>)\s*1\b[^{]*\{\{-?\s*raise_exception")


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The marks of one model. `calls` is None where its chat template knows no tools, or an unknown form.

    `hermes` (Hermes, Qwen): `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them.
    `qwen3_coder`: in the same marks, `<function=NAME><parameter=NAME>…</parameter></function>`.
    `llama3` (Llama 3.1 and later): the whole answer is `{"name": …, "parameters": …}`, several split by `;`.
    """

    calls: CallStyle | None = None
    reasons: bool = False
    # Whether the template refuses an earlier answer of more than one call, as Llama 3.1's does.
    one_call: bool = False

    @classmethod
    def of(cls, template: str | None, plain: str | None = None) -> AnswerFormat:
        """The format that a chat template shows; `plain` is the one for chats without tools, if another."""
        template = template or ""
        reasons = CLOSE_REASONING in template or CLOSE_REASONING in (plain or "")
        return cls(_call_style(template), reasons, bool(_ONE_CALL.search(template)))

    @property
    def marks(self) -> tuple[str, ...]:
        """What the model writes around reasoning and calls."""
        around_calls = (OPEN_CALL, CLOSE_CALL) if self.calls in {"hermes", "qwen3_coder"} else ()
        return ((OPEN_REASONING, CLOSE_REASONING) if self.reasons else ()) + around_calls


def _call_style(template: str) -> CallStyle | None:
    if not re.search(r"\btools\b", template) or _OTHER_MARKS.search(template):
        return None
    if OPEN_CALL in template:
        if "<function=" in template:
            return "qwen3_coder"
        return "hermes"
    return "llama3" if '"parameters"' in template else None
