-- A log as it stands.
-- KEYS: meta hash, stream, version table
-- ARGV: 1 name of a new epoch, 2 slots of a new table
-- Gives {epoch, head, lineage, slots, table}.
local state, refused = numbering(KEYS[1], KEYS[2], ARGV[1], FENCED, KEYS[3], ARGV[2])
if refused then return refused end
return { state.epoch, whole(state.offset), state.lineage, whole(state.slots), redis.call('GETRANGE', KEYS[3], 0, -1) }
