-- The part that the steps of a channel's presence begin with.
-- KEYS: 1 sorted set of sessions by the moment at which they expire (ms), 2 hash of sessions with their members (JSON),
--       3 sorted set of sessions by the moment at which they came (ms)
-- ARGV: 1 life of a member in ms, 2 pub/sub channel of the changes, 3 PUBLISH or SPUBLISH
local expiries, members, arrivals = KEYS[1], KEYS[2], KEYS[3]
local _, refused = primary()
if refused then return refused end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Members that expired at once: so many that the step is short.
local PRUNED_MAX = 256

-- Removes a session.
local function remove(session)
  redis.call('ZREM', expiries, session)
  redis.call('HDEL', members, session)
  redis.call('ZREM', arrivals, session)
end

-- Removes members that were not renewed, and adds them to `left`; gives their number.
local function prune(left)
  local expired = redis.call('ZRANGEBYSCORE', expiries, '-inf', whole(now), 'LIMIT', 0, PRUNED_MAX)
  for _, session in ipairs(expired) do
    local member = redis.call('HGET', members, session)
    if member then left[#left + 1] = member end
    remove(session)
  end
  return #expired
end

-- Announces who came and went, as a publication of JSON without id and key: [0, bytes, nil, nil] in MessagePack.
local function announce(joined, left)
  if #joined + #left == 0 then return end
  local json = '{"joined":[' .. table.concat(joined, ',') .. '],"left":[' .. table.concat(left, ',') .. ']}'
  local stored = '\148\000\198' .. struct.pack('>I4', #json) .. json .. '\192\192'
  redis.call(ARGV[3], ARGV[2], '- ' .. whole(now) .. ' ' .. stored)
end
