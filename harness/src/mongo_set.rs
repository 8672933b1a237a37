//! A MongoDB replica set of three nodes, which can lose its primary in every way.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use mongodb::bson::doc;
use mongodb::error::ErrorKind;
use tokio::time::{Instant, sleep, timeout};

use crate::mongo::Mongo;
use crate::until::{DEADLINE, until};

/// How long the nodes miss their primary before they elect another.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long between two looks at the nodes, and how long one of them may take to answer.
const LOOK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(2);

/// How long a primary that was told to step down does not stand for election, and how long it waits
/// before for another that may, which has to be shorter: that one may have stepped down just before.
const ASIDE_SECONDS: i32 = 3;
const PATIENCE_SECONDS: i32 = 2;

/// What a node that is no primary answers to what only one does.
const NOT_PRIMARY: i32 = 10107;

/// Three nodes that vote. Those that were killed or frozen stay so until they are told otherwise.
pub struct MongoSet {
    nodes: Vec<Mongo>,
    frozen: BTreeSet<usize>,
}

impl MongoSet {
    /// Starts one that has a primary, with all three up to date.
    ///
    /// # Panics
    /// When there is no mongod, saying how to get one, or no primary in time.
    pub async fn start() -> Self {
        let nodes = join_all((0..3).map(|_| Mongo::spawn_somewhere())).await;
        let members: Vec<_> = (0..)
            .zip(&nodes)
            .map(|(id, node): (i32, _)| doc! { "_id": id, "host": node.host() })
            .collect();
        let settings = doc! {
            "electionTimeoutMillis": ELECTION_TIMEOUT.as_millis() as i32,
            "heartbeatIntervalMillis": 300,
            "heartbeatTimeoutSecs": 1,
        };
        let config = doc! { "_id": "rs0", "members": members, "settings": settings };
        nodes[0].command(doc! { "replSetInitiate": config }).await;
        let set = Self {
            nodes,
            frozen: BTreeSet::new(),
        };
        set.primary().await;
        set.all_follow().await;
        set
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(Mongo::host).collect();
        format!("mongodb://{}/{database}?replicaSet=rs0", hosts.join(","))
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Mongo] {
        &self.nodes
    }

    /// Ends the primary with SIGKILL. Returns when another one has been elected.
    ///
    /// # Panics
    /// When there is no primary, or no other in time.
    pub async fn kill_primary(&mut self) {
        let primary = self.primary().await;
        self.nodes[primary].kill().await;
        self.primary_but(Some(primary)).await;
    }

    /// Freezes the primary with SIGSTOP: its connections stay open and silent, and it believes
    /// itself the primary when it goes on. Returns when another one has been elected.
    ///
    /// # Panics
    /// As [`MongoSet::kill_primary`].
    pub async fn pause_primary(&mut self) {
        let primary = self.primary().await;
        self.nodes[primary].pause().await;
        self.frozen.insert(primary);
        self.primary_but(Some(primary)).await;
    }

    /// Asks the primary to make way for another, as an operator does before maintenance. Returns
    /// when another one has been elected.
    ///
    /// # Panics
    /// As [`MongoSet::kill_primary`], and when no other is up to date.
    pub async fn step_down(&mut self) {
        let primary = self.primary().await;
        let wanted = doc! {
            "replSetStepDown": ASIDE_SECONDS, "secondaryCatchUpPeriodSecs": PATIENCE_SECONDS
        };
        let admin = self.nodes[primary].client().database("admin");
        until("the primary to step down", async || {
            match admin.run_command(wanted.clone()).await {
                Ok(_) => true,
                // An attempt whose answer was lost did it.
                Err(error) => matches!(
                    *error.kind,
                    ErrorKind::Command(ref refused) if refused.code == NOT_PRIMARY
                ),
            }
        })
        .await;
        self.primary_but(Some(primary)).await;
    }

    /// Ends both others with SIGKILL: the primary is left without a majority, notices, and steps
    /// down. Returns when it has.
    ///
    /// # Panics
    /// When there is no primary, or it stays one.
    pub async fn kill_majority(&mut self) {
        let primary = self.primary().await;
        for number in (0..self.nodes.len()).filter(|number| *number != primary) {
            self.nodes[number].kill().await;
            self.frozen.remove(&number);
        }
        let deadline = Instant::now() + DEADLINE;
        while self.election(primary).await.is_some() {
            assert!(Instant::now() < deadline, "the lone primary stays one");
            sleep(LOOK).await;
        }
    }

    /// Lets every frozen node go on. Returns when there is a primary and all that run follow it.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn resume(&mut self) {
        for number in std::mem::take(&mut self.frozen) {
            self.nodes[number].resume().await;
        }
        self.primary().await;
        self.all_follow().await;
    }

    /// Starts every killed node again, with its data. Returns when there is a primary and all that
    /// run follow it.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn restart_dead(&mut self) {
        let dead = self.nodes.iter_mut().filter(|node| !node.runs());
        join_all(dead.map(Mongo::revive)).await;
        self.primary().await;
        self.all_follow().await;
    }

    /// The number of the node that was elected last, of those that run and are not frozen.
    async fn primary(&self) -> usize {
        self.primary_but(None).await
    }

    async fn primary_but(&self, old: Option<usize>) -> usize {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let numbers = 0..self.nodes.len();
            let elections = join_all(numbers.map(|number| self.election(number))).await;
            // A primary that was frozen stays one, in an older term, until it hears of the next.
            let newest = (0..)
                .zip(elections)
                .filter(|(_, election)| election.is_some())
                .max_by_key(|(_, election)| *election);
            match newest {
                Some((number, _)) if Some(number) != old => return number,
                _ => assert!(
                    Instant::now() < deadline,
                    "the replica set elects no primary"
                ),
            }
            sleep(LOOK).await;
        }
    }

    /// The election that made this node the primary, where it takes itself for that.
    async fn election(&self, number: usize) -> Option<[u8; 12]> {
        if !self.nodes[number].runs() || self.frozen.contains(&number) {
            return None;
        }
        let client = self.nodes[number].client();
        let hello = doc! { "hello": 1 };
        let hello = timeout(ANSWER, client.database("admin").run_command(hello)).await;
        let hello = hello.ok()?.ok()?;
        if !hello.get_bool("isWritablePrimary").unwrap_or(false) {
            return None;
        }
        hello.get_object_id("electionId").ok().map(|id| id.bytes())
    }

    /// Waits until every node that runs and is not frozen is the primary or one of its followers.
    async fn all_follow(&self) {
        let deadline = Instant::now() + DEADLINE;
        for (number, node) in self.nodes.iter().enumerate() {
            if !node.runs() || self.frozen.contains(&number) {
                continue;
            }
            let client = node.client();
            loop {
                let status = doc! { "replSetGetStatus": 1 };
                let status = client.database("admin").run_command(status).await;
                // 1 is PRIMARY, 2 is SECONDARY.
                if status.is_ok_and(|status| matches!(status.get_i32("myState"), Ok(1 | 2))) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "a node does not follow the primary"
                );
                sleep(LOOK).await;
            }
        }
    }
}
