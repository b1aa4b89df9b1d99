"""The atomic steps of the queue, as Lua that Redis runs whole (https://redis.io/docs/latest/develop/programmability/).

Keys, all under one prefix; <user>, <name> and <scope> are hashes (`records.hash_name`):
  job:<id>                    hash    what one person asked for
  jobs                        zset    the newest jobs, by the time they were asked for
  jobs:scope:<scope>          zset    those of one scope, the same
  jobs:user:<user>            zset    those of one user, the same
  painting:<id>               hash    one piece of work: state, recipe, progress, token, waiters
  wish:<scope>:<key>          string  the painting of a wish (a recipe without a seed), while it is queued or running
  picture:<key>               set     jobs and paintings that led to this picture, as job:<id> and painting:<id>
  queued                      zset    paintings that wait, by rank: when they were asked for, sooner if urgent
  queued:model:<model>        zset    those for one model, the same
  queued:user:<user>:<model>  zset    those of them that one user waits for; a user who joins one has it here, too
  queued:users:<model>        set     users with a painting in queued:user:<user>:<model>
  served                      zset    users by the time their last painting was claimed
  leases                      zset    paintings that run, by the time their lease ends
  finished                    stream  the last 500 pictures; each is announced on the channel painting:finished
  workers                     hash    what each worker said with its last heartbeat
  workers:seen                zset    workers by the time of their last heartbeat
  clocks                      hash    by worker: the clock of Redis and its own monotonic one, when it last looked
  quiet-until                 string  the time until which no lease runs out, since a clock was set
  counts                      hash    totals since the beginning
  counts:minute:<minute>      hash    the same for one minute since 1970
  costs                       hash    seconds, joules and number of paintings of one model, size and number of steps
  unindexed                   stream  pictures that are kept and not known to be on the index's disk
  index                       hash    pictures in the store, and how many of them the index did not know
  indexing                    string  the worker that indexes the pictures in `unindexed` now
  init-images                 zset    initial images, by the time they were last used
  request:<name>              string  the reservation, and then the jobs, of a request that may be sent twice
  group:<id>                  string  the jobs that one request asked for, and facts about it
  received:<user>             zset    wish:<key> and picture:<key> of what a user received lately, by time
  preferences:<user>          hash    what a user prefers (jobs/users.py)
  task:<user>:<name>          hash    jobs under a name that the user chose (jobs/users.py)
  tasks:<user>                zset    a user's tasks under way, by the time they began
  webhooks                    zset    deliveries, by the time they are due (jobs/webhooks/deliveries.py)
  webhooks-lanes              set     <user>:<receiver> of the deliveries that are due
  webhooks-lane:<lane>        list    those of one user for one receiver
  webhooks-taken              zset    those under way, by the time their lease ends
  served:webhooks             zset    users and lanes by the time of their last delivery
  webhook:<id>                hash    one delivery
  webhooks-of:<painting>      set     deliveries that are due when this painting ends
  keys, key-names, scopes, web-secret   people's API keys (jobs/api_keys.py)
  session:<hash>              string  the id of the API key that a session was opened with (jobs/sessions.py)
  checked                     string  written to see whether Redis takes writes
Every change of a painting is published on the channel painting:<id>.

Leases, silence and ages go by the clock of Redis (TIME), since the clocks of machines differ and may be set.
"""

# The time by the clock of Redis: seconds since 1970 as text, to the microsecond. Times to come in a sorted set of
# events are from before the clock was set back, and count as now.
CLOCK = """
local function clock()
  local time = redis.call('TIME')
  return time[1]..'.'..string.format('%06d', time[2])
end
local function count_as_now(set, now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', set, '('..now, '+inf')) do
    redis.call('ZADD', set, now, member)
  end
end
"""

