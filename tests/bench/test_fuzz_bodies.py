"""Mutated bodies in every dialect: a small, seeded part of `python -m bench.fuzz.bodies`."""

import pytest
from flask.testing import FlaskClient

from bench.fuzz.bodies import DIALECTS, fuzz
from worker.paint import PaintingRunner


@pytest.mark.parametrize("name", DIALECTS)
def test_no_body_causes_an_error_of_the_server_or_a_second_of_computing(
    client: FlaskClient, working: PaintingRunner, name: str
) -> None:
    findings = fuzz(client, DIALECTS[name], count=60, number=3)
    assert findings.faults == [] and findings.statuses.total() == 60
    assert any(status < 300 for status in findings.statuses) and any(status >= 400 for status in findings.statuses)
