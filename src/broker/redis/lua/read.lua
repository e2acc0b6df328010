-- Reads what a channel holds after a position, or the newest without one.
-- KEYS: meta hash, stream; of a log the version table
-- ARGV: 1 name of a new epoch, 2 epoch and 3 offset of the position ('' without one), 4 most publications, 5 most bytes,
--       6 life of the meta in ms ('' for ever), 7 '' if nothing but the head is wanted where there is a gap; of a log 8 slots of
--       a new table
-- Gives {epoch, head, offset before the first publication, gap ('' without one), offset, publication, offset, ...}.
local meta, stream = KEYS[1], KEYS[2]
local state, refused = numbering(meta, stream, ARGV[1], FENCED, KEYS[3], ARGV[8])
if refused then return refused end
if ARGV[6] ~= '' and redis.call('PTTL', meta) < ARGV[6] / 2 then
  redis.call('PEXPIRE', meta, ARGV[6])
end

-- The last offset of an epoch that is still what it was; nil for one that is not remembered.
local function reach(epoch)
  local lowest
  for parent, fork in string.gmatch(state.lineage, '(%S+)%.(%d+)') do
    if lowest or parent == epoch then
      lowest = math.min(lowest or tonumber(fork), tonumber(fork))
    end
  end
  return lowest
end

local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local before = first and tonumber(string.match(first[1], '^%d+')) - 1 or state.offset
local most, bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local from, gap = nil, ''
if ARGV[2] == '' then
  from = math.max(before, state.offset - most)
else
  local since = tonumber(ARGV[3])
  local limit = ARGV[2] == state.epoch and since or reach(ARGV[2])
  if not limit or since > limit then
    from, gap = before, 'epoch'
  elseif since > state.offset then
    from, gap = state.offset, 'lost'
  elseif since < before then
    from, gap = before, 'trimmed'
  else
    from = since
  end
end

-- Thousands of subscribers may be told of one gap: each goes on at the head.
if gap ~= '' and ARGV[7] == '' then
  return { state.epoch, whole(state.offset), whole(state.offset), gap }
end

local page = { state.epoch, whole(state.offset), whole(from), gap }
local next_offset, last = from + 1, math.min(state.offset, from + most)
while next_offset <= last do
  local count = math.min(64, last - next_offset + 1)
  local entries = redis.call('XRANGE', stream, whole(next_offset), '+', 'COUNT', count)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    bytes = bytes - #entry[2][2]
    if bytes < 0 and #page > 4 then return page end
    page[#page + 1] = string.match(entry[1], '^%d+')
    page[#page + 1] = entry[2][2]
  end
  next_offset = next_offset + count
end
-- Somebody else took away what should be there.
if #page == 4 and most > 0 and from < state.offset then
  page[3], page[4] = whole(state.offset), gap ~= '' and gap or 'lost'
end
return page
