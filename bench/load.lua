-- Load for wrk: wrk ... -s load.lua URL -- CONTENT_TYPE TOKEN BODY NUMBERS PAUSE_MS ENVELOPED STEP
--
-- BODY is a pattern of string.format. NUMBERS fills it: "count" counts up, and a
-- number N draws from 0 to N-1, times STEP. PAUSE_MS is the mean of the pauses of a
-- connection between an answer and its next request, drawn from an exponential
-- distribution, so that requests arrive as from many callers; 0 is as fast as it
-- can. ENVELOPED is "yes" for a message of a stream, which stands behind a byte
-- of flags and four of its length. Prints one line of JSON at the end.
function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[1]
  if args[2] ~= "" then wrk.headers["Authorization"] = "Bearer " .. args[2] end
  pattern = args[3]
  count = args[4] == "count"
  range = tonumber(args[4])
  number = 0
  enveloped = args[6] == "yes"
  step = tonumber(args[7])
  math.randomseed(os.time())
  local mean = tonumber(args[5])
  if mean > 0 then
    delay = function() return math.floor(-math.log(1 - math.random()) * mean + 0.5) end
  end
end

function request()
  if count then number = number + 1 else number = math.random(0, range - 1) * step end
  local body = string.format(pattern, number)
  if enveloped then body = "\0\0\0" .. string.char(math.floor(#body / 256), #body % 256) .. body end
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"bytes":%d,"seconds":%f,"p50":%f,"p99":%f,"p999":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
