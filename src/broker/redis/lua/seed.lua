-- Gives births a seed, unless they have one.
-- KEYS: births
-- ARGV: 1 the seed
local id, refused = primary()
if refused then return refused end
if redis.call('HSETNX', KEYS[1], 'seed', ARGV[1]) == 1 then redis.call('HSET', KEYS[1], 'id', id) end
return 1
