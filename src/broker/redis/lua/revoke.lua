-- Keeps revocations, each under a name, with the second at which it was made. A later one of a name takes an older one's place.
-- KEYS: 1 the hash, 2 the stamp
-- ARGV: 1 the second that it is, 2 for how many seconds one is kept, 3 how many at most, 4 a new stamp, then name and second, …
-- Gives how many found no room.
local now, life, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function prune()
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]) + life <= now then redis.call('HDEL', KEYS[1], all[i]) end
  end
end

local full, changed, pruned = 0, false, false
for i = 5, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known and not pruned and redis.call('HLEN', KEYS[1]) >= most then
    prune()
    pruned = true
  end
  if not known and redis.call('HLEN', KEYS[1]) >= most then
    full = full + 1
  elseif not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = true
  end
end
if changed then redis.call('SET', KEYS[2], ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], string.format('%d', life * 1000))
redis.call('PEXPIRE', KEYS[2], string.format('%d', life * 1000))
return full
