//! What one user, one address and all together may take.

pub mod bucket;
mod descriptors;
mod memory;
mod party;
mod turned;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::message::UserName;
use shared::metrics::{GatewayMetrics, Metrics};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::memory::{Memory, resident};
use self::party::Parties;
use crate::config::{GuardSettings, Share};
use crate::place::Place;

pub(crate) use self::descriptors::for_clients;
pub(crate) use self::party::Claim;
pub use self::party::{Party, Scope, Seat};
pub use self::turned::TurnedAway;

/// How often the memory is measured.
const MEASURED: Duration = Duration::from_millis(250);

/// How often those are forgotten who have gone, in measurements.
const SWEPT: u32 = 20;

/// Keeps account of who takes what.
pub struct Guard {
    users: Parties<UserName>,
    addresses: Parties<Network>,
    memory: Option<Memory>,
    /// What connections and SockJS sessions take one of each.
    pub(crate) slots: Arc<Semaphore>,
    max_connections: usize,
    metrics: Arc<GatewayMetrics>,
}

/// What counts as one address: a whole IPv4 address, and of IPv6 the first 64 bits, since whoever
/// has one of those has all of its addresses (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(prefix.into())
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl Guard {
    /// Nobody is here yet, of so many connections that there may be.
    ///
    /// # Errors
    /// [`Failure::Config`] when memory is to be bounded where it cannot be measured.
    pub fn open(
        settings: &GuardSettings,
        max_connections: usize,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        if settings.max_memory.is_some() && resident().is_none() {
            let text = "--max-memory needs a system that tells a process its memory, as Linux does";
            return Err(Failure::Config(text.into()));
        }
        Ok(Self {
            users: Parties::new(Scope::User, settings.user),
            addresses: Parties::new(Scope::Address, settings.address),
            memory: settings.max_memory.map(Memory::new),
            slots: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            metrics: Arc::clone(&metrics.gateway),
        })
    }

    /// Counts a connection from there; `None` where addresses have no limits.
    ///
    /// # Errors
    /// [`TurnedAway`] when it is one too many.
    pub(crate) fn connect(&self, address: IpAddr) -> Result<Option<Seat>, TurnedAway> {
        let party = self.addresses.of(Network::of(address));
        party.map(|party| party.sit(Instant::now())).transpose()
    }

    /// Counts a client that begins a session from there, where the connection that its request came on
    /// does not count already; `None` where it does, or addresses have no limits.
    ///
    /// # Errors
    /// [`TurnedAway`] when it is one too many, or there is no memory, which is counted here.
    pub(crate) fn upgrade(
        &self,
        address: IpAddr,
        place: &Place,
    ) -> Result<Option<Seat>, TurnedAway> {
        let seat = self.has_memory().and_then(|()| match place.seat {
            Some(_) => Ok(None),
            None => self.connect(address),
        });
        seat.inspect_err(|away| self.turned_away(*away))
    }

    /// Counts a connection of this user; `None` where users have no limits.
    ///
    /// # Errors
    /// [`TurnedAway`] when it is one too many, which is counted here.
    pub(crate) fn enter(&self, user: &UserName) -> Result<Option<Seat>, TurnedAway> {
        let party = self.users.of(user.clone());
        let seat = party.map(|party| party.sit(Instant::now())).transpose();
        seat.inspect_err(|away| self.turned_away(*away))
    }

    /// Whom clients from there count with; `None` where addresses have no limits.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Arc<Party>> {
        self.addresses.of(Network::of(address))
    }

    /// Counts an HTTP request from there.
    ///
    /// # Errors
    /// [`TurnedAway`] when it is one too many, which is counted here.
    pub(crate) fn request(&self, address: IpAddr) -> Result<(), TurnedAway> {
        let party = self.addresses.of(Network::of(address));
        let taken = party.map_or(Ok(()), |party| party.take_request(Instant::now()));
        taken.inspect_err(|away| self.turned_away(*away))
    }

    /// Counts an HTTP request of this user, with so many octets.
    ///
    /// # Errors
    /// [`TurnedAway`] when it is one too many, which is counted here.
    pub fn request_by(&self, user: &UserName, octets: usize) -> Result<(), TurnedAway> {
        let Some(party) = self.users.of(user.clone()) else {
            return Ok(());
        };
        let now = Instant::now();
        party
            .take_request(now)
            .inspect_err(|away| self.turned_away(*away))?;
        party.take_octets(now, octets);
        Ok(())
    }

    /// Whether there is memory for somebody new.
    ///
    /// # Errors
    /// [`TurnedAway::Memory`] when there is none.
    pub(crate) fn has_memory(&self) -> Result<(), TurnedAway> {
        match &self.memory {
            Some(memory) if memory.is_over() => Err(TurnedAway::Memory),
            _ => Ok(()),
        }
    }

    /// Counts somebody who is turned away.
    pub(crate) fn turned_away(&self, away: TurnedAway) {
        let counter = &self.metrics.turned_away;
        counter.with_label_values(&[away.label()]).inc();
    }

    /// Measures, and forgets who has gone, until `stop` is cancelled.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        let mut ticks = interval(MEASURED);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0_u32.. {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Some(memory) = &self.memory
                && let Some(resident) = resident()
            {
                let gauge = i64::try_from(resident).unwrap_or(i64::MAX);
                self.metrics.memory_bytes.set(gauge);
                let connections = self.max_connections - self.slots.available_permits();
                memory.measured(resident, connections);
            }
            if tick % SWEPT == 0 {
                let now = Instant::now();
                self.users.sweep(now);
                self.addresses.sweep(now);
            }
        }
    }
}

