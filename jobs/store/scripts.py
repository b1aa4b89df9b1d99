"""The atomic steps of the queue, as Lua that Redis runs whole (https://redis.io/docs/latest/develop/programmability/).

Keys, all under one prefix:
  job:<id>        hash   what one person asked for
  painting:<id>   hash   one piece of work: state, recipe, progress, token, waiters
  wish:<key>      string the painting that will fulfil this wish, while it is queued or running
  user:<digest>   zset   the jobs of whoever asked, by the time they asked
  queued          zset   paintings that wait, by their rank: the time they were asked for, less what urgency is worth
  waiting:<model>  zset  those of one model, the same
  queued:<user>:<model>  zset  those of them that one user waits for; who joins one has it in their own line, too
  users:<model>  set    who has something waiting there
  served          zset   owners by the time that something of theirs was claimed last
  hooks           zset   who is to be told that a job is final, by when that is due; see webhooks.py
  hooks-of:<painting>  set  who is to be told that this painting is final
  leases          zset   paintings that run, by the time their lease ends
  of:<key>        set    jobs and paintings of one picture, as job:<id> and painting:<id>
  group:<id>      string the jobs that were asked for as one, and what else is to be known of them
  once:<digest>   string what a request that may be sent twice has led to
  finished        stream the last 500 pictures, for those who watch the gallery; told on `painting:finished`
Every change of a painting is published on `painting:<id>`.
"""

# Into the queue at its rank and out of it; used by several scripts below.
LINES = """
local function enqueue(p, id, prefix)
  local of = redis.call('HMGET', p, 'users', 'model', 'rank')
  redis.call('ZADD', prefix..'queued', of[3], id)
  redis.call('ZADD', prefix..'waiting:'..of[2], of[3], id)
  for user in string.gmatch(of[1], '%S+') do
    redis.call('ZADD', prefix..'queued:'..user..':'..of[2], of[3], id)
    redis.call('SADD', prefix..'users:'..of[2], user)
  end
end
local function dequeue(p, id, prefix)
  local of = redis.call('HMGET', p, 'users', 'model')
  redis.call('ZREM', prefix..'queued', id)
  redis.call('ZREM', prefix..'waiting:'..of[2], id)
  for user in string.gmatch(of[1], '%S+') do
    local mine = prefix..'queued:'..user..':'..of[2]
    redis.call('ZREM', mine, id)
    if redis.call('EXISTS', mine) == 0 then redis.call('SREM', prefix..'users:'..of[2], user) end
  end
end
local function join(p, id, prefix, user, rank)
  redis.call('HINCRBY', p, 'waiters', 1)
  local of = redis.call('HMGET', p, 'users', 'rank', 'state')
  if not string.find(of[1], user, 1, true) then redis.call('HSET', p, 'users', of[1]..' '..user) end
  if tonumber(rank) < tonumber(of[2]) then redis.call('HSET', p, 'rank', rank) end
  if of[3] == 'queued' then enqueue(p, id, prefix) end
end
"""

# A finished painting and its lock on the wish.
FINAL = (
    LINES
    + """
local function final(p, id, prefix, state, now, ttl)
  redis.call('HSET', p, 'state', state, 'finished', now, 'token', '')
  redis.call('HDEL', p, 'left', 'message', 'preview', 'previewed')
  dequeue(p, id, prefix)
  redis.call('ZREM', prefix..'leases', id)
  local wish = redis.call('HGET', p, 'wish')
  if wish and wish ~= '' and redis.call('GET', prefix..'wish:'..wish) == id then
    redis.call('DEL', prefix..'wish:'..wish)
  end
  redis.call('EXPIRE', p, ttl)
  for _, hook in ipairs(redis.call('SMEMBERS', prefix..'hooks-of:'..id)) do
    redis.call('ZADD', prefix..'hooks', now, hook)
  end
  redis.call('DEL', prefix..'hooks-of:'..id)
  redis.call('PUBLISH', prefix..'painting:'..id, state)
end
"""
)

# ARGV: prefix, painting id, wish ('' = do not join), now, rank, user, then field, value … of the painting, model
# among them. Returns the id of the painting that will serve: the new one, or one under way, which moves up to the
# rank of whoever joins it, and stands in their line as well.
OPEN = (
    LINES
    + """
local prefix, id, wish, now, rank, user = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if wish ~= '' then
  local other = redis.call('GET', prefix..'wish:'..wish)
  if other then
    local p = prefix..'painting:'..other
    local state = redis.call('HGET', p, 'state')
    if (state == 'queued' or state == 'running') and redis.call('HGET', p, 'cancel') ~= '1' then
      join(p, other, prefix, user, rank)
      return other
    end
  end
  redis.call('SET', prefix..'wish:'..wish, id)
end
local p = prefix..'painting:'..id
redis.call('HSET', p, 'state', 'queued', 'waiters', 1, 'wish', wish, 'attempts', 0, 'created', now, 'step', 0)
redis.call('HSET', p, 'rank', rank, 'user', user, 'users', user, unpack(ARGV, 7))
enqueue(p, id, prefix)
return id
"""
)

