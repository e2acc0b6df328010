-- KEYS: 1 the hash
-- ARGV: 1 the stamp that is known
-- Gives the stamp, and where it is another one all names, each with its second.
local stamp = redis.call('HGET', KEYS[1], 'stamp') or ''
-- Nothing at all has no stamp of its own: it may be the nothing that something was lost to.
if stamp ~= '' and stamp == ARGV[1] then return { stamp } end
return { stamp, redis.call('HGETALL', KEYS[1]) }
