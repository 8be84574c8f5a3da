-- Appended to every request script: prints wrk's own totals unrounded, on one line that throughput.rs reads.
function done(summary, latency, requests)
  local errors = summary.errors
  local line = '{"requests":%.0f,"duration_microseconds":%.0f,"bytes":%.0f,'
    .. '"p50_microseconds":%.0f,"p99_microseconds":%.0f,'
    .. '"errors":{"connect":%.0f,"read":%.0f,"write":%.0f,"timeout":%.0f,"status":%.0f}}'
  io.write("totals ", string.format(line, summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status), "\n")
end
