"""`/schema`: the document is well-formed, and what it shows is what the server reads and writes."""

import json
import os
import re
from collections.abc import Iterator
from http import HTTPMethod
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from litestar.routes import ASGIRoute, HTTPRoute

from farebox.cli.offering import DEMO_MODEL
from farebox.cli.openapi import openapi
from farebox.core.bodies import ClientGone
from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import REQUEST_ID, Documentation, ErrorEnvelope
from farebox.core.strict_json import StrictDecoder
from farebox.gateway.completions.jobs.bounds import MAX_ANSWERS, check_answers
from farebox.gateway.completions.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    refuse_unsupported,
)
from farebox.gateway.completions.responses import ChatCompletion, ChatCompletionChunk
from farebox.gateway.errors import TooMuchWork
from farebox.gateway.models.checkpoints import UnusableCheckpoint
from farebox.keys.documentation import PublicKeySet
from farebox.keys.errors import InsufficientScope
from farebox.metering.seals.proofs import BookedTwice, NotAsSealed, NotSealed
from tests.gateway.operations.openapi_objects import OpenAPI
from tests.gateway.servers import RunningServer

METHODS = {method.value.lower() for method in HTTPMethod}
INFERENCE = ("createChatCompletion", "createCompletion")
ENCODING = ("createEmbedding", "createRerank", "createClassification")
ERRORS_OF_INFERENCE = {"400", "401", "402", "404", "413", "415", "429", "500", "503"}
ERRORS_OF_ALL = {"400": "malformed_request", "405": "method_not_allowed", "408": "request_timeout"} | {
    "431": "headers_too_large"
}
# Nobody is there to see the first; the next four are of other endpoints, the last is told to the operator.
NOT_OF_INFERENCE = {ClientGone, InsufficientScope, NotSealed, NotAsSealed, BookedTwice, UnusableCheckpoint}
RATE_LIMITS = {
    f"x-ratelimit-{word}-{kind}"
    for word in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens")
}


