"""What the tokenizer takes for what, and what it refuses."""

from __future__ import annotations

import pytest

from kymograph.errors import QueryError
from kymograph.sql.rewrite import Rewriter
from kymograph.sql.tokens import MAX_TEXT, tokenize


def written(text: str) -> str:
    return Rewriter({}).render(tokenize(text)).strip()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("select a.b", ["word", "word", "punct", "word"]),
        ("'it''s' \"a\"\"b\" `c`", ["string", "name", "name"]),
        ("$a $1 $$x$$ $t$ '$$ $t$", ["param", "param", "string", "string"]),
        ("1 1.5 .5 1e-5 2.", ["number"] * 5),
        ("a--b\n/* c /* d */ */e", ["word", "word"]),
        ("a$b", ["word"]),
        ("größe", ["word"]),
    ],
)
def test_kinds(text: str, kinds: list[str]) -> None:
    assert [token.kind for token in tokenize(text)] == kinds


def test_values() -> None:
    values = [token.value for token in tokenize("SELECT 'it''s', \"A\"\"b\", $g, $q$x'y$q$")]
    assert values == ["select", "it's", ",", 'A"b', ",", "g", ",", "x'y"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT /* ' */ 1 -- '", "SELECT 1"),
        ("1-/**/-1", "1- -1"),
        ("SELECT $$it's$$", "SELECT 'it''s'"),
        ("SELECT `a b`", 'SELECT "a b"'),
        ("SELECT a::int, b->>'c'", "SELECT a::int, b->>'c'"),
        ("SELECT 1 ; ;", "SELECT 1"),
    ],
)
def test_written_back(text: str, expected: str) -> None:
    assert written(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  -- only this", "empty"),
        ("select 'a", "no closing '"),
        ('select "a', 'no closing "'),
        ("select $x$ a", r"no closing \$x\$"),
        ("select /* /* */", "is not closed"),
        ("select (1", "bracket is not closed"),
        ("select 1)", "too many"),
        ("select 1; select 2", "one statement"),
        ("select E'a'", "prefix"),
        ("select x'00'", "prefix"),
        ("select\0", "NUL"),
        ("select " + "x" * MAX_TEXT, "characters"),
        ("select 1" + "+1" * 1001, "operators"),
        (" union all ".join(["select 1"] * 101), "SELECTs"),
        ("select 1 from " + ",".join(["t"] * 65), "tables"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        tokenize(text)


def test_commas_of_lists_are_no_tables() -> None:
    tokenize("select " + ",".join("a" * 5 for _ in range(200)) + " from t where a in (" + ",".join("1" * 500) + ")")
    tokenize("select extract(year from time), substring(a from 1), b from t order by " + ",".join(["a"] * 100))


def test_clauses_mark_the_items_of_lists() -> None:
    tokens = tokenize("SELECT a, f(b) FROM t, u WHERE c")
    assert {t.value: t.clause for t in tokens if t.value in "abtuc"} == {
        "a": "select",
        "b": "",
        "t": "from",
        "u": "from",
        "c": "",
    }
