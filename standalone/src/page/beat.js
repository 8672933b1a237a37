// A clock in a worker, because browsers slow the timers of pages that are out of sight, and then
// heart-beats come too late.
setInterval(() => postMessage(null), 2_500);
