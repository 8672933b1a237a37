//! Destinations: rooms by template, queues of users, what is refused.
