-- HTTP load for wrk: POST /api/v1/provision, a new name each; what ThingsBoard's devices send.
-- run: PROVISION_KEY=.. PROVISION_SECRET=.. wrk -t1 -c256 -d5s --latency -s births.lua http://127.0.0.1:8080
local key, secret, count = os.getenv('PROVISION_KEY'), os.getenv('PROVISION_SECRET'), 0
local headers = {['Content-Type'] = 'application/json'}
request = function()
  count = count + 1
  return wrk.format('POST', '/api/v1/provision', headers, '{"deviceName":"born-' .. count ..
    '","provisionDeviceKey":"' .. key .. '","provisionDeviceSecret":"' .. secret .. '"}')
end
