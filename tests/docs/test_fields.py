"""Each field of a request stands in docs/api.md, in the group that the code has it in."""

import re

import pytest

from farebox.gateway.completions.requests import (
    IGNORED,
    INERT,
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
)
from tests.conftest import ROOT

FIELDS = {*ChatCompletionRequest.__struct_fields__, *CompletionRequest.__struct_fields__}
# Told of `best_of` by name though it may be `n`; of `stream_options` and messages, parts are named.
REFUSED = {*INERT, "best_of"}


def told(group: str) -> dict[str, set[str]]:
    """The fields of a group, by the first column of its table."""
    section = (ROOT / "docs" / "api.md").read_text().split(f"**{group}")[1].split("\n**")[0].split("\n#")[0]
    rows = re.findall(r"^\| ([^|]+) \| (.*`.*) \|$", section, re.MULTILINE)
    return {where: set(re.findall(r"`(\w+)[\w.]*`", text)) for where, text in rows}


@pytest.mark.parametrize(
    ("group", "expected"),
    [("Accepted and ignored", set(IGNORED)), ("Refused by name", REFUSED)],
)
def test_fields_without_effect_are_listed(group: str, expected: set[str]) -> None:
    found = set().union(*told(group).values()) & FIELDS
    assert found - {"stream_options", "n"} == expected


def test_every_other_field_is_acted_on() -> None:
    found = told("Acted on")
    assert set().union(*found.values()) == FIELDS - set(IGNORED) - REFUSED
    chat, completions = set(ChatCompletionRequest.__struct_fields__), set(CompletionRequest.__struct_fields__)
    assert found["chat only"] <= chat - completions
    assert found["completions only"] <= completions - chat
    assert set(Sampling.__struct_fields__) - {"user"} <= set().union(
        *(fields for where, fields in found.items() if where.startswith("chat and completions"))
    )
