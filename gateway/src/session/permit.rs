//! What the user may do, as far as the session knows: what was answered, what is being asked.
//!
//! A frame whose answer is not known waits, and all that come after it. What was allowed is
//! remembered for as long as the answer counts, and asked for anew ahead of its end when it is used.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::message::RoomName;

use super::Session;
use super::frames::Refusal;
use super::output::Output;
use crate::access::{Action, Verdict, goes_without_saying};
use crate::auth::Identity;
use crate::close::CloseReason;
use crate::config::AccessSource;

/// How many answers are remembered beside those that subscriptions have.
const MAX_KNOWN: usize = 64;

/// Questions of one session that are under way at most: a frame that has another one waits.
const MAX_ASKED: usize = 32;

/// The shortest pause between two questions about the same.
const PAUSE: Duration = Duration::from_millis(250);

/// What a session knows.
#[derive(Debug)]
pub(super) struct Permits {
    source: AccessSource,
    who: Option<Identity>,
    /// What is allowed, oldest first.
    known: VecDeque<(RoomName, Action, Term)>,
    /// What is being asked.
    pub(super) asked: Vec<(RoomName, Action)>,
    /// What the stalled frame waits for, with what has been answered.
    awaited: Vec<(RoomName, Action, Option<Verdict>)>,
}

/// For how long something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// When it is to be asked anew; `None` is never.
    pub(super) due: Option<Instant>,
    /// When it counts no more; `None` is never.
    pub(super) until: Option<Instant>,
}

impl Term {
    /// Without an end.
    pub(super) const FOREVER: Self = Self {
        due: None,
        until: None,
    };

    /// From `now` on. It is asked anew half-way through the rest, and when there was no answer, or
    /// the old one, half-way through what is left then.
    pub(super) fn new(now: Instant, until: Option<Instant>) -> Self {
        let due = until.map(|until| {
            let rest = until.saturating_duration_since(now) / 2;
            (now + rest.max(PAUSE)).min(until)
        });
        Self { due, until }
    }

    pub(super) fn is_due(self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// Whether a frame may go on.
pub(super) enum Permit {
    /// It may, for so long.
    Granted(Term),
    /// That is being asked: the frame is to be handled again when there is an answer.
    Asked,
}

impl Permits {
    pub(super) fn new(source: AccessSource) -> Self {
        Self {
            source,
            who: None,
            known: VecDeque::new(),
            asked: Vec::new(),
            awaited: Vec::new(),
        }
    }

    /// Whose permits they are.
    pub(super) fn identify(&mut self, who: Identity) {
        self.who = Some(who);
    }

    /// The frame that waited has been handled.
    pub(super) fn resume(&mut self) {
        self.awaited.clear();
    }

    fn answered(&mut self, now: Instant, room: &RoomName, action: Action, verdict: Verdict) {
        self.asked
            .retain(|asked| (&asked.0, asked.1) != (room, action));
        for awaited in &mut self.awaited {
            if (&awaited.0, awaited.1) == (room, action) {
                awaited.2 = Some(verdict);
            }
        }
        match verdict {
            Verdict::Granted { until } => self.remember(room, action, Term::new(now, until)),
            Verdict::Refused => self.known.retain(|(at, to, _)| (at, *to) != (room, action)),
            Verdict::Unavailable => {
                if let Some(term) = self.term(room, action) {
                    *term = Term::new(now, term.until);
                }
            }
        }
    }

    fn remember(&mut self, room: &RoomName, action: Action, allowed: Term) {
        if let Some(term) = self.term(room, action) {
            *term = allowed;
            return;
        }
        if self.known.len() == MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((room.clone(), action, allowed));
    }

    fn term(&mut self, room: &RoomName, action: Action) -> Option<&mut Term> {
        let known = self.known.iter_mut();
        let mut fitting = known.filter(|(at, to, _)| (at, *to) == (room, action));
        fitting.next().map(|(_, _, term)| term)
    }
}

impl Session {
    /// Whether the user may do all of this: the term is that of the first.
    ///
    /// # Errors
    /// [`Refusal`] when not, or when that cannot be said. Its text is the same for every room.
    pub(super) fn permit(
        &mut self,
        now: Instant,
        room: &RoomName,
        actions: &[Action],
    ) -> Result<Permit, Refusal> {
        let mut terms = Vec::with_capacity(actions.len());
        for action in actions {
            match self.allowed(now, room, *action) {
                Some(Ok(term)) => terms.push(term),
                Some(Err(reason)) => return Err(Refusal(reason, reason.message().into())),
                None => {}
            }
        }
        match terms.first() {
            Some(term) if terms.len() == actions.len() => Ok(Permit::Granted(*term)),
            _ => Ok(Permit::Asked),
        }
    }

    /// For how long something is allowed, or why it is not; `None` where it has to be asked, and is.
    fn allowed(
        &mut self,
        now: Instant,
        room: &RoomName,
        action: Action,
    ) -> Option<Result<Term, CloseReason>> {
        let always = Some(Ok(Term::FOREVER));
        if self.permits.source == AccessSource::Open {
            return always;
        }
        let Some(who) = &self.permits.who else {
            return Some(Err(CloseReason::Forbidden));
        };
        if goes_without_saying(who, room, action) {
            return always;
        }
        let waited = self.permits.awaited.iter();
        let mut waited = waited.filter(|(at, to, _)| (at, *to) == (room, action));
        if let Some((_, _, Some(verdict))) = waited.next() {
            return Some(said(now, *verdict));
        }
        let known = self.permits.term(room, action).copied();
        if let Some(term) = known.filter(|term| !term.is_over(now)) {
            if term.is_due(now) {
                self.ask(room, action);
            }
            return Some(Ok(term));
        }
        if self.permits.source == AccessSource::Claims {
            let verdict = self.permits.who.as_ref()?.grants.verdict(room, action);
            self.outputs.push_back(Output::Decided(verdict));
            self.permits.answered(now, room, action, verdict);
            return Some(said(now, verdict));
        }
        let awaited = (room.clone(), action, None);
        let is_awaited = self.permits.awaited.contains(&awaited);
        // What was refused for one reason leaves behind what it asked for the other.
        if !is_awaited && self.permits.asked.len() >= MAX_ASKED {
            return None;
        }
        if !is_awaited {
            self.permits.awaited.push(awaited);
        }
        self.ask(room, action);
        None
    }

    /// Asks, unless that is under way.
    pub(super) fn ask(&mut self, room: &RoomName, action: Action) {
        let question = (room.clone(), action);
        if !self.permits.asked.contains(&question) {
            self.permits.asked.push(question);
            let room = room.clone();
            self.outputs.push_back(Output::Authorize { room, action });
        }
    }

    /// The answer to [`Output::Authorize`].
    pub fn authorized(&mut self, now: Instant, room: &RoomName, action: Action, verdict: Verdict) {
        if self.closing().is_some() {
            return;
        }
        self.permits.answered(now, room, action, verdict);
        if action == Action::Subscribe {
            self.reviewed(now, room, verdict);
        }
        if self.closing().is_some() {
            return;
        }
        // What found no place among the questions under way may have one now.
        self.review_due = Some(now);
        self.review(now);
        self.take_frames(now);
    }
}

fn said(now: Instant, verdict: Verdict) -> Result<Term, CloseReason> {
    match (verdict, verdict.denial()) {
        (Verdict::Granted { until }, _) => Ok(Term::new(now, until)),
        (_, reason) => Err(reason.unwrap_or(CloseReason::Forbidden)),
    }
}
