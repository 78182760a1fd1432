-- HTTP load for wrk: GET /external/api/provision, each with a token of its own.
-- run: TOKENS=file TEMPLATE=.. wrk -t1 -c256 -d5s --latency -s claims.lua http://127.0.0.1:8080
-- The file has a token in each line. Once it is used up, its tokens are claimed again: there must be
-- more of them than can be claimed in the time.
local template = os.getenv('TEMPLATE')
local requests, count = {}, 0
init = function()
  for token in io.lines(os.getenv('TOKENS')) do
    requests[#requests + 1] = wrk.format('GET', '/external/api/provision?token=' .. token ..
      '&templateId=' .. template .. '&ver=1.0.0&build=Oct+1&type=MCU')
  end
end
request = function()
  count = count + 1
  return requests[(count - 1) % #requests + 1]
end