# ARGV: prefix, painting id, user, rank. Returns 1 when the painting is under way, and one more waits for it.
JOIN = (
    LINES
    + """
local p = ARGV[1]..'painting:'..ARGV[2]
local state = redis.call('HGET', p, 'state')
if (state ~= 'queued' and state ~= 'running') or redis.call('HGET', p, 'cancel') == '1' then return 0 end
join(p, ARGV[2], ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

# ARGV: prefix, token, now, lease end, ttl of whom was served when, model, model … Claims the painting whose turn it
# is: the first of the user who has fewest under way, and among such was served longest ago.
# Returns {painting, recipe, scope, attempt, user, rank, what went wrong}, or nil when nothing waits for them.
CLAIM = (
    LINES
    + """
local prefix, token, now = ARGV[1], ARGV[2], ARGV[3]
local held = {}
for _, id in ipairs(redis.call('ZRANGE', prefix..'leases', 0, -1)) do
  local user = redis.call('HGET', prefix..'painting:'..id, 'user')
  if user then held[user] = (held[user] or 0) + 1 end
end
local function sooner(a, b)
  if not b then return true end
  for i = 1, 3 do if a[i] ~= b[i] then return a[i] < b[i] end end
  return false
end
local function following()
  local best
  for m = 6, #ARGV do
    for _, user in ipairs(redis.call('SMEMBERS', prefix..'users:'..ARGV[m])) do
      local head = redis.call('ZRANGE', prefix..'queued:'..user..':'..ARGV[m], 0, 0, 'WITHSCORES')
      local served = tonumber(redis.call('ZSCORE', prefix..'served', user) or 0)
      local its = {held[user] or 0, served, tonumber(head[2]), head[1], user}
      if head[1] and sooner(its, best) then best = its end
    end
  end
  if best then return best[4], best[5] end
end
local id, user = following()
if not id then return nil end
local p = prefix..'painting:'..id
local attempts = redis.call('HINCRBY', p, 'attempts', 1)
redis.call('HSET', p, 'state', 'running', 'token', token, 'started', now, 'step', 0, 'user', user)
dequeue(p, id, prefix)
redis.call('ZADD', prefix..'leases', ARGV[4], id)
redis.call('ZADD', prefix..'served', now, user)
redis.call('ZREMRANGEBYSCORE', prefix..'served', 0, now - ARGV[5])
redis.call('EXPIRE', prefix..'served', ARGV[5])
redis.call('PUBLISH', prefix..'painting:'..id, 'running')
local told = redis.call('HMGET', p, 'recipe', 'scope', 'rank', 'fault')
return {id, told[1], told[2], attempts, user, told[3], told[4] or ''}
"""
)

# ARGV: prefix, painting id, token, step, seconds left, preview ('' = none), words.
# Returns 'lost', 'cancel' or 'go on'.
STEP = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 'lost' end
redis.call('HSET', p, 'step', ARGV[4], 'left', ARGV[5], 'message', ARGV[7])
if ARGV[6] ~= '' then redis.call('HSET', p, 'preview', ARGV[6], 'previewed', ARGV[4]) end
redis.call('PUBLISH', prefix..'painting:'..id, 'step')
if redis.call('HGET', p, 'cancel') == '1' then return 'cancel' end
return 'go on'
"""

# ARGV: prefix, painting id, token, words, what went wrong ('' = nothing). Returns as STEP.
MESSAGE = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 'lost' end
redis.call('HSET', p, 'message', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', p, 'fault', ARGV[5]) end
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
local picture = redis.call('HGET', p, 'picture')
if ARGV[4] == 'done' and picture then
  redis.call('XADD', prefix..'finished', 'MAXLEN', 500, '*', 'picture', picture)
  redis.call('PUBLISH', prefix..'painting:finished', '')
end
final(p, id, prefix, ARGV[4], ARGV[5], ARGV[6])
return 1
"""
)

# ARGV: prefix, painting id, token, '1' to take the attempt back. Back into the queue, at its old rank; returns the
# model, or nil when the claim was lost already.
RELEASE = (
    LINES
    + """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'state') ~= 'running' or redis.call('HGET', p, 'token') ~= ARGV[3] then return nil end
if ARGV[4] == '1' then redis.call('HINCRBY', p, 'attempts', -1) end
redis.call('HSET', p, 'state', 'queued', 'token', '', 'step', 0)
redis.call('HDEL', p, 'started', 'left', 'message', 'preview', 'previewed')
redis.call('ZREM', prefix..'leases', id)
enqueue(p, id, prefix)
redis.call('PUBLISH', prefix..'painting:'..id, 'queued')
return redis.call('HGET', p, 'model')
"""
)

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
local hook = redis.call('HGET', j, 'hook')
if hook then
  redis.call('SREM', prefix..'hooks-of:'..id, hook)
  redis.call('ZADD', prefix..'hooks', now, hook)
end
if redis.call('HINCRBY', p, 'waiters', -1) <= 0 then
  redis.call('HSET', p, 'cancel', '1')
  if state == 'queued' then final(p, id, prefix, 'cancelled', now, ARGV[4]) end
end
redis.call('PUBLISH', prefix..'painting:'..id, 'cancel')
return 1
"""
)

# ARGV: prefix, digest, value, milliseconds, instead of ('' = of nothing). Writes the value unless another stands
# there; '' takes away. Returns nil when it did, else what stands there.
COMPARE_AND_SET = """
local name = ARGV[1]..'once:'..ARGV[2]
local there = redis.call('GET', name) or ''
if there ~= ARGV[5] then return there end
if ARGV[3] == '' then redis.call('DEL', name) else redis.call('SET', name, ARGV[3], 'PX', ARGV[4]) end
return nil
"""
