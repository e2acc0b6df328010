-- The part that reads and writes of a channel begin with.

-- The replication id of this server, or an error where it is no primary.
local function primary()
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) then
    return nil, redis.error_reply('NOTPRIMARY this server is a replica')
  end
  return string.match(info, 'master_replid:(%x+)')
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

-- Whether a log's version table is as its numbering left it: whole from the first mutation on, and not there before.
local function is_whole(versions, slots, offset)
  return slots and redis.call('STRLEN', versions) == (offset > 0 and slots * 8 or 0)
end

-- The channel's numbering as it is kept in the hash `meta`. Without one, a new one begins under the name `candidate` with
-- an empty stream. Under another replication id, what came last may be lost: `candidate` continues what is left.
-- Of a log there are `versions`, the key of its table, and the number of `slots` that a new table gets; one that is there
-- keeps its own number, whatever an instance is configured to. What this server has of the table goes with what it has of
-- the numbering, so a fork leaves it as it is: no slot is above the fork. Where the table is not whole, nothing can be said of
-- any position so far, and a new numbering without a past begins.
local function numbering(meta, stream, candidate, fenced, versions, slots)
  local id, refused = primary()
  if refused then return nil, refused end
  local kept = redis.call('HMGET', meta, 'epoch', 'offset', 'id', 'lineage', 'bytes', 'slots')
  local state = {
    epoch = kept[1], offset = tonumber(kept[2]), lineage = kept[4] or '', bytes = tonumber(kept[5]),
    slots = tonumber(kept[6]),
  }
  -- One of which a part is missing was not left so by us.
  local is_ours = state.epoch and state.offset and state.bytes
  if not is_ours or versions and not is_whole(versions, state.slots, state.offset) then
    redis.call('HSET', meta, 'epoch', candidate, 'offset', 0, 'id', id, 'lineage', '', 'bytes', 0)
    redis.call('DEL', stream)
    if versions then
      redis.call('HSET', meta, 'slots', slots)
      redis.call('DEL', versions)
    end
    return { epoch = candidate, offset = 0, lineage = '', bytes = 0, slots = tonumber(slots) }
  end
  if fenced and kept[3] ~= id then
    local fork = state.epoch .. '.' .. whole(state.offset)
    state.lineage = last_words(state.lineage .. ' ' .. fork, 64)
    state.epoch = candidate
    redis.call('HSET', meta, 'epoch', candidate, 'id', id, 'lineage', state.lineage)
  end
  return state
end
