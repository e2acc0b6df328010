-- Stores and announces a publication in one step: fence, dedupe, offset, append, announce. Of a mutation, which is one of a
-- log's channel, it writes the slots that it touches too.
-- KEYS: meta hash, stream; then those of these that there are: idempotency key, version table of a log, births and index
-- ARGV: 1 a new seed, 2 the publication, 3 hash of its data ('' without an idempotency key),
--       4 life of the key in ms, 5 publications kept, 6 bytes kept, 7 life of a publication in ms,
--       8 life of the meta in ms ('' for ever), 9 pub/sub channel, 10 PUBLISH or SPUBLISH; of a log 11 slots of a new table,
--       12 slots touched, 4 bytes each, of a table of 2^32
-- Gives {'new', position, time} or {'repeated', position} or {'mismatch'}, or {'unborn'} where births must be among the keys.
local meta, stream = KEYS[1], KEYS[2]
local keys_taken = 2
-- A key that may be missing beside others that are there stops everything while a slot moves: so each is passed only if needed.
local function next_key(is_there)
  if not is_there then return nil end
  keys_taken = keys_taken + 1
  return KEYS[keys_taken]
end
local key = next_key(ARGV[3] ~= '')
local versions = next_key(ARGV[11])
local births, index = next_key(true), next_key(true)
local state, refused = numbering(meta, versions, births, ARGV[1])
if refused then return refused end
settle(state, meta, stream, versions, births, index, ARGV[11], ARGV[1])

if key then
  local known = redis.call('GET', key)
  if known then
    if string.sub(known, 1, 32) ~= ARGV[3] then return { 'mismatch' } end
    -- A write, so that who waits for replicas waits for the first one too.
    redis.call('HSET', meta, 'offset', whole(state.offset))
    return { 'repeated', string.sub(known, 33) }
  end
end

local clock = redis.call('TIME')
local time = clock[1] * 1000 + math.floor(clock[2] / 1000)
local offset = state.offset + 1
local position = state.epoch .. '.' .. whole(offset)
local entry = whole(time) .. ' ' .. ARGV[2]
local bytes = state.bytes + #entry

local added = redis.pcall('XADD', stream, whole(offset) .. '-0', 'p', entry)
if type(added) == 'table' and added.err then
  local soiled = string.find(added.err, 'WRONGTYPE', 1, true) or string.find(added.err, 'equal or smaller', 1, true)
  if not soiled then return added end
  -- Somebody else wrote here. The history begins anew: a gap for those who need what it was.
  redis.call('DEL', stream)
  redis.call('XADD', stream, whole(offset) .. '-0', 'p', entry)
end
if versions then
  -- At its whole length from the start, so that one that somebody replaced is told from it.
  if state.offset == 0 then redis.call('SETRANGE', versions, state.slots * 8 - 8, string.rep('\0', 8)) end
  local version = struct.pack('>I8', offset)
  for at = 1, #ARGV[12], 4 do
    redis.call('SETRANGE', versions, struct.unpack('>I4', ARGV[12], at) % state.slots * 8, version)
  end
end
redis.call('HSET', meta, 'offset', whole(offset))
if key then
  redis.call('SET', key, ARGV[3] .. position, 'PX', ARGV[4])
end

-- At most so many at a time: a bound that was lowered must not stop the server.
for _ = 1, 64 do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local number = tonumber(string.match(oldest[1], '^%d+'))
  if number == offset then
    bytes = #entry
    break
  end
  local kept = oldest[2][2]
  -- What no version of ours wrote is as old as can be.
  local expires = tonumber(string.match(kept, '^%d+') or 0) + tonumber(ARGV[7])
  if offset - number < tonumber(ARGV[5]) and bytes <= tonumber(ARGV[6]) and expires > time then break end
  redis.call('XDEL', stream, oldest[1])
  bytes = bytes - #kept
end
redis.call('HSET', meta, 'bytes', whole(bytes))
redis.call('PEXPIRE', stream, ARGV[7])
if ARGV[8] ~= '' then redis.call('PEXPIRE', meta, ARGV[8]) end

redis.call(ARGV[10], ARGV[9], position .. ' ' .. entry)
return { 'new', position, whole(time) }
