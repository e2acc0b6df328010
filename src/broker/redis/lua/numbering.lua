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

-- The channel's numbering as it is kept in the hash `meta`. Without one, a new one begins under the name `candidate` with
-- an empty stream. Under another replication id, what came last may be lost: `candidate` continues what is left.
local function numbering(meta, stream, candidate, fenced)
  local id, refused = primary()
  if refused then return nil, refused end
  local kept = redis.call('HMGET', meta, 'epoch', 'offset', 'id', 'lineage', 'bytes')
  local state = {
    epoch = kept[1], offset = tonumber(kept[2]), lineage = kept[4] or '', bytes = tonumber(kept[5]),
  }
  -- One of which a part is missing was not left so by us.
  if not (state.epoch and state.offset and state.bytes) then
    redis.call('HSET', meta, 'epoch', candidate, 'offset', 0, 'id', id, 'lineage', '', 'bytes', 0)
    redis.call('DEL', stream)
    return { epoch = candidate, offset = 0, lineage = '', bytes = 0 }
  end
  if fenced and kept[3] ~= id then
    local fork = state.epoch .. '.' .. whole(state.offset)
    state.lineage = last_words(state.lineage .. ' ' .. fork, 64)
    state.epoch = candidate
    redis.call('HSET', meta, 'epoch', candidate, 'id', id, 'lineage', state.lineage)
  end
  return state
end
