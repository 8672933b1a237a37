-- Removes the consumers of a group that have been silent for long and hold nothing. Looking and
-- removing is one step: a consumer that takes an entry in between would lose it.
--
-- KEYS  1 the journal
-- ARGV  1 the group, 2 milliseconds of silence

local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local known = {}
  for i = 1, #consumer, 2 do
    known[consumer[i]] = consumer[i + 1]
  end
  if known.pending == 0 and known.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], known.name)
    removed = removed + 1
  end
end
return removed
