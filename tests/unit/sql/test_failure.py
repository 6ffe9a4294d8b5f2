"""What DataFusion says becomes what we say."""

from __future__ import annotations

import pytest

from kymograph.errors import LimitExceeded, QueryError
from kymograph.options import QueryLimits
from kymograph.sql.failure import translated


class PanicException(BaseException):
    pass


def said(problem: BaseException) -> str:
    return str(translated(problem, QueryLimits(memory=1000), lambda name: f"like {name}"))


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (
            ValueError("Error during planning: table 'datafusion.public.x y' not found"),
            "there is no table x y (like x y)",
        ),
        (
            ValueError("Error during planning: table 'datafusion.metric.x' not found"),
            "there is no table metric.x (like metric.x)",
        ),
        (Exception("DataFusion error: Arrow error: Divide by zero error"), "Divide by zero error"),
        (
            Exception("DataFusion error: Optimizer rule 'simplify' failed\ncaused by\nArrow error: Cast error: no"),
            "Cast error: no",
        ),
        (ValueError('SQL error: ParserError("Expected: x, found: y")'), "syntax error: Expected: x, found: y"),
        (Exception(""), "the query failed"),
    ],
)
def test_words(problem: BaseException, expected: str) -> None:
    assert said(problem) == expected


def test_long_texts_are_cut() -> None:
    assert len(said(ValueError("x" * 10_000))) == 500


def test_memory() -> None:
    problem = Exception("DataFusion error: Resources exhausted: Failed to allocate additional 5 MB")
    error = translated(problem, QueryLimits(memory=1000), str)
    assert isinstance(error, LimitExceeded)
    assert "1000 bytes" in str(error)


def test_a_panic_is_a_query_error() -> None:
    error = translated(PanicException("index out of bounds: the len is 3"), QueryLimits(), str)
    assert isinstance(error, QueryError)
    assert str(error).startswith("the query engine failed: index out of bounds")
