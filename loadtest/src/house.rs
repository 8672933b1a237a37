//! Who sits where.

use std::num::NonZeroUsize;

/// Where a user sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Its number in the run.
    pub user: u32,
    /// Its room.
    pub room: usize,
    /// Its place among the room's members.
    pub member: usize,
}

/// How users are spread over rooms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seating {
    /// So many rooms of about the same size.
    Rooms(u32),
    /// Rooms of this size; the last may be smaller.
    Size(u32),
}

impl Seating {
    /// The seats of this many users.
    pub(crate) fn seats(self, users: u32) -> Vec<Seat> {
        let seat = |user| {
            let (room, member) = match self {
                Self::Rooms(rooms) => (user % rooms, user / rooms),
                Self::Size(size) => (user / size, user % size),
            };
            Seat {
                user,
                room: room as usize,
                member: member as usize,
            }
        };
        (0..users).map(seat).collect()
    }
}

/// All users and rooms of a load.
#[derive(Debug)]
pub(crate) struct House {
    /// Everybody's seat, by number.
    pub seats: Vec<Seat>,
    /// Everybody's name, by number.
    pub names: Vec<String>,
    /// The rooms' members.
    pub sizes: Vec<usize>,
    /// How many of a room's members send: the first ones.
    pub senders: usize,
    /// What their names begin with.
    pub prefix: String,
}

impl House {
    /// These users. Of each room's members the first `senders` send; all where it is `None`.
    pub(crate) fn new(
        seats: Vec<Seat>,
        names: Vec<String>,
        senders: Option<NonZeroUsize>,
        prefix: &str,
    ) -> Self {
        let rooms = seats.iter().map(|seat| seat.room + 1).max().unwrap_or(0);
        let mut sizes = vec![0; rooms];
        for seat in &seats {
            sizes[seat.room] += 1;
        }
        Self {
            seats,
            names,
            sizes,
            senders: senders.map_or(usize::MAX, NonZeroUsize::get),
            prefix: prefix.to_owned(),
        }
    }

    /// How many of a room's members send.
    pub(crate) fn senders(&self, room: usize) -> usize {
        self.senders.min(self.sizes[room])
    }

    /// Those who send.
    pub(crate) fn sending(&self) -> impl Iterator<Item = Seat> {
        let sends = |seat: &&Seat| seat.member < self.senders;
        self.seats.iter().filter(sends).copied()
    }

    /// A room's name.
    pub(crate) fn room_name(&self, room: usize) -> String {
        format!("{}-r{room}", self.prefix)
    }

    /// Someone's name.
    pub(crate) fn name(&self, seat: Seat) -> &str {
        &self.names[seat.user as usize]
    }

    /// Which of so many threads a room is on: all of its members are on one.
    pub(crate) fn lane(&self, room: usize, lanes: usize) -> usize {
        room % lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seat_is_taken_once() {
        for seating in [Seating::Rooms(3), Seating::Size(4)] {
            let seats = seating.seats(10);
            let mut places = seats.iter().map(|s| (s.room, s.member)).collect::<Vec<_>>();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), 10);
            let rooms = seats.iter().map(|seat| seat.room).max().unwrap() + 1;
            assert_eq!(rooms, 3);
            for room in 0..rooms {
                let members = seats.iter().filter(|seat| seat.room == room);
                let mut members = members.map(|seat| seat.member).collect::<Vec<_>>();
                members.sort_unstable();
                assert_eq!(
                    members,
                    (0..members.len()).collect::<Vec<_>>(),
                    "without a gap"
                );
            }
        }
    }

    #[test]
    fn only_the_first_members_send_where_it_is_said_how_many() {
        let seats = Seating::Size(4).seats(10);
        let names = (0..10).map(|user| user.to_string()).collect();
        let house = House::new(seats, names, NonZeroUsize::new(3), "load");
        let sending = house.sending().map(|seat| seat.user).collect::<Vec<_>>();
        assert_eq!(sending, [0, 1, 2, 4, 5, 6, 8, 9]);
        assert_eq!([house.senders(0), house.senders(2)], [3, 2]);
    }
}
