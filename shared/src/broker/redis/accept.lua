-- Accepts one message in one step, or says why not.
--
-- KEYS  1 the shard's journal, 2 the room's recent window, 3 the idempotency key,
--       4 where the draft has to come after another of its series: that one's idempotency key
-- ARGV  1 PUBLISH, SPUBLISH where channels are sharded, or '' where announce.lua publishes;
--       2 channel, 3 room, 4 payload,
--       5 gateway to notify or '',
--       6 and 7 the least id allowed, milliseconds and sequence,
--       8 entries that the journal may hold, 9 messages that the window keeps,
--       10 and 11 milliseconds that the window and the idempotency key are kept,
--       12 the publish's own token, 13 '1' when replicas are waited for,
--       14 milliseconds since 1970 by this server's clock after which it is too late, or '',
--       15 and 16 the id that an earlier attempt was given, and the one before it, or ''
-- Answers {0, id, prev}: accepted; {1, id, token}: accepted before, by the publish with that token;
-- {2}: the journal is full; {3}: too late; {4}: the one that it has to come after is not there.
--
-- All that can fail for a key's type, for memory, for a role or for a slot that is not here fails at
-- a read or at the first write, so that nothing is left half done. All keys and the channel have
-- the shard as their hash tag, and every key that is touched is in KEYS.

local first = redis.call('GET', KEYS[3])
if first then
  if ARGV[13] == '1' then
    -- WAIT covers what its connection has written: this write changes nothing, and comes after the
    -- message in what replicas are sent.
    local expiry = redis.call('PEXPIRETIME', KEYS[3])
    if expiry > 0 then
      redis.call('PEXPIREAT', KEYS[3], expiry)
    end
  end
  local id, token = string.match(first, '^(%S+) (%S+)$')
  return {1, id, token}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[14] ~= '' and now > tonumber(ARGV[14]) then
  -- It lay in a connection that its sender gave up long ago; another server may have it by now.
  return {3}
end
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 0 then
  return {4}
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[8]) then
  return {2}
end

local ms, seq = tonumber(ARGV[6]), tonumber(ARGV[7])
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
    'room', ARGV[3], 'payload', ARGV[4], 'notify', ARGV[5], 'prev', prev)
end

local function is_passed(id)
  return type(id) == 'table' and string.find(id.err, 'equal or smaller', 1, true)
end

local id
if ARGV[15] ~= '' and ARGV[16] == prev then
  -- A server that is gone had accepted it, and some may have heard it: it stays one message for them.
  -- Had another taken its place before it, who comes back after it would not be told of that one.
  local had_ms, had_seq = string.match(ARGV[15], '^(%d+)-(%d+)$')
  had_ms, had_seq = tonumber(had_ms), tonumber(had_seq)
  if had_ms > ms or (had_ms == ms and had_seq >= seq) then
    id = append(ARGV[15])
  end
end
if not id or is_passed(id) then
  -- The clock decides while it is ahead of the room; where it has run back, the room goes on
  -- counting.
  if now > ms then
    id = append(string.format('%.0f-*', now))
  else
    id = append(string.format('%.0f-%.0f', ms, seq))
  end
end
if is_passed(id) then
  -- Another room of the shard is ahead: the journal's own next id is greater than all of them.
  id = append('*')
end
if type(id) == 'table' then
  return id
end

redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[9], id, 'payload', ARGV[4], 'prev', prev)
redis.call('PEXPIRE', KEYS[2], ARGV[10])
if ARGV[1] ~= '' then
  redis.call(ARGV[1], ARGV[2], id .. ' ' .. prev .. ' ' .. ARGV[4])
end
redis.call('SET', KEYS[3], id .. ' ' .. ARGV[12], 'PX', ARGV[11])
return {0, id, prev}
