-- Accepts one message in one step, or says why not.
--
-- KEYS  1 the shard's journal, 2 the room's recent window, 3 the idempotency key
-- ARGV  1 channel, 2 room, 3 payload, 4 gateway to notify or '',
--       5 and 6 the least id allowed, milliseconds and sequence,
--       7 entries that the journal may hold, 8 messages that the window keeps,
--       9 and 10 milliseconds that the window and the idempotency key are kept
--       11 the publish's own token
-- Answers {0, id}: accepted; {1, id, token}: accepted before, by the publish with that token;
-- {2}: the journal is full.
--
-- All that can fail for a key's type, for memory or for a role fails at a read or at the first
-- write, so that nothing is left half done.

local first = redis.call('GET', KEYS[3])
if first then
  local id, token = string.match(first, '^(%S+) (%S+)$')
  return {1, id, token}
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[7]) then
  return {2}
end

local ms, seq = tonumber(ARGV[5]), tonumber(ARGV[6])
local prev = ''
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest then
  prev = newest[1]
  local prev_ms, prev_seq = string.match(prev, '^(%d+)-(%d+)$')
  prev_ms, prev_seq = tonumber(prev_ms), tonumber(prev_seq) + 1
  if prev_ms > ms or (prev_ms == ms and prev_seq > seq) then
    ms, seq = prev_ms, prev_seq
  end
end

local function append(id)
  return redis.pcall('XADD', KEYS[1], id,
    'room', ARGV[2], 'payload', ARGV[3], 'notify', ARGV[4], 'prev', prev)
end

-- The clock decides while it is ahead of the room; where it has run back, the room goes on counting.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id
if now > ms then
  id = append(string.format('%.0f-*', now))
else
  id = append(string.format('%.0f-%.0f', ms, seq))
end
if type(id) == 'table' and string.find(id.err, 'equal or smaller', 1, true) then
  -- Another room of the shard is ahead: the journal's own next id is greater than all of them.
  id = append('*')
end
if type(id) == 'table' then
  return id
end

redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], id, 'payload', ARGV[3], 'prev', prev)
redis.call('PEXPIRE', KEYS[2], ARGV[9])
redis.call('PUBLISH', ARGV[1], id .. ' ' .. prev .. ' ' .. ARGV[3])
redis.call('SET', KEYS[3], id .. ' ' .. ARGV[11], 'PX', ARGV[10])
return {0, id}
