-- HTTP telemetry load for wrk: POST /api/v1/{token}/telemetry with a time of its own each, so that
-- no reading stands in the place of another one.
-- run: TOKENS=token1,token2,... FIRST_TS=ms wrk -t1 -c256 -d5s --latency -s readings.lua http://127.0.0.1:8080
local tokens, count = {}, 0
for token in string.gmatch(os.getenv('TOKENS'), '[^,]+') do tokens[#tokens + 1] = token end
local first = tonumber(os.getenv('FIRST_TS'))
local headers = {['Content-Type'] = 'application/json'}
request = function()
  local device, number = tokens[count % #tokens + 1], math.floor(count / #tokens)
  count = count + 1
  return wrk.format('POST', '/api/v1/' .. device .. '/telemetry', headers,
    string.format('{"ts":%.0f,"values":{"level":%d}}', first + number, number))
end
