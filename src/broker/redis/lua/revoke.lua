-- Keeps revocations, each under a name, with the second at which it was made. A later one of a name takes an older one's place.
-- KEYS: 1 the hash
-- ARGV: 1 the second that it is, 2 for how many seconds one is kept, 3 how many at most, 4 a new stamp, then name and second, …
-- Gives how many found no room.
--
-- The stamp is a field of the hash: a Redis that evicts takes both or neither, so those who know what was evicted see it. And
-- the hash has no time to live: where only keys with one are evicted, it stays.
local now, life, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function count()
  return redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], 'stamp')
end

local function prune()
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if all[i] ~= 'stamp' and tonumber(all[i + 1]) + life <= now then redis.call('HDEL', KEYS[1], all[i]) end
  end
end

local full, changed, pruned = 0, false, false
for i = 5, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known and not pruned and count() >= most then
    prune()
    pruned = true
  end
  if not known and count() >= most then
    full = full + 1
  elseif not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = true
  end
end
if changed then redis.call('HSET', KEYS[1], 'stamp', ARGV[4]) end
redis.call('PERSIST', KEYS[1])
return full
