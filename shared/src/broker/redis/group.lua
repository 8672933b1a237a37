#!lua flags=allow-oom
-- Makes the group of a journal that has none. A Redis whose memory is full lets this pass: only
-- who reads the journal makes room.
--
-- KEYS  1 the journal
-- ARGV  1 the group

return redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