@pytest.fixture(scope="session")
def document(server: RunningServer) -> dict[str, Any]:
    """As it is served: through JSON and back."""
    answer = httpx.get(f"{server.url}/schema")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="session")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By operationId."""
    found = [operation for item in document["paths"].values() for operation in item.values()]
    by_id = {operation["operationId"]: operation for operation in found}
    assert len(by_id) == len(found) > 10
    return by_id


def test_both_addresses_give_the_same(server: RunningServer, document: dict[str, Any]) -> None:
    assert httpx.get(f"{server.url}/schema/openapi.json").json() == document
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": server.app.state.settings.public_url}]


@pytest.mark.parametrize("viewer", ["swagger", "redoc", "rapidoc", "elements", "scalar", "openapi.yaml"])
def test_no_viewer_that_loads_from_elsewhere(server: RunningServer, viewer: str) -> None:
    answer = httpx.get(f"{server.url}/schema/{viewer}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_the_command_prints_it(
    server: RunningServer, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = server.app.state.settings
    for name in [name for name in os.environ if name.startswith("FAREBOX_")]:
        monkeypatch.delenv(name)  # those of the tests are no settings
    monkeypatch.setenv("FAREBOX_BASE_URL", settings.public_url)
    printed = CliRunner().invoke(openapi, catch_exceptions=False)
    assert json.loads(printed.output) == document


def test_it_is_made_of_openapi_objects(document: dict[str, Any]) -> None:
    found = msgspec.convert(document, OpenAPI)
    assert len(found.paths) == len(document["paths"])


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = [part["$ref"] for part in objects(document) if isinstance(part.get("$ref"), str)]
    assert len(references) > 100
    for reference in references:
        assert reference.startswith("#/")
        place: Any = document
        for step in reference[2:].split("/"):
            place = place[step]
        assert place


def test_every_component_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_every_operation_says_what_it_is(document: dict[str, Any], operations: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for item in document["paths"].values():
        assert item.keys() <= METHODS
    for name, operation in operations.items():
        assert re.fullmatch(r"[a-z][A-Za-z]+", name)
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        assert set(operation["tags"]) <= tags, name
        schemes = document["components"]["securitySchemes"]
        assert all(scheme in schemes for each in operation.get("security", ()) for scheme in each), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            assert "x-request-id" in response["headers"], (name, status)


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert described == set(re.findall(r"{(\w+)}", path))


def test_nothing_internal_is_named(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for word in ("farebox.", "farebox_engine", "NamedDependency", "litestar", "msgspec", "x-written-as"):
        assert word not in text


def test_every_body_has_examples_that_its_type_accepts(
    server: RunningServer, operations: dict[str, Any]
) -> None:
    """Requests through the decoder that the route uses, replies and errors through the type they name."""
    requests = replies = 0
    for name, handler, documentation in documented(server):
        data = handler.parsed_fn_signature.parameters.get("data")
        body = documentation.body or (data and data.annotation)
        if body:
            assert documentation.request, name
            decoder: StrictDecoder[Any] = StrictDecoder(body)
            media = operations[name]["requestBody"]["content"]["application/json"]
            for example in media["examples"].values():
                request = decoder.decode(msgspec.json.encode(example["value"]))
                if isinstance(request, ChatCompletionRequest):
                    refuse_unsupported(request)
                requests += 1
        for reply in documentation.replies:
            for content in reply.contents:
                media = operations[name]["responses"][str(reply.status)]["content"][content.media_type]
                assert media["examples"], name
                for example in media["examples"].values():
                    msgspec.json.decode(msgspec.json.encode(example["value"]), type=content.kind)
                    replies += 1
    assert requests > 10
    assert replies > 15


def test_every_error_has_an_example_of_its_status(operations: dict[str, Any]) -> None:
    for operation in operations.values():
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json", {})
            if content.get("schema") != {"$ref": "#/components/schemas/ErrorEnvelope"}:
                continue
            for title, example in content["examples"].items():
                envelope = msgspec.convert(example["value"], ErrorEnvelope)
                assert envelope.error.code == title.split()[0]
                assert {"500": "server_error", "401": "authentication_error"}.get(
                    status, envelope.error.type
                ) == envelope.error.type


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_tells_of_streams_errors_and_headers(operations: dict[str, Any], name: str) -> None:
    operation = operations[name]
    assert operation["security"] == [{"apiKey": []}]
    responses = operation["responses"]
    assert responses.keys() >= ERRORS_OF_INFERENCE
    assert responses["200"]["content"].keys() == {"application/json", "text/event-stream"}
    assert responses["200"]["headers"].keys() >= {"x-request-id", "openai-processing-ms", *RATE_LIMITS}
    assert responses["429"]["headers"].keys() >= {"Retry-After", *RATE_LIMITS}
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]


def test_what_is_said_before_any_route_is_asked_is_told_of_every_operation(
    operations: dict[str, Any],
) -> None:
    for name, operation in operations.items():
        for status, code in ERRORS_OF_ALL.items():
            assert code in codes_of(operation, status), name
        assert "Allow" in operation["responses"]["405"]["headers"], name


def test_every_error_of_the_gateway_is_told(operations: dict[str, Any]) -> None:
    told = {
        (status, code)
        for name in (*INFERENCE, *ENCODING)
        for status in operations[name]["responses"]
        for code in codes_of(operations[name], status)
    }
    rooms = ("farebox.gateway.", "farebox.metering.", "farebox.keys.", "farebox.core.strict_json")
    raised = {
        kind
        for kind in subclasses(FareboxError)
        if kind.__module__.startswith(rooms) and kind.code and kind not in NOT_OF_INFERENCE
    }
    assert len(raised) > 15
    assert {kind.__name__ for kind in raised if (str(kind.status), kind.code) not in told} == set()


@pytest.mark.parametrize("name", ENCODING)
def test_encoders_tell_of_no_errors_that_only_writing_has(operations: dict[str, Any], name: str) -> None:
    told = codes_of(operations[name], "400")
    assert told.isdisjoint({"grammar_stuck", "context_length_exceeded", "unsupported_parameter"})
    multiplied = [error for error in examples_of(operations[name], "400") if error["param"] == "query"]
    assert {error["code"] for error in multiplied} == ({"too_much_work"} if name == "createRerank" else set())


def test_the_model_of_the_examples_is_the_one_that_comes_with_farebox(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("ChatCompletionRequest", "CompletionRequest"):
        assert schemas[name]["properties"]["model"]["examples"] == [DEMO_MODEL]
    assert "examples" not in schemas["EmbeddingRequest"]["properties"]["model"]


def test_as_many_prompts_are_shown_as_are_taken(document: dict[str, Any]) -> None:
    prompt = document["components"]["schemas"]["CompletionRequest"]["properties"]["prompt"]
    text, ids, prompts = prompt["anyOf"]
    assert (text["type"], ids["items"]["type"], "maxItems" in ids) == ("string", "integer", False)
    assert prompts["maxItems"] == MAX_ANSWERS
    check_answers(CompletionRequest(model="m", prompt=["a"] * prompts["maxItems"]))
    with pytest.raises(TooMuchWork, match=str(MAX_ANSWERS)):
        check_answers(CompletionRequest(model="m", prompt=["a"] * (prompts["maxItems"] + 1)))


def test_schemas_say_what_is_enforced(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    request = schemas["ChatCompletionRequest"]
    assert request["additionalProperties"] is False
    temperature = request["properties"]["temperature"]["anyOf"][0]
    assert (temperature["minimum"], temperature["maximum"]) == (0, 2)
    assert set(request["required"]) == {"model", "messages"}
    assert schemas["Amount"]["properties"]["value"]["type"] == "number"


@pytest.mark.parametrize("name", ["ChatCompletionRequest", "CompletionRequest"])
def test_every_field_of_inference_is_explained(document: dict[str, Any], name: str) -> None:
    properties = document["components"]["schemas"][name]["properties"]
    assert [field for field, schema in properties.items() if not schema.get("description")] == []


def test_query_parameters_are_described(operations: dict[str, Any]) -> None:
    names = {each["name"]: each for each in operations["getCompletionsUsage"]["parameters"]}
    assert names["start_time"]["required"]
    assert names["group_by[]"]["schema"]["items"]["enum"] == ["api_key_id", "model", "project_id", "user_id"]
    assert not names["bucket_width"]["required"]
    assert names["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1440}


async def test_the_examples_that_name_a_model_are_answered(
    http: httpx.AsyncClient, offered: str, operations: dict[str, Any]
) -> None:
    """Each example request, sent to the real server under the name of a model that it has."""
    for path, name in (("chat/completions", "createChatCompletion"), ("completions", "createCompletion")):
        examples = operations[name]["requestBody"]["content"]["application/json"]["examples"]
        for title, example in examples.items():
            body = example["value"] | {"model": offered}
            limit = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
            body[limit] = 3
            if title == "token ids":
                body["prompt"] = [1, 2, 3]
            answer = await http.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            documented = operations[name]["responses"]["200"]
            assert answer.headers["content-type"].partition(";")[0] in documented["content"]
            assert "openai-processing-ms" in answer.headers
            if path == "chat/completions":
                look_into(answer)


def look_into(answer: httpx.Response) -> None:
    """What the server sent has the type that the document names."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        msgspec.json.decode(answer.content, type=ChatCompletion)
        return
    *events, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    for event in events:
        msgspec.json.decode(event, type=ChatCompletionChunk)


