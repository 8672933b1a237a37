#!lua flags=allow-oom
-- Publishes what lies in a journal up to an id that replicas have, in order and each message once,
-- whoever had it accepted.
--
-- KEYS  1 the shard's journal, 2 the id up to which it has been published
-- ARGV  1 PUBLISH, or SPUBLISH where channels are sharded; 2 what a room's channel begins with,
--       3 the id up to which
--
-- A Redis whose memory is full lets this pass: a persister that could not publish would not store,
-- and nobody else makes room.
--
-- What the store has already is not in the journal any more: whoever stores publishes first. Where
-- nothing has been published so yet, it begins with the journal: another's may lie before one's own.

local function stamp(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local from = '-'
local newest = redis.call('GET', KEYS[2])
if newest then
  local ms, seq = stamp(newest)
  local to_ms, to_seq = stamp(ARGV[3])
  if ms > to_ms or (ms == to_ms and seq >= to_seq) then
    return 0
  end
  from = '(' .. newest
end
-- Before anything is published: a server that takes no writes fails here.
redis.call('SET', KEYS[2], ARGV[3])

local published = 0
repeat
  local entries = redis.call('XRANGE', KEYS[1], from, ARGV[3], 'COUNT', 256)
  for _, entry in ipairs(entries) do
    local fields = {}
    for at = 1, #entry[2], 2 do
      fields[entry[2][at]] = entry[2][at + 1]
    end
    if fields.room and fields.payload then
      redis.call(ARGV[1], ARGV[2] .. fields.room,
        entry[1] .. ' ' .. (fields.prev or '') .. ' ' .. fields.payload)
    end
    from = '(' .. entry[1]
  end
  published = published + #entries
until #entries < 256
return published
