"""The page about PromQL says what there is and what there is not."""

from __future__ import annotations

import pytest

from kymograph.promql.functions import AGGREGATORS, FUNCTIONS, PRECEDENCE
from kymograph.promql.lexer import ParseError
from kymograph.promql.parse import parse
from tests.docs.pages import page

PAGE = page("docs/promql.md")


def _words(heading: str) -> set[str]:
    rows = [line for line in PAGE.section(heading).splitlines() if line.startswith("|") and "`" in line]
    return {word for row in rows for word in row.split("`")[1::2]}


def test_every_function_is_on_the_page_once() -> None:
    prometheus, metricsql = _words("Functions"), _words("MetricsQL: there") - {"WITH", "keep_metric_names"}
    assert not prometheus & metricsql
    operators = {"default", "if", "ifnot"}
    assert operators <= set(PRECEDENCE)
    assert prometheus | metricsql - operators == set(FUNCTIONS)


def test_every_aggregation_is_on_the_page() -> None:
    assert _words("Aggregations") == set(AGGREGATORS)


@pytest.mark.parametrize("name", sorted(_words("MetricsQL: not there")))
def test_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ParseError, match=f'unknown function with name "{name}"'):
        parse(f"{name}(m)")


@pytest.mark.parametrize(
    "query",
    ["info(m)", 'm{a="b" or c="d"}', "sum_over_time(m[5i])", "sum(m)[5m]"],
)
def test_other_things_that_are_not_there(query: str) -> None:
    with pytest.raises(ParseError):
        parse(query)
