-- HTTP load for wrk: POST /api/v1/provision with a signing request, each with a key of its own.
-- run: PROVISION_KEY=.. PROVISION_SECRET=.. REQUESTS=file wrk -t1 -c256 -d5s --latency -s csr.lua http://127.0.0.1:8080
-- `keys requests N` makes the file. Once it is used up, its keys are asked for again, and refused.
local key, secret = os.getenv('PROVISION_KEY'), os.getenv('PROVISION_SECRET')
local requests, count = {}, 0
for line in io.lines(os.getenv('REQUESTS')) do requests[#requests + 1] = line end
local headers = {['Content-Type'] = 'application/json'}
request = function()
  local csr = requests[count % #requests + 1]
  count = count + 1
  return wrk.format('POST', '/api/v1/provision', headers,
    '{"deviceName":"signed-' .. count .. '","provisionDeviceKey":"' .. key ..
    '","provisionDeviceSecret":"' .. secret .. '","csr":"' .. csr .. '"}')
end
