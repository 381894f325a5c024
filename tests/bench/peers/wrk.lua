-- The limit of the server: the request that every HTTP arm sends; prints one JSON line.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer not-a-key"
wrk.body = '{"model":"bench","temperature":0,"messages":[{"role":"user","content":"' .. string.rep("x", 900) .. '"}]}'

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local line = '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f}'
  print(line:format(summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3))
end
