-- Which commands of the scripts the user may not use: without one, a script would end half-way.
-- ARGV: 1 a key, 2 a pub/sub channel, 3 PUBLISH or SPUBLISH
-- Gives their names.
local missing = {}
local function need(command, ...)
  -- Servers that speak like an older version do not know it.
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, ...) then missing[#missing + 1] = string.lower(command) end
end

local key = ARGV[1]
need('INFO', 'replication')
need('TIME')
need('EVALSHA', '0', '0')
need(ARGV[3], ARGV[2], '')
need('DEL', key)
need('GET', key)
need('GETRANGE', key, '0', '-1')
need('HDEL', key, 'a')
need('HGETALL', key)
need('HLEN', key)
need('HGET', key, 'a')
need('HMGET', key, 'a')
need('HSET', key, 'a', 'a')
need('PERSIST', key)
need('PEXPIRE', key, '1')
need('PTTL', key)
need('SET', key, 'a')
need('SETRANGE', key, '0', '')
need('STRLEN', key)
need('XADD', key, '1-0', 'a', 'a')
need('XDEL', key, '1-0')
need('XRANGE', key, '-', '+')
need('ZADD', key, '1', 'a')
need('ZCOUNT', key, '-inf', '+inf')
need('ZRANGEBYSCORE', key, '-inf', '+inf')
need('ZREM', key, 'a')
return missing
