-- Takes in who is here on one instance, and who is not any more; announces what is new to it, and who expired.
-- ARGV: 4 number of members that are here, then session and member of each, then session and member of those that are gone
-- Gives the number of members that expired.
local joined, left = {}, {}
local gone = 5 + 2 * ARGV[4]
for at = 5, gone - 2, 2 do
  if redis.call('ZADD', expiries, whole(now + ARGV[1]), ARGV[at]) == 1 then
    joined[#joined + 1] = ARGV[at + 1]
  end
  redis.call('HSET', members, ARGV[at], ARGV[at + 1])
  redis.call('ZADD', arrivals, string.match(ARGV[at + 1], '"since":(%d+)}$') or 0, ARGV[at])
end
-- Announced even where it is unknown: whoever still knows it, from before this server lost its keys, hears of it.
for at = gone, #ARGV - 1, 2 do
  remove(ARGV[at])
  left[#left + 1] = ARGV[at + 1]
end
local expired = prune(left)
redis.call('PEXPIRE', expiries, 2 * ARGV[1])
redis.call('PEXPIRE', members, 2 * ARGV[1])
redis.call('PEXPIRE', arrivals, 2 * ARGV[1])
announce(joined, left)
return expired
