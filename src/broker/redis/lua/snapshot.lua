-- A log as it stands.
-- KEYS: meta hash, version table, perhaps births
-- ARGV: 1 a seed where births have none ('' for none), 2 slots of a new table
-- Gives {epoch, head, lineage, slots, piece of the table, piece, ...}, or {'unborn'} or {'unseeded'}.
local state, refused = numbering(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
if refused then return refused end
if state.is_unborn then return { state.epoch, '0', state.lineage, ARGV[2] } end

-- As one string, it would cost the server twice the time.
local PIECE = 65536
local answer = { state.epoch, whole(state.offset), state.lineage, whole(state.slots) }
for at = 0, redis.call('STRLEN', KEYS[2]) - 1, PIECE do
  answer[#answer + 1] = redis.call('GETRANGE', KEYS[2], at, at + PIECE - 1)
end
return answer