async def test_refusals_are_documented(http: httpx.AsyncClient, operations: dict[str, Any]) -> None:
    """What the server really says is among the examples of its status."""
    json_type = {"content-type": "application/json"}
    unknown = {"model": "absent", "messages": [{"role": "user", "content": "?"}]}
    answers = [
        await http.post("/v1/chat/completions", content=b"{", headers=json_type),
        await http.post("/v1/chat/completions", json=unknown | {"colour": "red"}),
        await http.post("/v1/chat/completions", json={"model": "absent"}),
        await http.post("/v1/chat/completions", json=unknown | {"tools": [1]}),
        await http.post("/v1/chat/completions", json=unknown, headers={"authorization": "Bearer no"}),
        await http.post("/v1/chat/completions", json=unknown),
        await http.post("/v1/chat/completions", content=b" " * 1_000_001, headers=json_type),
        await http.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"}),
        await http.patch("/v1/chat/completions"),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 401, 404, 413, 415, 405]
    for answer in answers:
        error = answer.json()["error"]
        documented = example_of(operations["createChatCompletion"], answer)
        assert error["type"] == documented["type"]


async def test_the_examples_of_refusals_say_what_the_server_says(
    http: httpx.AsyncClient, offered: str, operations: dict[str, Any]
) -> None:
    """To the word: sent what an example refuses, the server answers with the example."""
    chat = {"model": offered, "messages": [{"role": "user", "content": "?"}]}
    text = {"model": offered, "prompt": "A ferry"}
    documents = {"query": "q" * 2047, "documents": ["d"] * 2048}
    for path, name, body in (
        ("chat/completions", "createChatCompletion", chat | {"audio": {"voice": "x"}}),
        ("chat/completions", "createChatCompletion", chat | {"stream_options": {"include_usage": True}}),
        ("completions", "createCompletion", text | {"suffix": "."}),
        ("rerank", "createRerank", {"model": offered} | documents),
    ):
        answer = await http.post(f"/v1/{path}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"] | {"request_id": REQUEST_ID} == example_of(operations[name], answer)