# Functions on the hash `p` of a painting: put it into the queue at its rank, take it out, let a job join it.
QUEUE = """
local function enqueue(p, id, prefix)
  local fields = redis.call('HMGET', p, 'users', 'model', 'rank')
  local users, model, rank = fields[1], fields[2], fields[3]
  redis.call('ZADD', prefix..'queued', rank, id)
  redis.call('ZADD', prefix..'queued:model:'..model, rank, id)
  for user in string.gmatch(users, '%S+') do
    redis.call('ZADD', prefix..'queued:user:'..user..':'..model, rank, id)
    redis.call('SADD', prefix..'queued:users:'..model, user)
  end
end
local function dequeue(p, id, prefix)
  local fields = redis.call('HMGET', p, 'users', 'model')
  local users, model = fields[1], fields[2]
  redis.call('ZREM', prefix..'queued', id)
  redis.call('ZREM', prefix..'queued:model:'..model, id)
  for user in string.gmatch(users, '%S+') do
    local user_queue = prefix..'queued:user:'..user..':'..model
    redis.call('ZREM', user_queue, id)
    if redis.call('EXISTS', user_queue) == 0 then redis.call('SREM', prefix..'queued:users:'..model, user) end
  end
end
local function under_way(p)
  local fields = redis.call('HMGET', p, 'state', 'cancel')
  return (fields[1] == 'queued' or fields[1] == 'running') and fields[2] ~= '1'
end
local function join(p, id, prefix, user, rank)
  redis.call('HINCRBY', p, 'waiters', 1)
  local fields = redis.call('HMGET', p, 'users', 'rank', 'state')
  if not string.find(fields[1], user, 1, true) then redis.call('HSET', p, 'users', fields[1]..' '..user) end
  if tonumber(rank) < tonumber(fields[2]) then redis.call('HSET', p, 'rank', rank) end
  if fields[3] == 'queued' then enqueue(p, id, prefix) end
end
"""

# Adds {name: number} to the totals and to the counts of a minute: {minute, kept_seconds}.
COUNT = """
local function count(prefix, minute, numbers)
  local name = prefix..'counts:minute:'..minute.minute
  for what, number in pairs(numbers) do
    redis.call('HINCRBYFLOAT', prefix..'counts', what, number)
    redis.call('HINCRBYFLOAT', name, what, number)
  end
  redis.call('EXPIRE', name, minute.kept_seconds)
end
"""

# Writes a job, {id, fields, lists, list_length, kept_seconds, minute}: its hash, the recent lists, the counts,
# and the links by which it is forgotten with its picture. Numbers come as text, which keeps all their digits.
RECORD = (
    COUNT
    + """
local function record(prefix, job, picture)
  local name = prefix..'job:'..job.id
  for field, value in pairs(job.fields) do redis.call('HSET', name, field, value) end
  redis.call('EXPIRE', name, job.kept_seconds)
  for _, list in ipairs(job.lists) do
    redis.call('ZADD', prefix..list, job.fields.created, job.id)
    redis.call('ZREMRANGEBYRANK', prefix..list, 0, -job.list_length - 1)
    redis.call('EXPIRE', prefix..list, job.kept_seconds)
  end
  count(prefix, job.minute, {[job.fields.origin] = 1})
  redis.call('SADD', prefix..'picture:'..picture, 'job:'..job.id)
  if job.fields.painting ~= '' then
    redis.call('SADD', prefix..'picture:'..picture, 'painting:'..job.fields.painting)
  end
  redis.call('EXPIRE', prefix..'picture:'..picture, job.kept_seconds)
end
"""
)

# Ends a painting: takes it out of the queue, frees its wish and makes its webhooks due.
FINAL = (
    QUEUE
    + """
local function final(p, id, prefix, state, now, ttl)
  redis.call('HSET', p, 'state', state, 'finished', now, 'token', '')
  redis.call('HDEL', p, 'seconds_left', 'message', 'preview', 'previewed')
  dequeue(p, id, prefix)
  redis.call('ZREM', prefix..'leases', id)
  local wish = redis.call('HGET', p, 'wish')
  if wish and wish ~= '' and redis.call('GET', prefix..'wish:'..wish) == id then
    redis.call('DEL', prefix..'wish:'..wish)
  end
  redis.call('EXPIRE', p, ttl)
  for _, webhook in ipairs(redis.call('SMEMBERS', prefix..'webhooks-of:'..id)) do
    redis.call('ZADD', prefix..'webhooks', now, webhook)
  end
  redis.call('DEL', prefix..'webhooks-of:'..id)
  redis.call('PUBLISH', prefix..'painting:'..id, state)
end
"""
)