impl Default for Guard {
    /// Nothing has a limit.
    fn default() -> Self {
        Self {
            users: Parties::new(Scope::User, Share::default()),
            addresses: Parties::new(Scope::Address, Share::default()),
            memory: None,
            slots: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            max_connections: Semaphore::MAX_PERMITS,
            metrics: Metrics::new().gateway,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use shared::message::RoomName;

    use super::party::Parties;
    use super::{Claim, Network, Scope, TurnedAway};
    use crate::close::CloseReason;
    use crate::config::{RateLimit, Share};

    fn network(address: &str) -> Network {
        Network::of(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn an_address_is_all_that_one_subscriber_has() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[test]
    fn who_has_gone_is_forgotten_when_nothing_is_owed() {
        let share = Share {
            frames: RateLimit::new(1.try_into().unwrap()).into(),
            ..Share::default()
        };
        let parties = Parties::new(Scope::Address, share);
        let now = Instant::now();
        let here = parties.of(network("192.0.2.1")).unwrap();
        let seat = here.sit(now).unwrap();
        drop(here);
        let owes = parties.of(network("192.0.2.2")).unwrap();
        owes.take_frame(now);
        drop(owes);
        assert!(parties.of(network("192.0.2.3")).is_some());
        parties.sweep(now);
        assert_eq!(parties.len(), 2);
        parties.sweep(now + Duration::from_secs(1));
        assert_eq!(parties.len(), 1);
        drop(seat);
        parties.sweep(now);
        assert_eq!(parties.len(), 0);
    }

    #[test]
    fn what_is_unlimited_is_not_even_remembered() {
        let parties = Parties::new(Scope::User, Share::default());
        assert!(parties.of(1).is_none());
        assert_eq!(parties.len(), 0);
    }

    #[test]
    fn connections_and_rooms_are_counted_until_they_end() {
        let share = Share {
            connections: Some(1),
            rooms: Some(1),
            subscriptions: Some(2),
            ..Share::default()
        };
        let (user, address) = (
            Parties::new(Scope::User, share).of(1).unwrap(),
            Parties::new(Scope::Address, share).of(1).unwrap(),
        );
        let now = Instant::now();
        let seat = user.sit(now).unwrap();
        assert_eq!(user.sit(now).err(), Some(TurnedAway::User));
        drop(seat);
        assert!(user.sit(now).is_ok());

        let room = |name| RoomName::parse(name).unwrap();
        let parties = [user, address];
        let claim = |name| Claim::new(&parties, &room(name)).map_err(|(reason, _)| reason);
        let first = claim("a").unwrap();
        assert_eq!(claim("b").err(), Some(CloseReason::TooManyRooms));
        let second = claim("a").unwrap();
        assert_eq!(claim("a").err(), Some(CloseReason::TooManySubscriptions));
        drop((first, second));
        assert!(claim("b").is_ok());
    }
}
