"""DataFusion's errors in our words."""

from __future__ import annotations

import re
from collections.abc import Callable

from kymograph.errors import KymographError, LimitExceeded, QueryError
from kymograph.options import QueryLimits

_PREFIX = re.compile(
    r"^(DataFusion error|Error during planning|SQL error|Execution error|External error|Arrow error|Schema error|"
    r"Optimizer rule '[^']*' failed|type_coercion|caused by|Context|This feature is not implemented|"
    r"Internal error|Compute error|Invalid argument error|Exception|ValueError|RuntimeError)\b[:\s]*"
)
_NO_TABLE = re.compile(r"table '?(?:datafusion\.)?(?:public\.)?(.+?)'? not found", re.IGNORECASE)
_NO_TABLE_FUNCTION = re.compile(r"table function '(.+?)' not found", re.IGNORECASE)
_PARSER = re.compile(r'ParserError\("(.*)"\)', re.DOTALL)
_OURS = re.compile(r"__counter_(increase|rate)")
_RAISED = re.compile(r"value: QueryError\((['\"])(.*?)\1\), traceback")
_LONGEST = 500


def translated(problem: BaseException, limits: QueryLimits, like: Callable[[str], str]) -> KymographError:
    """The error a caller sees for whatever DataFusion raised, a Rust panic included."""
    text = str(problem)
    if isinstance(problem, UnicodeEncodeError):
        return QueryError("the statement holds what is no UTF-8")
    if "Resources exhausted" in text or "Memory Exhausted" in text:
        return LimitExceeded(
            f"the query needs more than {limits.memory} bytes of memory", hint="narrow it, or raise the memory limit"
        )
    if type(problem).__name__ == "PanicException":
        return QueryError(f"the query engine failed: {_first_line(text)}", hint="please report the query")
    raised = _RAISED.search(text)  # by a function of ours
    if raised:
        return QueryError(raised[2][:_LONGEST])
    function = _NO_TABLE_FUNCTION.search(text)
    if function:
        return QueryError(f"there is no table function {function[1]}", hint="files cannot be read in SQL")
    missing = _NO_TABLE.search(text)
    if missing:
        name = missing[1]
        return QueryError(f"there is no table {name}", hint=like(name))
    if "RecursionLimitExceeded" in text:
        return QueryError("the query is nested too deeply", hint="at most about 40 levels")
    parser = _PARSER.search(text)
    if parser:
        return QueryError(f"syntax error: {parser[1]}"[:_LONGEST])
    return QueryError(_first_line(text), hint=_hint(text))


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rest = ""
    for line in lines:
        rest = line
        while (shorter := _PREFIX.sub("", rest, count=1)) != rest:
            rest = shorter
        if rest:
            break
    rest = _OURS.sub(r"counter_\1", rest).replace("counter_rate_step", "counter_rate")
    return (rest[: _LONGEST - 1] + "…") if len(rest) > _LONGEST else rest or "the query failed"


def _hint(text: str) -> str:
    if "Timestamp" in text and "Int64" in text:
        return "write times as text or TIMESTAMP '2026-01-31T12:00:00Z'; ts_bucket takes numbers, time_bucket is for timestamps"
    if "No field named" in text:
        return "names in capitals need double quotes"
    return ""