# ARGV: prefix, JSON of {job, painting: {id, fields}, wish ('' = never join), user, rank, joined_reason}. Records the
# job and its painting, or joins the painting of the same wish, which moves up to the rank of the user who joins.
# Returns {painting id, paintings before it in the queue, fields of the painting that was joined, else {}}.
OPEN = (
    QUEUE
    + RECORD
    + """
local prefix, request = ARGV[1], cjson.decode(ARGV[2])
local job, id = request.job, request.painting.id
if request.wish ~= '' then
  local wish = prefix..'wish:'..request.wish
  local other = redis.call('GET', wish)
  if other and under_way(prefix..'painting:'..other) then
    local p = prefix..'painting:'..other
    join(p, other, prefix, request.user, request.rank)
    job.fields.painting, job.fields.origin, job.fields.reason = other, 'joined', request.joined_reason
    record(prefix, job, redis.call('HGET', p, 'key'))
    return {other, redis.call('ZRANK', prefix..'queued', other), redis.call('HGETALL', p)}
  end
  redis.call('SET', wish, id)
end
local p = prefix..'painting:'..id
for field, value in pairs(request.painting.fields) do redis.call('HSET', p, field, value) end
enqueue(p, id, prefix)
record(prefix, job, request.painting.fields.key)
return {id, redis.call('ZRANK', prefix..'queued', id), {}}
"""
)

# ARGV: prefix, JSON of {job, painting id, scope, user, rank}. Records a job that waits for a painting of this scope.
# Returns {paintings before it in the queue, fields of the painting}, or nil when it is not under way any more.
JOIN = (
    QUEUE
    + RECORD
    + """
local prefix, request = ARGV[1], cjson.decode(ARGV[2])
local id, p = request.painting, prefix..'painting:'..request.painting
if not under_way(p) or redis.call('HGET', p, 'scope') ~= request.scope then return nil end
join(p, id, prefix, request.user, request.rank)
record(prefix, request.job, redis.call('HGET', p, 'key'))
return {redis.call('ZRANK', prefix..'queued', id), redis.call('HGETALL', p)}
"""
)

# The mean seconds or joules of the paintings of a class; those of one picture if none was counted.
MEAN = """
local function mean(prefix, class, what, of_one)
  local sums = redis.call('HMGET', prefix..'costs', class..':'..what, class..':count')
  if not sums[2] then return of_one end
  return tonumber(sums[1]) / tonumber(sums[2])
end
"""

# ARGV: prefix, JSON of {job, picture key, cost_class, seconds and joules of this picture, lookup_seconds,
# lookup_joules}. Records a job that memory answered. It saved the mean cost of such paintings, or of this one if none
# was counted, less the cost of the lookup; never less than zero.
REMEMBER = (
    RECORD
    + MEAN
    + """
local prefix, request = ARGV[1], cjson.decode(ARGV[2])
record(prefix, request.job, request.picture)
local function cost(what) return mean(prefix, request.cost_class, what, request[what]) end
count(prefix, request.job.minute, {
  seconds_saved = math.max(0, cost('seconds') - request.lookup_seconds),
  joules_saved = math.max(0, cost('joules') - request.lookup_joules),
})
"""
)

