-- A log as it stands.
-- KEYS: meta hash, stream, version table
-- ARGV: 1 name of a new epoch, 2 slots of a new table
-- Gives {epoch, head, lineage, slots, piece of the table, piece, ...}.
local state, refused = numbering(KEYS[1], KEYS[2], ARGV[1], FENCED, KEYS[3], ARGV[2])
if refused then return refused end

-- As one string, it would cost the server twice the time.
local PIECE = 65536
local answer = { state.epoch, whole(state.offset), state.lineage, whole(state.slots) }
for at = 0, redis.call('STRLEN', KEYS[3]) - 1, PIECE do
  answer[#answer + 1] = redis.call('GETRANGE', KEYS[3], at, at + PIECE - 1)
end
return answer
