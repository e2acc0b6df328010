-- Reads who is in a channel, and announces who expired.
-- ARGV: 4 most members
-- Gives {number of members, member, member, ...}.
local left = {}
prune(left)
announce({}, left)
local alive = '(' .. whole(now)
local answer = { redis.call('ZCOUNT', expiries, alive, '+inf') }
local sessions = redis.call('ZRANGEBYSCORE', expiries, alive, '+inf', 'LIMIT', 0, ARGV[4])
if #sessions > 0 then
  for _, member in ipairs(redis.call('HMGET', members, unpack(sessions))) do
    if member then answer[#answer + 1] = member end
  end
end
return answer