# ARGV: prefix, token, lease seconds, ttl of `served`, worker, seconds of draining, model, model … Claims the next
# painting: the first one queued for the user with the fewest running paintings, and among such users for the one who
# was served longest ago. A suspect is a painting during which a worker died; it is painted alone. If the next one is
# a suspect, a busy worker claims nothing for the seconds of draining, so that its own paintings can end. Then it
# claims others for as long, and so on: otherwise one painting that hangs would stop the whole worker. A worker that
# paints a suspect claims nothing else.
# Returns {painting, recipe, scope, attempt, user, rank, fault of an earlier attempt, '1' for a suspect, near start},
# nil when nothing waits, or 'later' when the worker must wait for its paintings to end.
CLAIM = (
    CLOCK
    + QUEUE
    + """
local prefix, token, ttl, worker, patience = ARGV[1], ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[6])
local now = clock()
count_as_now(prefix..'served', now)
local running, busy, isolated = {}, false, false
for _, id in ipairs(redis.call('ZRANGE', prefix..'leases', 0, -1)) do
  local fields = redis.call('HMGET', prefix..'painting:'..id, 'user', 'worker', 'suspect')
  if fields[1] then running[fields[1]] = (running[fields[1]] or 0) + 1 end
  if fields[2] == worker then busy, isolated = true, isolated or fields[3] == '1' end
end
local function is_suspect(id) return redis.call('HGET', prefix..'painting:'..id, 'suspect') == '1' end
local function first_of(queue, sound_only)
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, sound_only and -1 or 0)) do
    if not sound_only or not is_suspect(id) then return id, tonumber(redis.call('ZSCORE', queue, id)) end
  end
end
local function sooner(a, b)
  if not b then return true end
  for i = 1, 3 do if a[i] ~= b[i] then return a[i] < b[i] end end
  return false
end
local function next_in_turn(sound_only)
  local best
  for m = 7, #ARGV do
    for _, user in ipairs(redis.call('SMEMBERS', prefix..'queued:users:'..ARGV[m])) do
      local id, rank = first_of(prefix..'queued:user:'..user..':'..ARGV[m], sound_only)
      local served = tonumber(redis.call('ZSCORE', prefix..'served', user) or 0)
      local candidate = {running[user] or 0, served, rank, id, user}
      if id and sooner(candidate, best) then best = candidate end
    end
  end
  if best then return best[4], best[5] end
end
local function drains_for(id)
  local p = prefix..'painting:'..id
  redis.call('HSETNX', p, 'drained_since', now)
  return (now - redis.call('HGET', p, 'drained_since')) % (2 * patience) < patience
end
local id, user = next_in_turn(false)
if not id then return nil end
if isolated then return 'later' end
if busy and is_suspect(id) then
  if drains_for(id) then return 'later' end
  id, user = next_in_turn(true)
  if not id then return 'later' end
end
local p = prefix..'painting:'..id
local attempts = redis.call('HINCRBY', p, 'attempts', 1)
redis.call('HSET', p, 'state', 'running', 'token', token, 'started', now, 'step', 0, 'user', user, 'worker', worker)
redis.call('HDEL', p, 'had_company', 'drained_since')
dequeue(p, id, prefix)
redis.call('ZADD', prefix..'leases', now + ARGV[3], id)
redis.call('ZADD', prefix..'served', now, user)
redis.call('ZREMRANGEBYSCORE', prefix..'served', 0, now - ttl)
redis.call('EXPIRE', prefix..'served', ttl)
redis.call('PUBLISH', prefix..'painting:'..id, 'running')
local fields = redis.call('HMGET', p, 'recipe', 'scope', 'rank', 'fault', 'suspect', 'near')
return {id, fields[1], fields[2], attempts, user, fields[3], fields[4] or '', fields[5] or '', fields[6] or ''}
"""
)

