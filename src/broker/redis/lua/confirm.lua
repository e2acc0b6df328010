-- Where a log stands.
-- KEYS: meta hash, version table, perhaps births
-- ARGV: 1 a seed where births have none ('' for none), 2 '' if nothing need be written
-- Gives {'stands', position}, or {'unborn'} or {'unseeded'}.
local state, refused = numbering(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
if refused then return refused end
if ARGV[2] ~= '' then
  -- A write that changes nothing, for replicas to confirm; of a kind that a server without memory does not refuse.
  local key = state.is_unborn and KEYS[3] or KEYS[1]
  redis.call('PEXPIRE', key, 1e12)
  redis.call('PERSIST', key)
end
return { 'stands', state.epoch .. '.' .. whole(state.offset) }
