-- Reads what a channel holds after a position, or the newest without one. It writes nothing: it is answered where writes are
-- refused, too.
-- KEYS: meta hash, stream; of a log the version table; perhaps births
-- ARGV: 1 a seed where births have none ('' for none), 2 epoch and 3 offset of the position ('' without one), 4 most publications,
--       5 most bytes, 6 life of the meta in ms ('' for ever), 7 '' if nothing but the head is wanted where there is a gap, 8 life of
--       a publication in ms; of a log 9 '1'
-- Gives {epoch, head, offset before the first publication, gap ('' without one), offset, publication, offset, ...}, and after
-- that 'renew' where the meta should live longer; or {'unborn'} or {'unseeded'}.
local meta, stream = KEYS[1], KEYS[2]
local versions = ARGV[9] and KEYS[3]
local state, refused = numbering(meta, versions, KEYS[versions and 4 or 3], ARGV[1])
if refused then return refused end
local renew = ARGV[6] ~= '' and not state.is_unborn and redis.call('PTTL', meta) < ARGV[6] / 2

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

local clock = redis.call('TIME')
-- What is older is kept no more, though nobody has removed it yet.
local oldest_time = clock[1] * 1000 + math.floor(clock[2] / 1000) - ARGV[8]

local function offset_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

local function entry_from(offset)
  return redis.call('XRANGE', stream, whole(offset), '+', 'COUNT', 1)[1]
end

local function is_expired(entry)
  return tonumber(string.match(entry[2][2], '^%d+') or 0) <= oldest_time
end

-- The offset before the first publication that is kept: each was stored later than the one before it.
local function offset_before()
  local first = not state.is_unborn and entry_from(0)
  if not first then return state.offset end
  local expired, kept = offset_of(first) - 1, state.offset + 1
  if not is_expired(first) then return expired end
  while expired + 1 < kept do
    local middle = math.floor((expired + kept) / 2)
    local entry = entry_from(middle)
    if entry and is_expired(entry) then
      expired = math.max(middle, offset_of(entry))
    else
      kept = middle
    end
  end
  return kept - 1
end

local before = offset_before()
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
local function answer(page)
  if renew then page[#page + 1] = 'renew' end
  return page
end

if gap ~= '' and ARGV[7] == '' then
  return answer({ state.epoch, whole(state.offset), whole(state.offset), gap })
end

local page = { state.epoch, whole(state.offset), whole(from), gap }
local next_offset, last = from + 1, math.min(state.offset, from + most)
while next_offset <= last do
  local count = math.min(64, last - next_offset + 1)
  local entries = redis.call('XRANGE', stream, whole(next_offset), '+', 'COUNT', count)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    bytes = bytes - #entry[2][2]
    if bytes < 0 and #page > 4 then return answer(page) end
    page[#page + 1] = string.match(entry[1], '^%d+')
    page[#page + 1] = entry[2][2]
  end
  next_offset = next_offset + count
end
-- Somebody else took away what should be there.
if #page == 4 and most > 0 and from < state.offset then
  page[3], page[4] = whole(state.offset), gap ~= '' and gap or 'lost'
end
return answer(page)