# ARGV: prefix, painting id, token, step, seconds left, preview ('' = none), message.
# Returns 'lost', 'cancel' or 'go on'.
STEP = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 'lost' end
redis.call('HSET', p, 'step', ARGV[4], 'seconds_left', ARGV[5], 'message', ARGV[7])
if ARGV[6] ~= '' then redis.call('HSET', p, 'preview', ARGV[6], 'previewed', ARGV[4]) end
redis.call('PUBLISH', prefix..'painting:'..id, 'step')
if redis.call('HGET', p, 'cancel') == '1' then return 'cancel' end
return 'go on'
"""

# ARGV: prefix, painting id, token, message, fault of this attempt ('' = none). With a fault, it is no longer under
# way on its worker. Returns the same words as STEP.
MESSAGE = """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'token') ~= ARGV[3] then return 'lost' end
redis.call('HSET', p, 'message', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', p, 'fault', ARGV[5], 'worker', '') end
redis.call('PUBLISH', prefix..'painting:'..id, 'step')
if redis.call('HGET', p, 'cancel') == '1' then return 'cancel' end
return 'go on'
"""

# ARGV: prefix, painting id, token, lease seconds. Returns 1, or 0 when the claim is lost.
RENEW = (
    CLOCK
    + """
local prefix, id = ARGV[1], ARGV[2]
if redis.call('HGET', prefix..'painting:'..id, 'token') ~= ARGV[3] then return 0 end
redis.call('ZADD', prefix..'leases', clock() + ARGV[4], id)
return 1
"""
)

# ARGV: prefix, JSON of {painting id, token, state, kept_seconds, fields}, and for a finished picture also of
# {key, cost_class, minute, counts, costs, whole, share_saved}, which are counted. If a picture saved a share of its
# steps, it saved this share of the mean cost and is left out of the mean; `whole` is its cost with all steps. The
# picture stays in `unindexed` until it is known to be on the index's disk. Returns 1, or 0 when the claim is lost.
FINISH = (
    CLOCK
    + FINAL
    + COUNT
    + MEAN
    + """
local prefix, ending = ARGV[1], cjson.decode(ARGV[2])
local id, p = ending.painting, prefix..'painting:'..ending.painting
if redis.call('HGET', p, 'token') ~= ending.token then return 0 end
for field, value in pairs(ending.fields) do redis.call('HSET', p, field, value) end
if ending.state == 'done' then
  redis.call('XADD', prefix..'finished', 'MAXLEN', 500, '*', 'picture', ending.fields.picture)
  redis.call('PUBLISH', prefix..'painting:finished', '')
  redis.call('XADD', prefix..'unindexed', '*', 'key', ending.key)
  count(prefix, ending.minute, ending.counts)
  if ending.share_saved > 0 then
    local function saved(what)
      return ending.share_saved * mean(prefix, ending.cost_class, what, ending.whole[what])
    end
    count(prefix, ending.minute, {seconds_saved = saved('seconds'), joules_saved = saved('joules')})
  else
    for what, cost in pairs(ending.costs) do
      redis.call('HINCRBYFLOAT', prefix..'costs', ending.cost_class..':'..what, cost)
    end
  end
end
final(p, id, prefix, ending.state, clock(), ending.kept_seconds)
return 1
"""
)

# Puts a running painting back into the queue at its old rank; returns its model. Needs QUEUE.
REQUEUE = """
local function requeue(p, id, prefix)
  redis.call('HSET', p, 'state', 'queued', 'token', '', 'step', 0, 'worker', '')
  redis.call('HDEL', p, 'started', 'seconds_left', 'message', 'preview', 'previewed')
  redis.call('ZREM', prefix..'leases', id)
  enqueue(p, id, prefix)
  redis.call('PUBLISH', prefix..'painting:'..id, 'queued')
  return redis.call('HGET', p, 'model')
end
"""

# ARGV: prefix, painting id, token. Puts the painting back as if this attempt had never begun. Returns its model, or
# nil when the claim is lost.
RELEASE = (
    QUEUE
    + REQUEUE
    + """
local prefix, id = ARGV[1], ARGV[2]
local p = prefix..'painting:'..id
if redis.call('HGET', p, 'state') ~= 'running' or redis.call('HGET', p, 'token') ~= ARGV[3] then return nil end
redis.call('HINCRBY', p, 'attempts', -1)
return requeue(p, id, prefix)
"""
)

# Whether this worker may take leases for run out now. If the clock of Redis has gone on by more than the worker's
# monotonic clock since it last looked, the clock was set forward or the machine was suspended, and nobody's lease is
# taken for run out until every worker has had the time to renew its own. A lease that ends later than a new one would
# (the clock was set back) ends like a new one.
FOLLOW_CLOCK = """
local function follow_clock(prefix, now, worker, monotonic, lease_seconds)
  local clocks, quiet, latest = prefix..'clocks', prefix..'quiet-until', now + math.max(lease_seconds, 0) + 1
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix..'leases', '('..latest, '+inf')) do
    redis.call('ZADD', prefix..'leases', latest, id)
  end
  local quiet_until = math.min(redis.call('GET', quiet) or 0, latest)
  local last = redis.call('HGET', clocks, worker)
  if last then
    local at, monotonic_then = string.match(last, '(%S+) (%S+)')
    if (now - at) - (monotonic - monotonic_then) >= 2 then quiet_until = latest end
  end
  redis.call('HSET', clocks, worker, now..' '..monotonic)
  redis.call('SET', quiet, quiet_until, 'EX', 3600)
  return tonumber(now) >= quiet_until