async def test_the_public_keys_have_the_type_that_is_documented(http: httpx.AsyncClient) -> None:
    answer = await http.get("/.well-known/jwks.json")
    assert msgspec.json.decode(answer.content, type=PublicKeySet).keys


def codes_of(operation: dict[str, Any], status: str) -> set[str]:
    """The codes of the errors that an operation tells of for a status."""
    content = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
    return {title.split()[0] for title in content.get("examples", {})}


def examples_of(operation: dict[str, Any], status: str) -> list[dict[str, Any]]:
    """The errors that an operation tells of for a status."""
    content = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
    return [example["value"]["error"] for example in content.get("examples", {}).values()]


def example_of(operation: dict[str, Any], answer: httpx.Response) -> dict[str, Any]:
    """The example of the error that the server answered: the one of the same field, if there are several."""
    answered = answer.json()["error"]
    alike = [
        error
        for error in examples_of(operation, str(answer.status_code))
        if error["code"] == answered["code"]
    ]
    return min(alike, key=lambda error: bool(error["param"] != answered["param"]))


def subclasses(kind: type[FareboxError]) -> Iterator[type[FareboxError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def documented(server: RunningServer) -> Iterator[tuple[str, Any, Documentation]]:
    """Every operation of the document; one that declares nothing fails."""
    for route in server.app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS" and handler.resolve_include_in_schema():
                    declared = handler.opt.get("documentation")
                    assert isinstance(declared, Documentation), f"{method} {route.path} declares none"
                    assert all(isinstance(error, FareboxError) for error in declared.errors)
                    yield str(handler.operation_id), handler, declared
        elif isinstance(route, ASGIRoute):
            opt = route.route_handler.opt
            assert isinstance(opt["documentation"], Documentation), f"{route.path} declares none"
            yield opt["operation"].operation_id, route.route_handler, opt["documentation"]


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from objects(value)
    elif isinstance(part, list):
        for value in part:
            yield from objects(value)
