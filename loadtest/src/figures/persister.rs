//! The persister alone, beside a bare loop of `insert_many` on the same mongod.

use std::time::Duration;

use harness::{Mongo, Process, Redis};
use tokio::time::{Instant, sleep};

use super::crowd;
use super::insert::{self, Inserted};
use super::measure::metrics;
use super::sheet::{Bound, Cell, Sheet, Spread, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::System;
use crate::process;

pub(crate) const ABOUT: &str = "A journal is filled while no persister runs; then one starts, and empties \
    it into MongoDB. Beside it, in the same run and on the same mongod, a bare loop writes as many of the \
    same documents by insert_many, in batches of the persister's size, acknowledged by the majority and \
    its journal, into a collection with the same index.";

/// The persister's own default.
const BATCH: usize = 500;

/// How long emptying may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Counts from one repeat.
#[derive(Clone, Copy)]
struct Emptied {
    messages: f64,
    seconds: f64,
    /// CPU time of the persister, Redis and mongod, in seconds.
    cpu: [f64; 3],
}

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where something could not be run.
pub(crate) async fn persister(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let mut emptied = Vec::new();
    let mut loops: [Vec<Inserted>; 2] = Default::default();
    // The CPU time of mongod meanwhile, in seconds.
    let mut servers: [Vec<f64>; 2] = Default::default();
    for round in 1..=stage.repeat {
        let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
        stage.say(format_args!(
            "persister {round}/{}: filling the journal",
            stage.repeat
        ));
        fill(stage, &redis, &mongo).await?;
        stage.say(format_args!(
            "persister {round}/{}: emptying it",
            stage.repeat
        ));
        let one = empty(stage, &redis, &mongo).await?;
        let mongod = Vec::from_iter(mongo.pid());
        let writers = [1, 4].into_iter();
        for ((writers, seen), servers) in writers.zip(&mut loops).zip(&mut servers) {
            stage.say(format_args!(
                "persister {round}/{}: insert_many, {writers} at a time",
                stage.repeat
            ));
            stage.go_on()?;
            let database = format!("loop{writers}");
            let mut args = vec!["insert".to_owned(), "--store".into(), mongo.url(&database)];
            for (flag, value) in [
                ("--documents", one.messages as usize),
                ("--batch", BATCH),
                ("--writers", writers),
            ] {
                args.extend([flag.to_owned(), value.to_string()]);
            }
            let before = crowd::used(&mongod);
            let mut inserting = Process::spawn_at(&stage.own, &args);
            inserting.wait().await;
            servers.push(crowd::used(&mongod) - before);
            let output = inserting.output();
            let found = output.lines().find_map(insert::parse);
            seen.push(found.ok_or_else(|| Broken::Failed(format!("insert: {output}")))?);
        }
        emptied.push(one);
    }
    let spread = |figure: fn(&Emptied) -> f64| Spread::of(emptied.iter().map(figure));
    let own = spread(|one| one.messages / one.seconds);
    let mut table = Table::new(
        "Messages a second, and CPU time in µs for each:",
        &[
            "writer",
            "messages/s",
            "own CPU, µs",
            "Redis, µs",
            "mongod, µs",
        ],
    );
    table.row([
        Cell::from("persister"),
        own.clone().into(),
        spread(|one| one.cpu[0] * 1e6 / one.messages).into(),
        spread(|one| one.cpu[1] * 1e6 / one.messages).into(),
        spread(|one| one.cpu[2] * 1e6 / one.messages).into(),
    ]);
    let names = ["insert_many, one at a time", "insert_many, four at a time"].into_iter();
    for ((name, seen), servers) in names.zip(&loops).zip(&servers) {
        let spread = |figure: fn(&Inserted) -> f64| Spread::of(seen.iter().map(figure));
        let bare = spread(|one| one.documents as f64 / one.seconds);
        table.row([
            name.into(),
            bare.clone().into(),
            spread(|one| one.cpu_seconds * 1e6 / one.documents as f64).into(),
            Cell::Nothing(()),
            Spread::of(
                servers
                    .iter()
                    .zip(seen)
                    .map(|(seconds, one)| seconds * 1e6 / one.documents as f64),
            )
            .into(),
        ]);
        let ratio = own
            .as_ref()
            .zip(bare)
            .and_then(|(own, bare)| own.ratio(&bare));
        let share = ratio.map(|ratio| ratio.median);
        match name.contains("one") {
            true => sheet.target("persister / insert_many loop", Bound::AtLeast(0.7), share),
            false => sheet.note(format!(
                "Of what four loops at the same time reach the persister reaches {:.0} %.",
                share.unwrap_or_default() * 100.0
            )),
        }
    }
    sheet.tables.push(table);
    Ok(())
}

/// Lets gateways accept messages that nobody stores.
async fn fill(stage: &Stage, redis: &Redis, mongo: &Mongo) -> Result<(), Broken> {
    let system = System::gateways(stage, redis, mongo, 1).await;
    let ask = Ask::rooms(500, 2, 8000.0, stage.time(15));
    let report = stage.load(&system, &ask).await?;
    match report.sent {
        0 => Err(Broken::Failed("the journal could not be filled".into())),
        _ => Ok(()),
    }
}

/// Starts a persister, and measures from when it has stored something until nothing is left.
async fn empty(stage: &Stage, redis: &Redis, mongo: &Mongo) -> Result<Emptied, Broken> {
    let persister = System::spawn_persister(stage, redis, mongo).await;
    let admin = persister.admin().await;
    let pids = [
        persister.pid(),
        redis.pid().unwrap_or_default(),
        mongo.pid().unwrap_or_default(),
    ];
    let used = || pids.map(|pid| process::cpu(pid).unwrap_or_default().as_secs_f64());
    let deadline = Instant::now() + LIMIT;
    let mut first = None;
    let mut last = (0.0, Instant::now(), [0.0; 3]);
    loop {
        stage.go_on()?;
        let stored = metrics(admin).await;
        let stored = stored.get("roomcast_persister_stored_total");
        let now = (stored.copied().unwrap_or_default(), Instant::now(), used());
        if now.0 > 0.0 && first.is_none() {
            first = Some(now);
        }
        if now.0 > last.0 {
            last = now;
        }
        let is_empty = first.is_some() && last.1.elapsed() > Duration::from_millis(300);
        if is_empty {
            break;
        }
        if Instant::now() > deadline {
            return Err(Broken::Failed(
                "the persister does not empty the journal".into(),
            ));
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (began, start, before) = first.unwrap_or(last);
    let (ended, end, after) = last;
    Ok(Emptied {
        messages: ended - began,
        seconds: (end - start).as_secs_f64(),
        cpu: [0, 1, 2].map(|at| after[at] - before[at]),
    })
}
