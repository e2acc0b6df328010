-- Where a log stands.
-- KEYS: meta hash, stream, version table
-- ARGV: 1 name of a new epoch, 2 slots of a new table, 3 '' if nothing need be written
-- Gives {'stands', position}.
local state, refused = numbering(KEYS[1], KEYS[2], ARGV[1], FENCED, KEYS[3], ARGV[2])
if refused then return refused end
if ARGV[3] ~= '' then
  -- A write that changes nothing, for replicas to confirm; of a kind that a server without memory does not refuse.
  redis.call('PEXPIRE', KEYS[1], 1e12)
  redis.call('PERSIST', KEYS[1])
end
return { 'stands', state.epoch .. '.' .. whole(state.offset) }
