//! What one thread has counted and measured.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts and latencies of one thread. Only it writes here while a window lasts.
#[derive(Debug)]
pub(crate) struct Tally {
    /// What has come since the window began.
    pub window: Window,
    /// What came in the windows before.
    closed: Window,
}

/// What came in a while.
#[derive(Debug)]
pub(crate) struct Window {
    /// Messages handed to sockets.
    pub sent: u64,
    /// Deliveries and receipts that these owe.
    pub owed: u64,
    /// Deliveries, whatever they were.
    pub delivered: u64,
    /// Deliveries and receipts that were owed.
    pub paid: u64,
    /// When the newest message left, since the start.
    pub sending: Duration,
    /// When the newest delivery came, since the start.
    pub delivering: Duration,
    /// Latencies.
    pub latencies: Latencies,
}

/// Latencies in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// From when a message was due to its delivery.
    pub receive: Histogram<u64>,
    /// From when a message was due to its receipt.
    pub receipt: Histogram<u64>,
    /// From when a message was due to its being handed to the socket.
    pub lag: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            window: Window::new(),
            closed: Window::new(),
        }
    }

    /// Adds the window to `all`, and begins another.
    pub(crate) fn turn(&mut self, all: &mut Window) {
        *all += &self.window;
        self.closed += &self.window;
        self.window.clear();
    }

    /// Adds everything to `all`.
    pub(crate) fn add_to(&self, all: &mut Window) {
        *all += &self.closed;
        *all += &self.window;
    }

    /// What is owed and what is paid so far.
    pub(crate) fn balance(&self) -> (u64, u64) {
        let sum = |of: fn(&Window) -> u64| of(&self.closed) + of(&self.window);
        (sum(|window| window.owed), sum(|window| window.paid))
    }
}

impl Window {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            owed: 0,
            delivered: 0,
            paid: 0,
            sending: Duration::ZERO,
            delivering: Duration::ZERO,
            latencies: Latencies::new(),
        }
    }

    fn clear(&mut self) {
        let Latencies {
            receive,
            receipt,
            lag,
        } = &mut self.latencies;
        for histogram in [receive, receipt, lag] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        (self.sent, self.owed, self.delivered, self.paid) = (0, 0, 0, 0);
    }
}

impl std::ops::AddAssign<&Self> for Window {
    fn add_assign(&mut self, other: &Self) {
        self.sent += other.sent;
        self.owed += other.owed;
        self.delivered += other.delivered;
        self.paid += other.paid;
        self.sending = self.sending.max(other.sending);
        self.delivering = self.delivering.max(other.delivering);
        let (ours, others) = (&mut self.latencies, &other.latencies);
        for (ours, others) in [
            (&mut ours.receive, &others.receive),
            (&mut ours.receipt, &others.receipt),
            (&mut ours.lag, &others.lag),
        ] {
            if !others.is_empty() {
                *ours += others;
            }
        }
    }
}

impl Latencies {
    fn new() -> Self {
        Self {
            receive: histogram(),
            receipt: histogram(),
            lag: histogram(),
        }
    }
}

/// A histogram of microseconds, to an hour, with three digits: 0.1 % of whatever is recorded.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid")
}

/// Records a time.
pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros.max(1));
}
