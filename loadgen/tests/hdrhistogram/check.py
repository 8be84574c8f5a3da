"""Reads what the load generator wrote with the HdrHistogram project's own Python library, and prints what it found.

    check.py RUN.hlog HISTOGRAM.txt [RUN.hgrm]

RUN.hlog is an interval log, HISTOGRAM.txt holds one histogram as base64, RUN.hgrm the percentile distribution of that
histogram. Prints one JSON object:

    {"hlog": {"start_s", "intervals": [{"start_s", "length_s", "tag", COUNTS}], COUNTS of all intervals together},
     "histogram": {COUNTS},
     "hgrm": {"rows", "rows_unlike"}}

COUNTS are "count", "min_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns" and "max_ns". "rows_unlike" are the rows of
RUN.hgrm whose value or total the library finds to be another one; an empty list is as it should be.
"""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

# The bounds the load generator records with: 1 ns to 1 h at three digits.
BOUNDS = (1, 3_600_000_000_000, 3)

NANOSECONDS_PER_MILLISECOND = 1_000_000


def recorded(histogram):
    """Pairs of a value and how many are no longer, as the library counts them."""
    total = 0
    pairs = []
    for step in histogram.get_recorded_iterator():
        total += step.count_at_value_iterated_to
        pairs.append((histogram.get_highest_equivalent_value(step.value_iterated_to), total))
    return pairs


def at(pairs, per_mille):
    """The shortest value that so many of a thousand do not exceed, as Java has it since 2.1.10.

    The library's own get_value_at_percentile rounds the rank to the nearest instead, which in a histogram of few values
    is at times the value before.
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
    together = HdrHistogram(*BOUNDS)
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
        together.add(histogram)
    reader.close()
    return {"start_s": reader.get_start_time_sec(), "intervals": intervals, **counts(together)}


def compare_distribution(path, histogram):
    """Holds each row against the histogram: the library steps through percentiles otherwise, so its text differs."""
    with open(path, encoding="utf-8") as file:
        # As the plotter splits them: by blanks, comments and the head left out.
        rows = [line.split() for line in file.read().splitlines()[2:] if not line.startswith("#")]
    pairs = recorded(histogram)
    befores = dict(zip((value for value, _ in pairs), [0] + [total for _, total in pairs]))
    totals = dict(pairs)
    unlike = []
    for value_ms, percentile, total, *_ in rows:
        value_ns = round(float(value_ms) * NANOSECONDS_PER_MILLISECOND)
        rank = float(percentile) * histogram.get_total_count()
        # The percentile is printed to twelve digits, so its rank is that of a value within a thousandth.
        is_there = value_ns in totals and befores[value_ns] < rank + 0.001 and rank - 0.001 <= totals[value_ns]
        if not is_there or int(total) != totals[value_ns]:
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
