"""The atomic steps of the queue, as Lua that Redis runs whole (https://redis.io/docs/latest/develop/programmability/).

Keys, all under one prefix:
  job:<id>        hash   what one person asked for
  painting:<id>   hash   one piece of work: state, recipe, progress, token, waiters
  wish:<key>      string the painting that will fulfil this wish, while it is queued or running
  user:<digest>   zset   the jobs of whoever asked, by the time they asked
  queued          zset   paintings that wait, by the time they were queued
  leases          zset   paintings that run, by the time their lease ends
Every change of a painting is published on `painting:<id>`.
"""

# A finished painting and its lock on the wish; `final` is used by several scripts below.
FINAL = """
local function final(p, id, prefix, state, now, ttl)
  redis.call('HSET', p, 'state', state, 'finished', now, 'token', '')
  redis.call('ZREM', prefix..'queued', id)
  redis.call('ZREM', prefix..'leases', id)
  local wish = redis.call('HGET', p, 'wish')
  if wish and wish ~= '' and redis.call('GET', prefix..'wish:'..wish) == id then
    redis.call('DEL', prefix..'wish:'..wish)
  end
  redis.call('EXPIRE', p, ttl)
  redis.call('PUBLISH', prefix..'painting:'..id, state)
end
"""

# ARGV: prefix, painting id, wish ('' = do not join), now, then field, value … of the painting.
# Returns the id of the painting that will serve: the new one, or one under way.
OPEN = """
local prefix, id, wish, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if wish ~= '' then
  local other = redis.call('GET', prefix..'wish:'..wish)
  if other then
    local p = prefix..'painting:'..other
    local state = redis.call('HGET', p, 'state')
    if (state == 'queued' or state == 'running') and redis.call('HGET', p, 'cancel') ~= '1' then
      redis.call('HINCRBY', p, 'waiters', 1)
      return other
    end
  end
  redis.call('SET', prefix..'wish:'..wish, id)
end
local p = prefix..'painting:'..id
redis.call('HSET', p, 'state', 'queued', 'waiters', 1, 'wish', wish, 'attempts', 0, 'created', now, 'step', 0)
redis.call('HSET', p, unpack(ARGV, 5))
redis.call('ZADD', prefix..'queued', now, id)
return id
"""

# ARGV: prefix, painting id. Returns 1 when the painting is under way, and one more waits for it.
JOIN = """
local p = ARGV[1]..'painting:'..ARGV[2]
local state = redis.call('HGET', p, 'state')
if (state ~= 'queued' and state ~= 'running') or redis.call('HGET', p, 'cancel') == '1' then return 0 end
redis.call('HINCRBY', p, 'waiters', 1)
return 1
"""

# ARGV: prefix, painting id, token, now, lease end, most attempts, ttl. Returns {recipe, scope, attempt} or nil.
CLAIM = (
    FINAL
    + """
local prefix, id, token, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'state') ~= 'queued' then return nil end
local attempts = redis.call('HINCRBY', p, 'attempts', 1)
if attempts > tonumber(ARGV[6]) then
  redis.call('HSET', p, 'error', 'its worker died '..(attempts - 1)..' times while painting it')
  final(p, id, prefix, 'failed', now, ARGV[7])
  return nil
end
redis.call('HSET', p, 'state', 'running', 'token', token, 'started', now, 'step', 0)
redis.call('ZREM', prefix..'queued', id)
redis.call('ZADD', prefix..'leases', ARGV[5], id)
redis.call('PUBLISH', prefix..'painting:'..id, 'running')
return {redis.call('HGET', p, 'recipe'), redis.call('HGET', p, 'scope'), attempts}
"""
)

# ARGV: prefix, painting id, token, step. Returns 'lost', 'cancel' or 'go on'.
PROGRESS = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 'lost' end
redis.call('HSET', p, 'step', ARGV[4])
redis.call('PUBLISH', prefix..'painting:'..id, 'step')
if redis.call('HGET', p, 'cancel') == '1' then return 'cancel' end
return 'go on'
"""

# ARGV: prefix, painting id, token, lease end. Returns 1, or 0 when the claim is lost.
RENEW = """
local prefix, id = ARGV[1], ARGV[2]
if redis.call('HGET', prefix..'painting:'..id, 'token') ~= ARGV[3] then return 0 end
redis.call('ZADD', prefix..'leases', ARGV[4], id)
return 1
"""

# ARGV: prefix, painting id, token, state, now, ttl, field, value …  Returns 1, or 0 when the claim is lost.
FINISH = (
    FINAL
    + """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 0 end
if #ARGV > 6 then redis.call('HSET', p, unpack(ARGV, 7)) end
final(p, id, prefix, ARGV[4], ARGV[5], ARGV[6])
return 1
"""
)

# ARGV: prefix, painting id, token, '1' to take the attempt back. Back into the queue, at its old place.
RELEASE = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'state') ~= 'running' or redis.call('HGET', p, 'token') ~= ARGV[3] then return 0 end
if ARGV[4] == '1' then redis.call('HINCRBY', p, 'attempts', -1) end
redis.call('HSET', p, 'state', 'queued', 'token', '', 'step', 0)
redis.call('HDEL', p, 'started', 'sent')
redis.call('ZREM', prefix..'leases', id)
redis.call('ZADD', prefix..'queued', redis.call('HGET', p, 'created'), id)
redis.call('PUBLISH', prefix..'painting:'..id, 'queued')
return 1
"""

# ARGV: prefix, job id, now, ttl. Returns 1 when this call cancelled the job.
CANCEL = (
    FINAL
    + """
local prefix, job, now = ARGV[1], ARGV[2], ARGV[3]
local j = prefix..'job:'..job
local id = redis.call('HGET', j, 'painting')
if not id or id == '' or redis.call('HGET', j, 'cancelled') then return 0 end
local p = prefix..'painting:'..id
local state = redis.call('HGET', p, 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', j, 'cancelled', now)
if redis.call('HINCRBY', p, 'waiters', -1) <= 0 then
  redis.call('HSET', p, 'cancel', '1')
  if state == 'queued' then final(p, id, prefix, 'cancelled', now, ARGV[4]) end
end
redis.call('PUBLISH', prefix..'painting:'..id, 'cancel')
return 1
"""
)
