//! What the store or the application's back end has answered, kept for a while.
//!
//! An answer counts for `--access-ttl`, from the time that it was asked for. One that allows is asked
//! for anew, aside, when half of that has passed and it is used: so an outage of who answers is not
//! noticed for as long. One that refuses counts shorter, for who has just been let in should not have
//! to wait. Where there is no answer, nobody may.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use moka::sync::Cache;
use shared::message::{RoomName, UserName};
use shared::metrics::GatewayMetrics;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{Action, Verdict};
use crate::config::AccessSettings;

/// How long a refusal counts at most.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Questions that are asked at one time; further ones wait for their turn.
const AT_ONE_TIME: usize = 64;

/// Those of one user among them: who asks for much keeps nobody else waiting.
const OF_ONE_USER: usize = AT_ONE_TIME / 4;

/// How long they wait at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that are asked, or wait for that, at most: whoever has another one gets no answer.
const MAX_OPEN: usize = 8192;

/// Those of one user among them.
const MAX_OPEN_OF_USER: usize = MAX_OPEN / 8;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) user: UserName,
    pub(super) room: RoomName,
    pub(super) action: Action,
}

/// Who answers.
pub(super) trait Source: Send + Sync + 'static {
    /// Whether the user may, or why that cannot be said: a line for the log, without names.
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<bool, String>>;
}

/// The answers of one source.
pub(super) struct Answers {
    source: Box<dyn Source>,
    known: Cache<Question, Known>,
    open: Mutex<Open>,
    turns: Semaphore,
    ttl: Duration,
    deadline: Duration,
    /// The source did not answer the last question.
    is_failing: AtomicBool,
    metrics: Arc<GatewayMetrics>,
}

/// What is being asked, or waits for that, and of whom.
#[derive(Default)]
struct Open {
    questions: HashMap<Question, watch::Receiver<Option<Verdict>>>,
    users: HashMap<UserName, User>,
}

struct User {
    open: usize,
    turns: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
struct Known {
    is_allowed: bool,
    /// When it is to be asked anew.
    due: Instant,
    /// When it counts no more.
    until: Instant,
}

impl Known {
    fn verdict(self) -> Verdict {
        if self.is_allowed {
            let until = Some(self.until);
            Verdict::Granted { until }
        } else {
            Verdict::Refused
        }
    }
}

impl Answers {
    pub(super) fn new(
        source: Box<dyn Source>,
        settings: &AccessSettings,
        metrics: Arc<GatewayMetrics>,
    ) -> Self {
        let known = Cache::builder()
            .max_capacity(settings.cache)
            .time_to_live(settings.ttl);
        Self {
            source,
            known: known.build(),
            open: Mutex::default(),
            turns: Semaphore::new(AT_ONE_TIME),
            ttl: settings.ttl,
            deadline: settings.timeout,
            is_failing: AtomicBool::new(false),
            metrics,
        }
    }

    /// The answer that counts now, or the source's.
    pub(super) async fn verdict(self: &Arc<Self>, question: Question) -> Verdict {
        let now = now();
        if let Some(known) = self.known.get(&question)
            && now < known.until
        {
            if known.is_allowed && now >= known.due {
                drop(self.ask(question));
            }
            return known.verdict();
        }
        let Some(mut answer) = self.ask(question) else {
            return Verdict::Unavailable;
        };
        let answered = answer.wait_for(Option::is_some).await;
        answered
            .ok()
            .and_then(|verdict| *verdict)
            .unwrap_or(Verdict::Unavailable)
    }

    /// Has a question asked, once for all who have it; `None` when too many are open. It is asked to
    /// the end, whoever goes.
    fn ask(self: &Arc<Self>, question: Question) -> Option<watch::Receiver<Option<Verdict>>> {
        let Open { questions, users } = &mut *self.open();
        let is_full = questions.len() >= MAX_OPEN;
        match questions.entry(question) {
            Entry::Occupied(asked) => Some(asked.get().clone()),
            Entry::Vacant(_) if is_full => None,
            Entry::Vacant(place) => {
                let user = users
                    .entry(place.key().user.clone())
                    .or_insert_with(|| User {
                        open: 0,
                        turns: Arc::new(Semaphore::new(OF_ONE_USER)),
                    });
                if user.open >= MAX_OPEN_OF_USER {
                    return None;
                }
                user.open += 1;
                let (answer, receiver) = watch::channel(None);
                let asking = Asking {
                    answers: Arc::clone(self),
                    question: place.key().clone(),
                    turns: Arc::clone(&user.turns),
                };
                place.insert(receiver.clone());
                tokio::spawn(async move { answer.send_replace(Some(asking.run().await)) });
                Some(receiver)
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn learn(&self, question: &Question, own: &Semaphore) -> Verdict {
        let turn = async {
            let own = own.acquire().await.ok()?;
            Some((own, self.turns.acquire().await.ok()?))
        };
        let Ok(Some(_turn)) = timeout(PATIENCE, turn).await else {
            return Verdict::Unavailable;
        };
        let asked = now();
        let answer = timeout(self.deadline, self.source.ask(question)).await;
        let took = now().duration_since(asked);
        self.metrics.access_seconds.observe(took.as_secs_f64());
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".into()));
        let was_failing = self.is_failing.swap(answer.is_err(), Ordering::Relaxed);
        match answer {
            Ok(is_allowed) => {
                if was_failing {
                    tracing::info!("what users may do can be asked again");
                }
                let lasts = if is_allowed {
                    self.ttl
                } else {
                    self.ttl.min(REFUSED_FOR)
                };
                let known = Known {
                    is_allowed,
                    due: asked + lasts / 2,
                    until: asked + lasts,
                };
                self.known.insert(question.clone(), known);
                known.verdict()
            }
            Err(reason) => {
                if !was_failing {
                    tracing::warn!(reason, "what users may do cannot be asked");
                }
                Verdict::Unavailable
            }
        }
    }
}

/// A question that is being asked: it is open no more when this is dropped.
struct Asking {
    answers: Arc<Answers>,
    question: Question,
    /// Its user's.
    turns: Arc<Semaphore>,
}

impl Asking {
    async fn run(self) -> Verdict {
        self.answers.learn(&self.question, &self.turns).await
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Open { questions, users } = &mut *self.answers.open();
        questions.remove(&self.question);
        if let Entry::Occupied(mut user) = users.entry(self.question.user.clone()) {
            user.get_mut().open -= 1;
            if user.get().open == 0 {
                user.remove();
            }
        }
    }
}

/// Tokio's time, which tests set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
