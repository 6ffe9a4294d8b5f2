"""Signatures of every function and operator, as the parser checks them."""

from __future__ import annotations

from dataclasses import dataclass

from kymograph.promql.ast import Kind

AGGREGATORS = {
    "sum": "", "avg": "", "count": "", "min": "", "max": "", "group": "", "stddev": "", "stdvar": "",
    "topk": "scalar", "bottomk": "scalar", "quantile": "scalar", "limitk": "scalar", "limit_ratio": "scalar",
    "count_values": "string", "median": "",
}  # fmt: skip
COMPARISONS = frozenset(("==", "!=", "<", ">", "<=", ">="))
SETS = frozenset(("and", "or", "unless", "if", "ifnot", "default"))
# binding strength; ^ binds to the right
PRECEDENCE = {
    "default": 1, "if": 2, "ifnot": 2, "or": 3, "and": 4, "unless": 4,
    **dict.fromkeys(COMPARISONS, 5), "+": 6, "-": 6, "*": 7, "/": 7, "%": 7, "atan2": 7, "^": 9,
}  # fmt: skip

_LETTERS: dict[str, Kind] = {"s": "scalar", "v": "vector", "m": "matrix", "t": "string"}
# arguments: s scalar, v vector, m matrix, t string; what follows ? may be left out, * repeats the one before
_SIGNATURES = {
    "v": "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor histogram_avg histogram_count "
    "histogram_sum histogram_stddev histogram_stdvar ln log10 log2 rad sgn sin sinh sort sort_desc sqrt tan tanh "
    "timestamp "
    "range_avg range_first range_last range_max range_median range_min range_sum range_stddev range_stdvar "
    "range_linear_regression range_mad range_normalize range_zscore "
    "running_avg running_max running_min running_sum keep_last_value keep_next_value interpolate remove_resets",
    "m": "absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase irate "
    "last_over_time mad_over_time max_over_time min_over_time present_over_time rate resets stddev_over_time "
    "stdvar_over_time sum_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time "
    "ts_of_min_over_time "
    "median_over_time increase_pure tmax_over_time tmin_over_time tfirst_over_time tlast_over_time lag lifetime "
    "sum2_over_time integrate integrate_positive integrate_negative sum_positive_over_time sum_negative_over_time "
    "range_over_time iqr_over_time geomean_over_time mode_over_time distinct_over_time "
    "scrape_interval ideriv deriv_fast rate_over_sum zscore_over_time ascent_over_time descent_over_time "
    "increases_over_time decreases_over_time",
    "m?s": "integral",
    "m?t": "rollup rollup_candlestick rollup_delta rollup_deriv rollup_increase rollup_rate rollup_scrape_interval",
    "ms": "predict_linear share_le_over_time share_gt_over_time share_eq_over_time count_le_over_time "
    "count_gt_over_time count_eq_over_time count_ne_over_time",
    "sm": "quantile_over_time",
    "mss": "double_exponential_smoothing holt_winters",
    "vss": "clamp",
    "vs": "clamp_max clamp_min",
    "sv": "histogram_quantile range_quantile range_trim_outliers range_trim_spikes range_trim_zscore",
    "ssv": "histogram_fraction",
    "v?s": "round",
    "?v": "day_of_month day_of_week day_of_year days_in_month hour minute month year",
    "vt*": "sort_by_label sort_by_label_desc",
    "vttt*": "label_join",
    "vtttt": "label_replace",
    "": "pi time start end step range now",
    "ss": "max_of min_of",
    "s": "vector",
}
_SCALARS = frozenset(("pi", "time", "start", "end", "step", "range", "now", "scalar", "max_of", "min_of"))


@dataclass(frozen=True)
class Signature:
    """Attributes: arguments and their kinds; how many must be there; whether the last one repeats."""

    arguments: tuple[Kind, ...]
    required: int
    repeats: bool
    returns: Kind


def _signature(letters: str, returns: Kind) -> Signature:
    kinds = tuple(_LETTERS[letter] for letter in letters if letter not in "?*")
    required = letters.index("?") if "?" in letters else len(kinds) - letters.endswith("*")
    return Signature(kinds, required, letters.endswith("*"), returns)


FUNCTIONS: dict[str, Signature] = {
    name: _signature(letters, "scalar" if name in _SCALARS else "vector")
    for letters, names in _SIGNATURES.items()
    for name in names.split()
}
FUNCTIONS["histogram_quantiles"] = Signature(("vector", "string", "scalar"), 3, True, "vector")
FUNCTIONS["scalar"] = _signature("v", "scalar")
# its parameters lead and repeat, and the series come last
FUNCTIONS["quantiles_over_time"] = Signature(("string", "scalar", "matrix"), 3, True, "vector")
WINDOWED = frozenset(name for name, s in FUNCTIONS.items() if "matrix" in s.arguments)
