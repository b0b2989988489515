"""Messages as chat templates read them."""

import msgspec
import pytest

from farebox.gateway.completions.messages import Message, plain_message


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        (
            {"role": "user", "name": "anna", "content": "hi"},
            {"role": "user", "name": "anna", "content": "hi"},
        ),
        (
            {"role": "tool", "name": "now", "tool_call_id": "c", "content": "9"},
            {"role": "tool", "name": "now", "tool_call_id": "c", "content": "9"},
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm",
                "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": '{"zone": 1}'}}],
            },
            # Templates ask whether there is content, not whether it is null.
            {
                "role": "assistant",
                "reasoning_content": "Hm",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "now", "arguments": {"zone": 1}}}
                ],
            },
        ),
        (
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "system", "content": "a\nb"},
        ),
    ],
)
def test_what_a_template_may_write_reaches_it(body: dict[str, object], plain: dict[str, object]) -> None:
    assert plain_message(msgspec.convert(body, type=Message)) == plain
