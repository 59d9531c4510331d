"""`unstuck schema`."""

from __future__ import annotations

import json

from unstuck.report.json import schema


def test_it_prints_the_schema_and_nothing_else(cli):
    said = cli("schema")
    assert (said.code, said.err) == (0, "")
    assert said.out == schema()
    assert json.loads(said.out)["$id"] == "urn:unstuck:report:1"