end
"""

# ARGV: prefix, ttl, worker, its monotonic clock, lease seconds. Looks for paintings whose lease has run out.
# Cancelled ones end; the others go back into the queue. If the worker reported no fault, it died, and each of its
# paintings becomes a suspect. The attempt counts only if the painting was alone on the worker: among several, any one
# may have killed it.
# Returns {painting, model, '1' if its worker died, painting, model …} of those in the queue.
REQUEUE_EXPIRED = (
    CLOCK
    + FINAL
    + REQUEUE
    + FOLLOW_CLOCK
    + """
local prefix, now, on_worker, requeued = ARGV[1], clock(), {}, {}
local may_requeue = follow_clock(prefix, now, ARGV[3], ARGV[4], tonumber(ARGV[5]))
redis.call('EXPIRE', prefix..'clocks', ARGV[2])
if not may_requeue then return requeued end
for _, id in ipairs(redis.call('ZRANGE', prefix..'leases', 0, -1)) do
  local worker = redis.call('HGET', prefix..'painting:'..id, 'worker') or ''
  on_worker[worker] = on_worker[worker] or {}
  table.insert(on_worker[worker], id)
end
local function blame(p, id, companions)
  for _, other in ipairs(companions) do
    if other ~= id then redis.call('HSET', prefix..'painting:'..other, 'had_company', '1') end
  end
  local was_alone = #companions == 1 and redis.call('HGET', p, 'had_company') ~= '1'
  if not was_alone then redis.call('HINCRBY', p, 'attempts', -1) end
  redis.call('HSET', p, 'suspect', '1')
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix..'leases', 0, now)) do
  local p = prefix..'painting:'..id
  local fields = redis.call('HMGET', p, 'state', 'cancel', 'worker')
  local died = fields[3] and fields[3] ~= ''
  if fields[1] ~= 'running' then
    redis.call('ZREM', prefix..'leases', id)
  elseif fields[2] == '1' then
    final(p, id, prefix, 'cancelled', now, ARGV[2])
  else
    if died then blame(p, id, on_worker[fields[3]]) end
    for _, value in ipairs({id, requeue(p, id, prefix), died and '1' or ''}) do table.insert(requeued, value) end
  end
end
return requeued
"""
)

# ARGV: prefix, job id, ttl. Returns 1 when this call cancelled the job.
CANCEL = (
    CLOCK
    + FINAL
    + """
