"""The OpenAPI description covers every route of the native API and matches its actual responses."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance

from memo.recipe import Recipe
from web.api.documents import JobBody, RecipeDocument
from web.api.openapi import PREFIX
from web.picture_requests import COUNT, FIELDS, MEMO, PRIORITY, USER

EXCLUDED_CHECKS = (positive_data_acceptance,)  # a schema cannot say which sizes a model paints


@pytest.fixture
def description(client):
    return client.get("/api/v1/openapi.json").json


@pytest.fixture
def api(app, working):
    """The application as a browser on the same machine reaches it."""

    def local_app(environ, start_response):
        return app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", local_app)


EXAMPLES = {GenerationMode.POSITIVE: 8, GenerationMode.NEGATIVE: 3}  # invalid examples take long to generate
QUICK = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def has_input(operation):
    """Whether a request of this operation has anything that could be invalid."""
    inputs = [parameter for parameter in operation["parameters"] if parameter["in"] != "path"]
    return inputs or "application/json" in operation.get("requestBody", {}).get("content", {})


@pytest.mark.parametrize("mode", EXAMPLES)
def test_every_response_matches_the_description(api, mode):
    sent = Counter()
    for result in api.get_all_operations():
        operation = result.ok()

        @settings(QUICK, max_examples=EXAMPLES[mode])
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            sent[case.operation.label] += 1
            case.call_and_validate(excluded_checks=EXCLUDED_CHECKS)

        if mode is GenerationMode.POSITIVE or has_input(operation.definition.raw):
            check()
    assert len(sent) >= 7 and sent.total() >= 24


def test_the_description_is_valid_openapi(description):
    OpenAPIV31SpecValidator(description).validate()


def test_every_route_of_the_native_api_is_described(app, description):
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)]
    missing = [rule.rule for rule in rules if not hasattr(app.view_functions[rule.endpoint], "operation")]
    assert not missing, "describe them with `documented` of web/api/openapi.py"
    count = sum(len(path) for path in description["paths"].values())
    assert count == sum(len(rule.methods - {"HEAD", "OPTIONS"}) for rule in rules) >= 18


def test_every_operation_has_a_unique_id_and_a_summary(description):
    operations = [operation for path in description["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) and all(operation["summary"] for operation in operations)
    links = [
        link["operationId"]
        for operation in operations
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links and set(links) <= set(names)


def test_the_documents_have_the_same_fields_as_the_classes():
    assert set(RecipeDocument.__annotations__) == set(Recipe.__slots__)
    assert set(JobBody.__annotations__) >= {*FIELDS, MEMO, COUNT, USER, PRIORITY}


def test_errors_are_problem_documents(description):
    for path in description["paths"].values():
        for operation in path.values():
            errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            errors.pop("414", None)  # sent by the web server itself
            assert errors and all("application/problem+json" in answer["content"] for answer in errors.values())


def test_the_api_page_loads_nothing_from_other_sites_and_has_no_inline_code(client):
    page = client.get("/api/docs")
    assert page.status_code == 200 and "unsafe" not in page.headers["Content-Security-Policy"]
    assert "http://" not in page.text and "https://" not in page.text and "<style" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"/api/docs/{name}" in page.text
        with client.get(f"/api/docs/{name}") as answer:
            assert answer.status_code == 200
    assert client.get("/api/docs/../flask_swagger_ui.py").status_code == 404
