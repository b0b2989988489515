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

from farebox.cli.openapi import openapi
from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import Documentation, ErrorEnvelope
from farebox.core.strict_json import StrictDecoder
from farebox.gateway.completions.requests import ChatCompletionRequest, refuse_unsupported
from farebox.gateway.completions.responses import ChatCompletion, ChatCompletionChunk
from farebox.keys.documentation import PublicKeySet
from tests.gateway.operations.openapi_objects import OpenAPI
from tests.gateway.servers import RunningServer

METHODS = {method.value.lower() for method in HTTPMethod}
INFERENCE = ("createChatCompletion", "createCompletion")
ERRORS_OF_INFERENCE = {"400", "401", "402", "404", "413", "415", "429", "500", "503"}
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
            for code, example in content["examples"].items():
                envelope = msgspec.convert(example["value"], ErrorEnvelope)
                assert envelope.error.code == code
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
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 401, 404, 413, 415]
    responses = operations["createChatCompletion"]["responses"]
    for answer in answers:
        documented = responses[str(answer.status_code)]["content"]["application/json"]["examples"]
        error = answer.json()["error"]
        assert error["code"] in documented
        assert error["type"] == documented[error["code"]]["value"]["error"]["type"]


async def test_the_public_keys_have_the_type_that_is_documented(http: httpx.AsyncClient) -> None:
    answer = await http.get("/.well-known/jwks.json")
    assert msgspec.json.decode(answer.content, type=PublicKeySet).keys


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
