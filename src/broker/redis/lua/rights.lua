-- Which commands the user may not use: without one, a script would end half-way, or announcements would not arrive.
-- ARGV: 1 a key, 2 a pub/sub channel, 3 PUBLISH or SPUBLISH, 4 SUBSCRIBE or SSUBSCRIBE, 5 UNSUBSCRIBE or SUNSUBSCRIBE,
--       6 the pub/sub channel of all instances, 7 '' where nobody waits for replicas
-- Gives their names.
local missing = {}
local function need(command, ...)
  -- Servers that speak like an older version do not know it.
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, ...) then missing[string.lower(command)] = true end
end

local key = ARGV[1]
need('INFO', 'replication')
need('TIME')
need('PING')
need('EVAL', '', '0')
need('EVALSHA', '0', '0')
need('EVAL_RO', '', '0')
need('EVALSHA_RO', '0', '0')
need(ARGV[3], ARGV[2], '')
need(ARGV[4], ARGV[2])
need(ARGV[5], ARGV[2])
need('PUBLISH', ARGV[6], '')
need('SUBSCRIBE', ARGV[6])
if ARGV[7] ~= '' then need('WAIT', '1', '0') end
need('DBSIZE')
need('DEL', key)
need('EXISTS', key)
need('GET', key)
need('GETRANGE', key, '0', '-1')
need('HDEL', key, 'a')
need('HGETALL', key)
need('HLEN', key)
need('HGET', key, 'a')
need('HMGET', key, 'a')
need('HINCRBY', key, 'a', '1')
need('HSET', key, 'a', 'a')
need('HSETNX', key, 'a', 'a')
need('PERSIST', key)
need('PEXPIRE', key, '1')
need('PTTL', key)
need('SADD', key, 'a')
need('SET', key, 'a')
need('SETRANGE', key, '0', '')
need('SRANDMEMBER', key, '1')
need('SREM', key, 'a')
need('SSCAN', key, '0')
need('STRLEN', key)
need('UNLINK', key)
need('XADD', key, '1-0', 'a', 'a')
need('XDEL', key, '1-0')
need('XRANGE', key, '-', '+')
need('ZADD', key, '1', 'a')
need('ZCOUNT', key, '-inf', '+inf')
need('ZMSCORE', key, 'a')
need('ZRANGE', key, '0', '-1')
need('ZRANGEBYSCORE', key, '-inf', '+inf')
need('ZREM', key, 'a')
local names = {}
for name in pairs(missing) do names[#names + 1] = name end
table.sort(names)
return names
