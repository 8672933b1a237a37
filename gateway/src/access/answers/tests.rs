use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use futures_util::future::{FutureExt, join_all};
use shared::metrics::Metrics;
use tokio::time::{advance, sleep};

use super::*;
use crate::config::{AccessSource, Refusals};

const SECOND: Duration = Duration::from_secs(1);

/// Says what it is told to, after a while.
#[derive(Default)]
struct Told {
    refuses: AtomicBool,
    fails: AtomicBool,
    takes: Mutex<Duration>,
    /// Questions ever, now, and at most at one time.
    asked: [AtomicUsize; 3],
}

struct Tells(Arc<Told>);

impl Source for Tells {
    fn ask<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Result<bool, String>> {
        async move {
            let [ever, now, most] = &self.0.asked;
            ever.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let takes = *self.0.takes.lock().unwrap();
            sleep(takes).await;
            now.fetch_sub(1, Ordering::Relaxed);
            if self.0.fails.load(Ordering::Relaxed) {
                return Err("it fails".into());
            }
            Ok(!self.0.refuses.load(Ordering::Relaxed))
        }
        .boxed()
    }
}

fn answers(cache: u64) -> (Arc<Answers>, Arc<Told>) {
    let settings = AccessSettings {
        source: AccessSource::Members,
        url: None,
        url_headers: Default::default(),
        timeout: 2 * SECOND,
        ttl: 30 * SECOND,
        cache,
        refusals: Refusals::Error,
    };
    let told = Arc::new(Told::default());
    let source = Box::new(Tells(Arc::clone(&told)));
    let answers = Answers::new(source, &settings, Metrics::new().gateway);
    (Arc::new(answers), told)
}

fn question(room: &str) -> Question {
    Question {
        user: UserName::parse("kim").unwrap(),
        room: RoomName::parse(room).unwrap(),
        action: Action::Send,
    }
}

impl Told {
    fn ever(&self) -> usize {
        self.asked[0].load(Ordering::Relaxed)
    }

    fn set(&self, refuses: bool, fails: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
        self.fails.store(fails, Ordering::Relaxed);
    }
}

fn is_granted(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Granted { .. })
}

