"""PromQL by chance, of a seed: expressions over the data set, and texts that are nearly expressions.

What Prometheus 2 and 3 answer otherwise is left out by construction: all times are multiples of half a second and
subqueries span a quarter more, so that no window begins on a sample or a step; no `atan2` between vectors, no NaN for k,
no spread or quantile of infinities, no `predict_linear` at a fixed time, no regex for a text of two lines. So is what turns a difference in the last digit
into another answer: only samples as they are stored are rounded, compared and counted by value.
"""

from __future__ import annotations

import random

from tests.prometheus import data

_LABELS = {
    "node_cpu_seconds_total": ("instance", "cpu", "mode"),
    "requests_total": ("job", "code", "instance"),
    "memory_used_bytes": ("instance",),
    "memory_total_bytes": ("instance", "unit"),
    "build_info": ("instance", "version"),
    "up": ("instance", "job"),
    "temperature_celsius": ("floor",),
    "http_request_duration_seconds_bucket": ("job", "le"),
    "sparse": ("n",),
    "nothing_there": ("job",),
}
_COUNTERS = ("node_cpu_seconds_total", "requests_total", "http_request_duration_seconds_bucket")
_VALUES = ("a:9100", "b:9100", "node", "api", "200", "404", "+Inf", "0", "-1", "1.0", "kitchen", "user", "", "nobody")
_REGEXES = (
    "a:.*|b:.*",
    ".+",
    ".*",
    "",
    "[a-k].*",
    "(?i)API",
    "4..|5..",
    "[^a]+",
    "(a|b|web)(:9100)?",
    "\\\\d+",
    "-?1|0",
)
_NUMBERS = ("0", "1", "-1", "2.5", ".5", "3.", "1e3", "0x1F", "017", "Inf", "-Inf", "NaN", "1e-3", "300", "+7")
_WINDOWS = ("45s", "1m30s", "2m", "5m", "300s", "10m500ms", "1h", "0h7m")
_STEPS = ("", "30s", "45s", "1m1s", "15500ms", "2m")
_OVER = (
    *("avg_over_time", "sum_over_time", "min_over_time", "max_over_time", "count_over_time"),
    *("last_over_time", "present_over_time", "changes", "resets", "delta", "idelta", "irate", "deriv"),
    *("absent_over_time", "stddev_over_time"),
)
_ONES = (
    *("abs", "ceil", "floor", "sqrt", "exp", "ln", "log2", "log10", "sgn", "sin", "cos", "tan", "atan"),
    *("asinh", "deg", "rad", "round", "timestamp", "minute", "sort"),
)
_PIECES = (
    *("up", "sum", "rate", "(", ")", "{", "}", "[", "]", ",", ":", "5m", "30", "1.5", "'x'", '"y"', "`z`", "=", "!="),
    *("=~", "!~", "==", "<", "+", "-", "*", "/", "^", "and", "or", "unless", "by", "without", "on", "ignoring", "bool"),
    *(
        "group_left",
        "offset",
        "@",
        "job",
        "a:b",
        "inf",
        "0x1F",
        "1e",
        ".",
        "5.",
        "5mm",
        "#c\n",
        "\n",
        "topk",
    ),
    *(
        "time()",
        "absent",
        "!",
        "$",
        "é",
        "\\",
        "__name__",
        "_x",
        "09",
        "1.2.3",
        "'\\''",
        '"\\q"',
        "`\\`",
    ),
)


