-- Whether this server takes writes.
-- ARGV: keys that are not there, of which it holds one at least
-- Gives '' or the reason why not. Nothing is written: no bytes to the beginning of a key that is not there are a write that leaves
-- no key.
local _, refused = primary()
if refused then return refused end
for _, key in ipairs(ARGV) do
  local done = redis.pcall('SETRANGE', key, 0, '')
  if type(done) ~= 'table' then return '' end
  if not string.find(done.err, 'non local key', 1, true) then return done.err end
end
return ''
