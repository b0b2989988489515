"""Each field of a request stands in docs/api.md, in the group that the code has it in."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from farebox.gateway.completions.requests import (
    IGNORED,
    INERT,
    MAX_PROMPTS,
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
    StructuredOutputs,
)
from farebox.gateway.encoding.requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()
WRITING: dict[str, type[msgspec.Struct]] = {"chat": ChatCompletionRequest, "completions": CompletionRequest}
ENCODING: dict[str, type[msgspec.Struct]] = {
    "embeddings": EmbeddingRequest,
    "rerank": RerankRequest,
    "classify": ClassifyRequest,
}
REQUESTS: list[type[msgspec.Struct]] = [*WRITING.values(), *ENCODING.values()]
FIELDS = {*ChatCompletionRequest.__struct_fields__, *CompletionRequest.__struct_fields__}
# Told of `best_of` by name though it may be `n`; of `stream_options` and messages, parts are named.
REFUSED = {*INERT, "best_of"}


def told(group: str) -> dict[str, set[str]]:
    """The fields of a group, by the first column of its table."""
    section = PAGE.split(f"**{group}")[1].split("\n**")[0].split("\n#")[0]
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
    found = {where: fields for where, fields in told("Acted on").items() if where not in ENCODING}
    assert set().union(*found.values()) == FIELDS - set(IGNORED) - REFUSED
    chat, completions = set(ChatCompletionRequest.__struct_fields__), set(CompletionRequest.__struct_fields__)
    assert found["chat only"] <= chat - completions
    assert found["completions only"] <= completions - chat
    assert set(Sampling.__struct_fields__) - {"user"} <= set().union(
        *(fields for where, fields in found.items() if where.startswith("chat and completions"))
    )


@pytest.mark.parametrize("where", ENCODING)
def test_every_field_of_the_encoders_is_acted_on_or_ignored(where: str) -> None:
    nested = {"text"} if where == "rerank" else set()
    assert told("Acted on")[where] - nested == set(ENCODING[where].__struct_fields__) - {"user"}
    assert "user" in told("Accepted and ignored")["everywhere"]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_field_at_any_depth_stands_on_the_page(kind: type[msgspec.Struct]) -> None:
    named = {word for span in re.findall(r"`([^`]+)`", PAGE) for word in re.findall(r"\w+", span)}
    names = {name for name, _ in fields_within(inspect.type_info(kind))}
    assert names >= set(kind.__struct_fields__)
    assert names - named == set()


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_bound_of_a_field_stands_beside_it(kind: type[msgspec.Struct]) -> None:
    rows = dict(bounds_told())
    checked = 0
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]  # of a struct
        missing = {bound for bound in bounds_of(field.type) if bound not in rows.get(field.encode_name, ())}
        if field.encode_name != "prompt":  # whose prompts are counted with `n`
            assert missing == set(), field.encode_name
        checked += bool(rows.get(field.encode_name))
    assert checked >= 2


def test_the_bounds_of_prompts_and_of_a_choice_stand_there_too() -> None:
    assert str(MAX_PROMPTS) in dict(bounds_told())["prompt"]
    (choice,) = (each for each in inspect.type_info(StructuredOutputs).fields if each.name == "choice")  # type: ignore[attr-defined]
    (most,) = bounds_of(choice.type)
    assert f"`choice` ({most} texts at most)" in PAGE


def bounds_told() -> Iterator[tuple[str, set[str]]]:
    """Each field of the table of bounds, with the numbers beside it."""
    section = PAGE.split("### Bounds\n")[1].split("\n#")[0]
    for fields, may_be in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", fields):
            yield name, set(re.findall(r"-?\d[\d,.]*", may_be))


# Bounds that nobody meets: what Postgres or the machine can count to.
_SENTINELS = {2**31 - 1, 2**53, 2**63 - 1}


def bounds_of(kind: Any) -> set[str]:
    """Of a type's numbers, texts and lists that have an upper bound, the bounds as they are written."""
    found: set[Any] = set()
    for part in parts_of(kind):
        lower, upper = getattr(part, "ge", None), getattr(part, "le", None)
        if isinstance(part, inspect.StrType | inspect.ListType | inspect.DictType):
            # Of a list, only how long it may be is told there.
            lower, upper = getattr(part, "min_length", None), part.max_length
            lower = None if isinstance(part, inspect.ListType) else lower
        if upper not in _SENTINELS | {None}:
            found |= {lower, upper}
    return {f"{bound:,}" for bound in found - {None}}


def parts_of(kind: Any) -> Iterator[Any]:
    """A type, what a union is of, and what a list or a dictionary holds; not the fields of structs."""
    yield kind
    for part in getattr(kind, "types", ()):
        yield from parts_of(part)
    for name in ("item_type", "value_type", "type"):
        if isinstance(part := getattr(kind, name, None), inspect.Type):
            yield from parts_of(part)


def fields_within(kind: Any) -> Iterator[tuple[str, Any]]:
    """All fields of a type's structs, at any depth."""
    for part in parts_of(kind):
        for field in getattr(part, "fields", ()):
            yield field.encode_name, field.type
            yield from fields_within(field.type)
