-- HTTP load for wrk: POST /api/v1/provision by devices of an allow-list, each with a nonce, under
-- three secrets in turn. gates.py runs it.
-- run: FIRST=0 PAIRS=key:secret,key:secret,key:secret wrk -t1 -c256 -d5s -s gated.lua http://…
local count, pairs_, turn = tonumber(os.getenv('FIRST')), {}, 0
for key, secret in string.gmatch(os.getenv('PAIRS'), '([^:,]+):([^:,]+)') do
  pairs_[#pairs_ + 1] = '"provisionDeviceKey":"' .. key .. '","provisionDeviceSecret":"' .. secret .. '"}'
end
local nonce = os.getenv('NONCE') == '1'
local headers = {['Content-Type'] = 'application/json'}
request = function()
  count, turn = count + 1, turn % #pairs_ + 1
  local body = string.format('{"deviceName":"unit-%07d",', count)
  if nonce then body = body .. string.format('"nonce":"nonce-%026d",', count) end
  return wrk.format('POST', '/api/v1/provision', headers, body .. pairs_[turn])
end
