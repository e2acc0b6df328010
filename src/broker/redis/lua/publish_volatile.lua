-- Announces a publication of a channel without history; only its idempotency key is stored.
-- KEYS: idempotency key
-- ARGV: 1 the publication, 2 hash of its data ('' without an idempotency key), 3 life of the key in ms, 4 pub/sub channel,
--       5 PUBLISH or SPUBLISH
-- Gives {'new'} or {'repeated'} or {'mismatch'}.
local _, refused = primary()
if refused then return refused end
if ARGV[2] ~= '' then
  local known = redis.call('GET', KEYS[1])
  if known then return { known == ARGV[2] and 'repeated' or 'mismatch' } end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
local clock = redis.call('TIME')
local time = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call(ARGV[5], ARGV[4], '- ' .. whole(time) .. ' ' .. ARGV[1])
return { 'new' }
