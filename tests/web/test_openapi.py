"""The description of the native API is exactly true: of every route, and of what it answers to anything."""

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

NOT_MEANT = (positive_data_acceptance,)  # what a model can paint, no schema can say


@pytest.fixture
def description(client):
    return client.get("/api/v1/openapi.json").json


@pytest.fixture
def api(app, working):
    """The application as this machine's own browser reaches it."""

    def at_home(environ, start_response):
        return app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", at_home)


EACH = {GenerationMode.POSITIVE: 8, GenerationMode.NEGATIVE: 3}  # what is wrong on purpose takes long to think of
QUICKLY = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def says_something(operation):
    """Whether there is anything in such a request that could be wrong."""
    beside = [parameter for parameter in operation["parameters"] if parameter["in"] != "path"]
    return beside or "application/json" in operation.get("requestBody", {}).get("content", {})


@pytest.mark.parametrize("mode", EACH)
def test_whatever_is_asked_is_answered_as_described(api, mode):
    asked = Counter()
    for found in api.get_all_operations():
        operation = found.ok()

        @settings(QUICKLY, max_examples=EACH[mode])
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case):
            asked[case.operation.label] += 1
            case.call_and_validate(excluded_checks=NOT_MEANT)

        if mode is GenerationMode.POSITIVE or says_something(operation.definition.raw):
            answered()
    assert len(asked) >= 7 and asked.total() >= 24


def test_the_description_is_valid_openapi(description):
    OpenAPIV31SpecValidator(description).validate()


def test_every_route_of_the_native_api_is_described(app, description):
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)]
    missing = [rule.rule for rule in rules if not hasattr(app.view_functions[rule.endpoint], "operation")]
    assert not missing, "say what they answer: web/api/openapi.py, `described`"
    told = sum(len(path) for path in description["paths"].values())
    assert told == sum(len(rule.methods - {"HEAD", "OPTIONS"}) for rule in rules) >= 18


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(description):
    operations = [operation for path in description["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) and all(operation["summary"] for operation in operations)
    links = [
        link["operationId"]
        for one in operations
        for answer in one["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert links and set(links) <= set(names)


def test_the_documents_have_the_fields_of_the_code():
    assert set(RecipeDocument.__annotations__) == set(Recipe.__slots__)
    assert set(JobBody.__annotations__) >= {*FIELDS, MEMO, COUNT, USER, PRIORITY}


def test_refusals_are_problem_documents(description):
    for path in description["paths"].values():
        for operation in path.values():
            refused = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            refused.pop("414", None)  # gunicorn's own
            assert refused and all("application/problem+json" in answer["content"] for answer in refused.values())


def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline(client):
    page = client.get("/api/docs")
    assert page.status_code == 200 and "unsafe" not in page.headers["Content-Security-Policy"]
    assert "http://" not in page.text and "https://" not in page.text and "<style" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"/api/docs/{name}" in page.text
        with client.get(f"/api/docs/{name}") as answer:
            assert answer.status_code == 200
    assert client.get("/api/docs/../flask_swagger_ui.py").status_code == 404
