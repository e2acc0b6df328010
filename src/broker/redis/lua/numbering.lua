-- The part that reads and writes of a channel begin with. What is read here writes nothing; `settle` writes it.

-- The replication id of this server, or an error where it is no primary.
local function primary()
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) then
    return nil, redis.error_reply('NOTPRIMARY this server is a replica')
  end
  local id = string.match(info, 'master_replid:(%x+)')
  if not id then return nil, redis.error_reply('NOTPRIMARY this server does not say its replication id') end
  return id
end

-- Whole numbers as text: tostring would write large ones with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- The last `most` words of a text.
local function last_words(text, most)
  local words = {}
  for word in string.gmatch(text, '%S+') do words[#words + 1] = word end
  return table.concat(words, ' ', math.max(1, #words - most + 1))
end

-- A name that follows from these words, the same on every server and for every instance.
local function derived(...)
  return string.sub(redis.sha1hex(table.concat({ ... }, ' ')), 1, 20)
end

-- Whether a log's version table is as its numbering left it: whole from the first mutation on, and not there before.
local function is_whole(versions, slots, offset)
  return slots and redis.call('STRLEN', versions) == (offset > 0 and slots * 8 or 0)
end

-- Seeds that are remembered; a position of a channel that has none yet, made with an older one, is a gap.
local SEEDS_MAX = 8

-- The numbering that a channel has before its first publication; nil where `births` has no seed and there is no `stand_in`.
-- It follows from the seed, the channel, and how often a numbering of the channel was begun: see numbering.rs.
local function unborn(id, meta, births, stand_in)
  local name = redis.sha1hex(meta)
  local mark = string.sub(name, 1, 12)
  local kept = redis.call('HMGET', births, 'seed', 'id', 'earlier', mark)
  local seed, earlier, times = kept[1], kept[3] or '', kept[4] or '0'
  local is_settled = true
  if not seed then
    if stand_in == '' then return nil end
    seed, is_settled = stand_in, false
  elseif FENCED and kept[2] ~= id then
    earlier = last_words(earlier .. ' ' .. seed, SEEDS_MAX)
    seed, is_settled = derived(seed, id), false
  end
  local forks = {}
  for before in string.gmatch(earlier, '%S+') do forks[#forks + 1] = derived(before, name, times) .. '.0' end
  return {
    epoch = derived(seed, name, times), offset = 0, lineage = table.concat(forks, ' '), bytes = 0, id = id,
    is_unborn = true, mark = mark, seed = seed, earlier = earlier, seed_is_settled = is_settled,
  }
end

-- The channel's numbering as the hash `meta` has it. Under another replication id, what came last may be lost: another
-- epoch continues what is left, whose name follows from the one before, the fork and the id. Of a log there is `versions`, the
-- key of its table; where the table is not whole, nothing can be said of any position so far. Where there is no numbering,
-- the one that the first publication will store, of which `births` has a part; without that key the answer is 'unborn', and
-- without a seed in it 'unseeded'.
local function numbering(meta, versions, births, stand_in)
  local id, refused = primary()
  if refused then return nil, refused end
  local kept = redis.call('HMGET', meta, 'epoch', 'offset', 'id', 'lineage', 'bytes', 'slots')
  local state = {
    epoch = kept[1], offset = tonumber(kept[2]), lineage = kept[4] or '', bytes = tonumber(kept[5]),
    slots = tonumber(kept[6]), id = id,
  }
  -- One of which a part is missing was not left so by us.
  local is_ours = state.epoch and state.offset and state.bytes
  if is_ours and (not versions or is_whole(versions, state.slots, state.offset)) then
    if FENCED and kept[3] ~= id then
      local fork = whole(state.offset)
      state.lineage = last_words(state.lineage .. ' ' .. state.epoch .. '.' .. fork, 64)
      state.epoch = derived(state.epoch, fork, id)
      state.is_forked = true
    end
    return state
  end
  if not births then return nil, { 'unborn' } end
  local coming = unborn(id, meta, births, stand_in)
  if not coming then return nil, { 'unseeded' } end
  return coming
end

-- Begins to remember anew whose numberings were begun, once that takes more than a small part of all keys.
local function bound_births(births, fresh, id)
  local count = redis.call('HLEN', births)
  if count > BIRTHS_MAX and count * BIRTHS_SHARE > redis.call('DBSIZE') then
    redis.call('UNLINK', births)
    redis.call('HSET', births, 'seed', fresh, 'id', id)
  end
end

-- Lists the channel in `index`, and takes out others that are there no more: so the dead never outnumber the living by much.
local function list(meta, index)
  local before, name = string.match(meta, '^(.-){(.*)}:m$')
  redis.call('SADD', index, name)
  for _, other in ipairs(redis.call('SRANDMEMBER', index, 2)) do
    -- While a slot moves this key may be elsewhere, which is an error.
    if redis.pcall('EXISTS', before .. '{' .. other .. '}:m') == 0 then redis.call('SREM', index, other) end
  end
end

-- Stores a numbering that was only read so far. `slots` are those of a new table.
local function settle(state, meta, stream, versions, births, index, slots, fresh)
  if state.is_forked then
    redis.call('HSET', meta, 'epoch', state.epoch, 'id', state.id, 'lineage', state.lineage)
  elseif state.is_unborn then
    -- First what a server without memory refuses: then nothing is done.
    redis.call('HSET', meta, 'epoch', state.epoch, 'offset', 0, 'id', state.id, 'lineage', state.lineage, 'bytes', 0)
    redis.call('DEL', stream)
    if versions then
      state.slots = tonumber(slots)
      redis.call('HSET', meta, 'slots', slots)
      redis.call('DEL', versions)
    end
    if not state.seed_is_settled then
      redis.call('HSET', births, 'seed', state.seed, 'id', state.id, 'earlier', state.earlier)
    end
    redis.call('HINCRBY', births, state.mark, 1)
    list(meta, index)
    bound_births(births, derived(fresh, 'next'), state.id)
  end
end