class Chance:
    """Texts of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _one(self, *texts: str) -> str:
        return self._random.choice(texts)

    def _now_and_then(self, share: float, text: str) -> str:
        return text if self._random.random() < share else ""

    def query(self) -> str:
        return self._vector(self._random.choice((1, 2, 2, 3, 3, 4)))

    def text(self) -> str:
        """Hardly ever a query."""
        found = self.query() if self._random.random() < 0.7 else ""
        for _ in range(self._random.randint(1, 3) if found else self._random.randint(1, 7)):
            low, high = sorted(self._random.randrange(len(found) + 1) for _ in range(2))
            if self._random.random() < 0.6:
                low, high = high, min(len(found), high + self._random.randrange(4))
            found = found[:low] + self._one("", " ", " ") + self._one("", *_PIECES) + self._one("", " ") + found[high:]
        return found

    def times(self) -> tuple[dict[str, object], dict[str, object]]:
        """When to ask, at one time and over a range."""
        at = data.START + self._random.randrange(-600, 15_000) / 2
        start = data.START + self._random.randrange(-600, 13_000) / 2
        step = self._random.choice((0.5, 7, 13.5, 15, 61, 119.5, 300))
        return {"time": at}, {"start": start, "end": start + step * self._random.choice((0, 1.5, 9, 30)), "step": step}

    def _matchers(self, name: str) -> str:
        found = []
        for _ in range(self._random.choice((0, 0, 1, 1, 2))):
            sign = self._one("=", "!=", "=~", "!~")
            quote = self._one('"', "'")
            text = self._one(*_VALUES) if "~" not in sign else self._one(*_REGEXES)
            found.append(f"{self._one(*_LABELS[name], 'other')}{sign}{self._one('', ' ')}{quote}{text}{quote}")
        return "{" + ", ".join(found) + self._now_and_then(0.1, ",") * bool(found) + "}" if found else ""

    def _when(self) -> str:
        at = self._one("start()", "end()", str(data.START + self._random.randrange(14_000) / 2))
        back = self._one("30s", "5m500ms", "-90s", "1h", "1m0s")
        parts = [self._now_and_then(0.15, f" @ {at}"), self._now_and_then(0.15, f" offset {back}")]
        return "".join(self._random.sample(parts, 2))

    def _selector(self, *names: str) -> str:
        name = self._one(*(names or _LABELS))
        return name + self._matchers(name) + self._when()

    def _window(self, depth: int, *names: str) -> str:
        if depth and self._random.random() < 0.3:
            inner = self._selector(*names) if names else self._vector(depth - 1)
            return f"({inner})[{self._one('20s250ms', '5m250ms', '20m250ms')}:{self._one(*_STEPS)}]{self._when()}"
        name = self._one(*(names or _LABELS))
        return f"{name}{self._matchers(name)}[{self._one(*_WINDOWS)}]{self._when()}"

    def _scalar(self, depth: int) -> str:
        if not depth or self._random.random() < 0.7:
            return self._one(*_NUMBERS)
        return self._one("time()", "pi()", f"scalar({self._vector(depth - 1)})", f"({self._scalar(depth - 1)} - 3)")

    def _labels(self) -> str:
        some = self._random.sample(("instance", "job", "mode", "code", "le", "room", "x"), self._random.randrange(4))
        return f"({', '.join(some)})"

    def _vector(self, depth: int) -> str:
        if depth <= 0:
            return self._selector()
        makers = (self._function, self._function, self._over, self._over, self._aggregate, self._binary, self._other)
        return self._random.choice(makers)(depth - 1)

    def _function(self, depth: int) -> str:
        if self._random.random() < 0.6:
            return f"{self._one(*_ONES)}({self._selector()})"
        return self._one(f"-{self._paren(depth)}", f"abs({self._vector(depth)})", f"sgn({self._selector()} - 50)")

    def _paren(self, depth: int) -> str:
        return f"({self._vector(depth)})"

    def _over(self, depth: int) -> str:
        if self._random.random() < 0.3:
            return f"{self._one('rate', 'increase')}({self._window(depth, *_COUNTERS)})"
        if self._random.random() < 0.2:
            q = self._one("0", "0.3", "0.9", "1", "-1", "2")
            return f"quantile_over_time({q}, {self._window(0, 'temperature_celsius', 'up')})"
        return f"{self._one(*_OVER)}({self._window(depth)})"

    def _aggregate(self, depth: int) -> str:
        grouped = self._now_and_then(0.6, f" {self._one('by', 'without', 'BY')} {self._labels()} ")
        kind = self._random.random()
        if kind < 0.15:
            return f'count_values{grouped}("{self._one("v", "job")}", {self._selector()})'
        if kind < 0.35:
            return f"{self._one('topk', 'bottomk')}{grouped}({self._one('0', '1', '3', '-1')}, {self._selector()})"
        inner = self._vector(depth)
        if self._random.random() < 0.5:
            return f"{self._one('sum', 'count', 'min', 'max', 'group', 'avg', 'Sum')}{grouped}({inner})"
        return f"{self._one('sum', 'count', 'min', 'max', 'group')}({inner}){grouped}"

    def _binary(self, depth: int) -> str:
        kind = self._random.random()
        if kind < 0.3:
            match = self._now_and_then(0.6, f"{self._one('on', 'ignoring')} {self._labels()} ")
            return f"{self._paren(depth)} {self._one('and', 'or', 'unless', 'AND')} {match}{self._paren(depth)}"
        if kind < 0.5:
            compared = f"{self._one('==', '!=', '<', '>', '<=', '>=')} {self._now_and_then(0.4, 'bool ')}"
            return f"{self._selector()} {compared}{self._scalar(0)}"
        if kind < 0.7:
            return f"{self._paren(depth)} {self._one('+', '-', '*', '/', '^')} {self._scalar(depth)}"
        match = self._now_and_then(0.7, f"{self._one('on', 'ignoring')} {self._labels()} ")
        match += self._now_and_then(0.4, f"{self._one('group_left', 'group_right')} {self._labels()} ") * bool(match)
        return f"{self._paren(depth)} {self._one('+', '-', '*', '/')} {match}{self._paren(depth)}"

    def _other(self, depth: int) -> str:
        pattern, new = (
            self._one("(.*):.*", "(?P<n>.)(.*)", "", "a|(b).*"),
            self._one("$1", "${n}-$2", "", "x$$", "$1_x"),
        )
        return self._one(
            f"histogram_quantile({self._one('0.5', '0.99', '0', '1', '-1')}, {self._window_of_buckets()})",
            f'label_replace({self._vector(depth)}, "{self._one("to", "job")}", "{new}", "instance", "{pattern}")',
            f'label_join({self._vector(depth)}, "to", "{self._one("-", "")}", "job", "instance")',
            f"absent({self._vector(depth)})",
            f"vector({self._scalar(depth)})",
            f"clamp({self._vector(depth)}, {self._one('-1', '0', 'NaN')}, {self._one('10', '-5', 'Inf')})",
            f"clamp_max({self._vector(depth)}, {self._one('1', '-5', 'NaN')})",
        )

    def _window_of_buckets(self) -> str:
        buckets = self._selector("http_request_duration_seconds_bucket")
        return self._one(buckets, f"rate({self._window(0, 'http_request_duration_seconds_bucket')})")
