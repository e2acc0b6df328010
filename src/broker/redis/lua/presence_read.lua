-- Reads who is in a channel, those who came first first.
-- ARGV: 4 most members
-- Gives {number of members, member, member, ...}.
local answer = { redis.call('ZCOUNT', expiries, '(' .. whole(now), '+inf') }
local most, STEP = tonumber(ARGV[4]), 128
local at = 0
while #answer <= most do
  local sessions = redis.call('ZRANGE', arrivals, at, at + STEP - 1)
  if #sessions == 0 then break end
  local expires = redis.call('ZMSCORE', expiries, unpack(sessions))
  local found = redis.call('HMGET', members, unpack(sessions))
  for i = 1, #sessions do
    local is_here = expires[i] and tonumber(expires[i]) > now and found[i]
    if is_here and #answer <= most then answer[#answer + 1] = found[i] end
  end
  at = at + STEP
end
return answer
