-- HTTP load for wrk: POST /api/v1/organization/device/provision/token, a new token each.
-- run: BEARER=.. ORG=1 OWNER=1 wrk -t1 -c256 -d5s --latency -s issue.lua http://127.0.0.1:8080
local headers = {
  ['Content-Type'] = 'application/json',
  ['Authorization'] = 'Bearer ' .. os.getenv('BEARER'),
}
local body = '{"orgId":' .. os.getenv('ORG') .. ',"ownerId":' .. os.getenv('OWNER') .. '}'
request = function()
  return wrk.format('POST', '/api/v1/organization/device/provision/token', headers, body)
end