local prefix, job, now = ARGV[1], ARGV[2], clock()
local j = prefix..'job:'..job
local id = redis.call('HGET', j, 'painting')
if not id or id == '' or redis.call('HGET', j, 'cancelled') then return 0 end
local p = prefix..'painting:'..id
local state = redis.call('HGET', p, 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', j, 'cancelled', now)
local webhook = redis.call('HGET', j, 'webhook')
if webhook then
  redis.call('SREM', prefix..'webhooks-of:'..id, webhook)
  redis.call('ZADD', prefix..'webhooks', now, webhook)
end
if redis.call('HINCRBY', p, 'waiters', -1) <= 0 then
  redis.call('HSET', p, 'cancel', '1')
  if state == 'queued' then final(p, id, prefix, 'cancelled', now, ARGV[3]) end
end
redis.call('PUBLISH', prefix..'painting:'..id, 'cancel')
return 1
"""
)

# ARGV: prefix, worker, facts as JSON, ttl. Notes a heartbeat.
BEAT = (
    CLOCK
    + """
local prefix, now = ARGV[1], clock()
count_as_now(prefix..'workers:seen', now)
redis.call('HSET', prefix..'workers', ARGV[2], ARGV[3])
redis.call('ZADD', prefix..'workers:seen', now, ARGV[2])
redis.call('EXPIRE', prefix..'workers', ARGV[4])
redis.call('EXPIRE', prefix..'workers:seen', ARGV[4])
"""
)

# ARGV: prefix, seconds of silence. Removes the workers that have been silent for longer; returns {worker, facts, …}.
WORKERS = (
    CLOCK
    + """
local prefix = ARGV[1]
redis.call('ZREMRANGEBYSCORE', prefix..'workers:seen', '-inf', clock() - ARGV[2])
for _, worker in ipairs(redis.call('HKEYS', prefix..'workers')) do
  if not redis.call('ZSCORE', prefix..'workers:seen', worker) then redis.call('HDEL', prefix..'workers', worker) end
end
return redis.call('HGETALL', prefix..'workers')
"""
)

# ARGV: prefix, name, value, milliseconds, expected value ('' = none). Writes the value if the name holds the expected
# one; an empty value deletes it. Returns nil if it wrote, else what the name holds.
COMPARE_AND_SET = """
local name = ARGV[1]..'request:'..ARGV[2]
local held = redis.call('GET', name) or ''
if held ~= ARGV[5] then return held end
if ARGV[3] == '' then redis.call('DEL', name) else redis.call('SET', name, ARGV[3], 'PX', ARGV[4]) end
return nil
"""

# ARGV: prefix, user, seconds, limit, members. Adds members to what the user received, unless all are there already,
# and removes those that are older than so many seconds or beyond the limit.
RECORD_RECEIVED = (
    CLOCK
    + """
local received, now, is_new = ARGV[1]..'received:'..ARGV[2], clock(), false
count_as_now(received, now)
redis.call('ZREMRANGEBYSCORE', received, '-inf', now - ARGV[3])
for number = 5, #ARGV do is_new = is_new or not redis.call('ZSCORE', received, ARGV[number]) end
if not is_new then return end
for number = 5, #ARGV do redis.call('ZADD', received, now, ARGV[number]) end
redis.call('ZREMRANGEBYRANK', received, 0, -ARGV[4] - 1)
redis.call('EXPIRE', received, math.ceil(ARGV[3]))
"""
)

# ARGV: prefix, user, wish, seconds. If the user received a picture for this wish within so many seconds, returns the
# keys of all pictures that they received in this time; otherwise returns nothing.
FIND_RECEIVED = (
    CLOCK
    + """
local received = ARGV[1]..'received:'..ARGV[2]
local oldest = clock() - ARGV[4]
local time = redis.call('ZSCORE', received, 'wish:'..ARGV[3])
local pictures = {}
if not time or tonumber(time) < oldest then return pictures end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', received, oldest, '+inf')) do
  local key = string.match(member, '^picture:(.*)$')
  if key then table.insert(pictures, key) end
end
return pictures
"""
)

# ARGV: prefix, hash of a session's id, seconds that it lasts. Returns the record of the session's key, or nil. It is
# renewed once a day, so that most requests write nothing; while Redis takes no writes, it is not.
FIND_SESSION = """
local name, seconds = ARGV[1]..'session:'..ARGV[2], tonumber(ARGV[3])
local key = redis.call('GET', name)
if not key then return nil end
if redis.call('TTL', name) < seconds - 86400 then redis.pcall('EXPIRE', name, seconds) end
return redis.call('HGET', ARGV[1]..'keys', key)
"""