#[tokio::test(start_paused = true)]
async fn a_question_is_asked_once_however_many_have_it() {
    let (answers, told) = answers(100);
    *told.takes.lock().unwrap() = SECOND;
    let verdicts = join_all((0..100).map(|_| answers.verdict(question("r")))).await;
    assert!(verdicts.into_iter().all(is_granted));
    assert_eq!(told.ever(), 1);
    answers.verdict(question("other")).await;
    assert_eq!(told.ever(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_answer_counts_longer_than_its_time() {
    let (answers, told) = answers(100);
    let start = now();
    let until = Some(start + 30 * SECOND);
    assert_eq!(
        answers.verdict(question("r")).await,
        Verdict::Granted { until }
    );
    told.set(true, false);
    advance(14 * SECOND).await;
    assert_eq!(
        answers.verdict(question("r")).await,
        Verdict::Granted { until }
    );
    advance(16 * SECOND).await;
    assert_eq!(answers.verdict(question("r")).await, Verdict::Refused);
    // Whoever was just let in does not wait for as long.
    told.set(false, false);
    advance(4 * SECOND).await;
    assert_eq!(answers.verdict(question("r")).await, Verdict::Refused);
    advance(SECOND).await;
    assert!(is_granted(answers.verdict(question("r")).await));
}

#[tokio::test(start_paused = true)]
async fn what_is_used_is_asked_ahead_and_outlasts_a_short_outage() {
    let (answers, told) = answers(100);
    answers.verdict(question("r")).await;
    told.set(false, true);
    advance(20 * SECOND).await;
    assert!(is_granted(answers.verdict(question("r")).await));
    // It has been asked aside, in vain.
    sleep(SECOND).await;
    assert_eq!(told.ever(), 2);
    told.set(false, false);
    assert!(is_granted(answers.verdict(question("r")).await));
    sleep(SECOND).await;
    assert_eq!(told.ever(), 3);
    advance(20 * SECOND).await;
    told.set(false, true);
    // The first answer's time is over, but not that of the new one.
    assert!(is_granted(answers.verdict(question("r")).await));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_may() {
    let (answers, told) = answers(100);
    told.set(false, true);
    assert_eq!(answers.verdict(question("r")).await, Verdict::Unavailable);
    told.set(false, false);
    assert!(is_granted(answers.verdict(question("r")).await));
    told.set(false, true);
    advance(31 * SECOND).await;
    assert_eq!(answers.verdict(question("r")).await, Verdict::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_given_up_at_the_deadline() {
    let (answers, told) = answers(100);
    *told.takes.lock().unwrap() = 3600 * SECOND;
    let start = now();
    assert_eq!(answers.verdict(question("r")).await, Verdict::Unavailable);
    assert_eq!(now() - start, 2 * SECOND);
    assert!(answers.open().questions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn few_are_asked_at_one_time_and_the_others_wait_within_bounds() {
    let (answers, told) = answers(100_000);
    *told.takes.lock().unwrap() = SECOND;
    let questions: Vec<_> = (0..MAX_OPEN + 100)
        .map(|n| Question {
            user: UserName::parse(&format!("user{}", n % 100)).unwrap(),
            ..question(&format!("r{n}"))
        })
        .collect();
    let start = now();
    let verdicts = join_all(questions.into_iter().map(|q| answers.verdict(q))).await;
    assert_eq!(told.asked[2].load(Ordering::Relaxed), AT_ONE_TIME);
    assert!(now() - start <= PATIENCE + 2 * SECOND);
    let granted = verdicts.iter().filter(|v| is_granted(**v)).count();
    let unavailable = verdicts
        .iter()
        .filter(|v| **v == Verdict::Unavailable)
        .count();
    // As many as had their turn, which ten seconds of patience have eleven of at most.
    assert!((640..=704).contains(&granted), "{granted}");
    assert_eq!(granted + unavailable, verdicts.len());
    assert!(answers.open().questions.is_empty());
}

#[tokio::test]
async fn a_flood_of_rooms_keeps_no_more_than_the_cache_may() {
    let (answers, told) = answers(500);
    for n in 0..2_000 {
        assert!(is_granted(
            answers.verdict(question(&format!("r{n}"))).await
        ));
    }
    assert_eq!(told.ever(), 2_000);
    answers.known.run_pending_tasks();
    let kept: HashSet<_> = answers.known.iter().map(|(question, _)| question).collect();
    assert!(kept.len() <= 500, "{}", kept.len());
    assert!(answers.open().questions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_question_is_asked_to_its_end_though_who_had_it_is_gone() {
    let (answers, told) = answers(100);
    *told.takes.lock().unwrap() = SECOND;
    assert!(answers.verdict(question("r")).now_or_never().is_none());
    sleep(2 * SECOND).await;
    assert!(is_granted(answers.verdict(question("r")).await));
    assert_eq!(told.ever(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_user_with_many_questions_does_not_keep_others_waiting() {
    let (answers, told) = answers(100_000);
    *told.takes.lock().unwrap() = SECOND;
    let hostile: Vec<_> = (0..MAX_OPEN)
        .map(|n| {
            let (answers, question) = (Arc::clone(&answers), question(&format!("r{n}")));
            tokio::spawn(async move { answers.verdict(question).await })
        })
        .collect();
    while answers.open().questions.len() < MAX_OPEN_OF_USER {
        tokio::task::yield_now().await;
    }
    let start = now();
    let other = Question {
        user: UserName::parse("lee").unwrap(),
        ..question("r0")
    };
    assert!(is_granted(answers.verdict(other).await));
    assert_eq!(now() - start, SECOND);
    let verdicts = join_all(hostile).await;
    let granted = verdicts
        .into_iter()
        .map(Result::unwrap)
        .filter(|v| is_granted(*v));
    // As many as there are turns within its patience.
    assert!((OF_ONE_USER * 10..=OF_ONE_USER * 11).contains(&granted.count()));
    assert!(answers.open().questions.is_empty() && answers.open().users.is_empty());
}
