"""Reads the load generator's files with the HdrHistogram project's Python library, and prints the values.

    check.py RUN.hlog HISTOGRAM.txt [RUN.hgrm]

RUN.hlog is an interval log, HISTOGRAM.txt holds one histogram as base64, RUN.hgrm the percentile distribution of that
histogram. Prints one JSON object:

    {"hlog": {"start_s", "intervals": [{"start_s", "length_s", "tag", COUNTS}], COUNTS of all intervals merged},
     "histogram": {COUNTS},
     "hgrm": {"rows", "rows_unlike"}}

COUNTS are "count", "min_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns" and "max_ns". "rows_unlike" are the rows of
RUN.hgrm whose value or total differs from the library's; the list should be empty.
"""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

# The bounds of the load generator's histograms: 1 ns to 1 h at three digits.
BOUNDS = (1, 3_600_000_000_000, 3)

NANOSECONDS_PER_MILLISECOND = 1_000_000


def recorded(histogram):
    """Pairs of a value and the number of values up to it, from the library."""
    total = 0
    pairs = []
    for step in histogram.get_recorded_iterator():
        total += step.count_at_value_iterated_to
        pairs.append((histogram.get_highest_equivalent_value(step.value_iterated_to), total))
    return pairs


def at(pairs, per_mille):
    """The smallest value that `per_mille` thousandths do not exceed, as in the Java library since 2.1.10.

    The library's get_value_at_percentile rounds the rank to the nearest one, which in a histogram of few values can
    give the previous value.
    """
    count = pairs[-1][1] if pairs else 0
    rank = max(1, -(-count * per_mille // 1000))
    return next((value for value, total in pairs if total >= rank), 0)


def counts(histogram):
    pairs = recorded(histogram)
    return {
        "count": histogram.get_total_count(),
        "min_ns": histogram.get_min_value() if pairs else 0,
        "p50_ns": at(pairs, 500),
        "p90_ns": at(pairs, 900),
        "p99_ns": at(pairs, 990),
        "p99_9_ns": at(pairs, 999),
        "max_ns": histogram.get_max_value(),
    }


def read_log(path):
    reader = HistogramLogReader(path, HdrHistogram(*BOUNDS))
    intervals = []
    merged = HdrHistogram(*BOUNDS)
    while (histogram := reader.get_next_interval_histogram()) is not None:
        start_ms = histogram.get_start_time_stamp()
        intervals.append(
            {
                "start_s": start_ms / 1000 - reader.get_start_time_sec(),
                "length_s": (histogram.get_end_time_stamp() - start_ms) / 1000,
                "tag": histogram.get_tag(),
                **counts(histogram),
            }
        )
        merged.add(histogram)
    reader.close()
    return {"start_s": reader.get_start_time_sec(), "intervals": intervals, **counts(merged)}


def compare_distribution(path, histogram):
    """Checks each row against the histogram. The library uses other percentile steps, so the texts differ."""
    with open(path, encoding="utf-8") as file:
        # Split at blanks like the plotter does, without comments and head.
        rows = [line.split() for line in file.read().splitlines()[2:] if not line.startswith("#")]
    pairs = recorded(histogram)
    totals_before = dict(zip((value for value, _ in pairs), [0] + [total for _, total in pairs]))
    totals = dict(pairs)
    unlike = []
    for value_ms, percentile, total, *_ in rows:
        value_ns = round(float(value_ms) * NANOSECONDS_PER_MILLISECOND)
        rank = float(percentile) * histogram.get_total_count()
        # The percentile has twelve digits, so that its rank is exact to a thousandth.
        is_equal = value_ns in totals and totals_before[value_ns] < rank + 0.001 and rank - 0.001 <= totals[value_ns]
        if not is_equal or int(total) != totals[value_ns]:
            unlike.append([value_ms, percentile, total, totals.get(value_ns)])
    return {"rows": len(rows), "rows_unlike": unlike}


def main():
    hlog, encoded, *hgrm = sys.argv[1:]
    with open(encoded, encoding="utf-8") as file:
        histogram = HdrHistogram.decode(file.read().strip())
    result = {"hlog": read_log(hlog), "histogram": counts(histogram)}
    if hgrm:
        result["hgrm"] = compare_distribution(hgrm[0], histogram)
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main()
