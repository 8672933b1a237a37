//! `loadtest rooms`: connect everybody, send, wait for what is owed, compare with the history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use shared::exit::Failure;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::body::Bodies;
use crate::client::{User, open, pace};
use crate::config::{ReceiptAfter, RoomsArgs};
use crate::connection::{ClientError, Connection};
use crate::history;
use crate::ledger::Faults;
use crate::pass::Pass;
use crate::process::Watch;
use crate::report::{Generator, History, LATE, Latency, Load, Report};
use crate::run::{Run, Schedule, Seating};

/// Connections that are being made, or histories being read, at one time.
const AT_ONCE: usize = 16;

/// From the last connection to the first message: time for every task to start.
const HEAD_START: Duration = Duration::from_millis(200);

/// How long to listen, when everything has come, for what comes again.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long users may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// Runs the load to its end.
///
/// # Errors
/// [`Failure`] when it could not be run. That messages were lost is no error but in the report.
pub(crate) async fn rooms(args: &RoomsArgs) -> Result<Report, Failure> {
    let seating = match (args.rooms, args.room_size) {
        (Some(rooms), _) if rooms > args.users => {
            return Err(Failure::Config(
                "--rooms: there are more rooms than --users".into(),
            ));
        }
        (Some(rooms), _) => Seating::Rooms(rooms),
        (None, size) => Seating::Size(size.unwrap_or(2)),
    };
    let pids = args
        .pids
        .iter()
        .map(|process| (process.name.clone(), process.pid));
    let mut watch =
        Watch::start(pids).map_err(|error| Failure::Other(format!("a thread: {error}")))?;
    let seats = seating.seats(args.users);
    // Names are new in every run, so that an earlier run's messages are not in the rooms.
    let number = Uuid::new_v4().as_fields().0;
    let prefix = format!("load-{number:08x}");
    let pass = Pass::open(&args.pass, &args.gateways)?;
    let (pass, names) = match &args.token_file {
        Some(path) => pass.with_tokens(path, seats.len())?,
        None => {
            let names = seats.iter().map(|seat| format!("{prefix}-u{}", seat.user));
            (pass, names.collect())
        }
    };
    let readers = names.clone();
    let room_name = |room: usize| format!("{prefix}-r{room}");

    let connecting = seats.iter().map(|seat| {
        let gateway = &args.gateways[(seat.room + seat.member) % args.gateways.len()];
        let (user, room) = (&names[seat.user as usize], room_name(seat.room));
        let pass = &pass;
        async move {
            timeout(args.connect_timeout, open(gateway, pass, user, &room))
                .await
                .map_err(|_| "no answer in time".to_owned())
                .and_then(|opened| opened.map_err(|error| error.to_string()))
                .map_err(|reason| Failure::Unavailable(format!("{}: {reason}", gateway.as_str())))
        }
    });
    let connections: Vec<Connection> = stream::iter(connecting)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;

    let mut rng = fastrand::Rng::with_seed(args.seed);
    let bodies = Bodies::new(number, args.body_bytes, &mut rng);
    let mut turns = (0..args.users).collect::<Vec<_>>();
    rng.shuffle(&mut turns);
    let schedule = Schedule::new(args.rate, args.duration, seats.len());
    watch.begin();
    let start = Instant::now() + HEAD_START;
    let run = Arc::new(Run::new(start, schedule, bodies, seats, names, &turns));

    let mut users = users(args.receipt_after, &run, &turns, connections, room_name);
    let mut cut_off = BTreeMap::new();
    let end = start + args.duration + args.settle;
    loop {
        tokio::select! {
            () = run.done.cancelled() => break,
            () = sleep_until(end.into()) => break,
            ended = users.join_next() => match ended {
                Some(ended) => note(&mut cut_off, ended),
                None => break,
            },
        }
    }
    watch.end();
    if run.done.is_cancelled() {
        sleep(AFTERMATH).await;
    }
    run.stop.cancel();
    let leaving = async {
        while let Some(ended) = users.join_next().await {
            note(&mut cut_off, ended);
        }
    };
    if timeout(LEAVING, leaving).await.is_err() {
        users.abort_all();
    }

    let history = if args.history_check {
        Some(compare(args, &pass, &readers, &run, room_name).await)
    } else {
        None
    };
    let rooms = run.rooms();
    let load = Load {
        gateways: args
            .gateways
            .iter()
            .map(|gateway| gateway.as_str().to_owned())
            .collect(),
        users: run.seats.len(),
        rooms,
        rate: args.rate,
        messages: run.schedule.messages as u64,
        duration_seconds: args.duration.as_secs_f64(),
        body_bytes: args.body_bytes,
        receipt_after: args.receipt_after.map(|after| after.as_str().to_owned()),
        seed: args.seed,
        prefix,
        ..Load::default()
    };
    Ok(report(load, &run, cut_off, history, watch))
}

/// Starts everybody, each with a connection, and the pacer who wakes them. `turns` has a user's number
/// for each place in the order of sending.
pub(crate) fn users(
    receipt_after: Option<ReceiptAfter>,
    run: &Arc<Run>,
    turns: &[u32],
    connections: Vec<Connection>,
    room_name: impl Fn(usize) -> String,
) -> JoinSet<Result<(), ClientError>> {
    let bells = turns
        .iter()
        .map(|_| Arc::new(Notify::new()))
        .collect::<Vec<_>>();
    let mut turn_of = vec![0; turns.len()];
    for (turn, &user) in turns.iter().enumerate() {
        turn_of[user as usize] = turn;
    }
    let mut users = JoinSet::new();
    for (connection, &seat) in connections.into_iter().zip(&run.seats) {
        let turn = turn_of[seat.user as usize];
        let user = User {
            seat,
            turn,
            sent: 0,
            due: Arc::clone(&bells[turn]),
            destination: format!("/app/rooms/{}", room_name(seat.room)),
            receipt_after,
        };
        users.spawn(user.drive(connection, Arc::clone(run)));
    }
    let run = Arc::clone(run);
    spawn_blocking(move || pace(&run, &bells));
    users
}

/// Counts a user who did not end as it was told to.
pub(crate) fn note(
    cut_off: &mut BTreeMap<String, u64>,
    ended: Result<Result<(), ClientError>, JoinError>,
) {
    let reason = match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    *cut_off.entry(reason).or_default() += 1;
}

/// Compares every room's history with its ledger, each at one of the gateways.
async fn compare(
    args: &RoomsArgs,
    pass: &Pass,
    names: &[String],
    run: &Run,
    room_name: impl Fn(usize) -> String,
) -> History {
    let deadline = tokio::time::Instant::now() + args.settle;
    let mut readings = stream::iter((0..run.rooms()).map(|room| {
        let gateway = &args.gateways[room % args.gateways.len()];
        let name = room_name(room);
        let least = run.ledger(room).receipts();
        // Who is in a room may read it.
        let member = run.seats.iter().find(|seat| seat.room == room);
        let reader = member.map_or("", |seat| &names[seat.user as usize]);
        async move {
            (
                room,
                history::read(gateway, pass, reader, &name, least, deadline).await,
            )
        }
    }))
    .buffer_unordered(AT_ONCE);

    let mut found = History {
        rooms: 0,
        messages: 0,
        unread: BTreeMap::new(),
    };
    while let Some((room, history)) = readings.next().await {
        match history {
            Ok(all) => {
                found.rooms += 1;
                found.messages += all.len() as u64;
                run.ledger(room).stored(all.iter().map(|stored| {
                    let origin = run.origin(Some(&stored.sender), stored.body.as_bytes());
                    let message = origin.filter(|(seat, _)| seat.room == room);
                    (
                        stored.id,
                        message.map(|(seat, stamp)| (seat.member, stamp.seq as usize)),
                    )
                }));
            }
            Err(error) => *found.unread.entry(error.to_string()).or_default() += 1,
        }
    }
    found
}

fn report(
    load: Load,
    run: &Run,
    cut_off: BTreeMap<String, u64>,
    history: Option<History>,
    watch: Watch,
) -> Report {
    let (processes, own, kernel) = watch.close(run.delivered_count());
    let mut faults = Faults::default();
    for room in 0..run.rooms() {
        faults += run.ledger(room).close();
    }
    let latencies = run.all_latencies();
    // The last message takes its share of the time too.
    let share = 1.0 / run.schedule.rate;
    let per_second = |count: u64, time: Duration| count as f64 / (time.as_secs_f64() + share);
    let mut report = Report {
        sent: run.sent_count(),
        sent_per_second: per_second(run.sent_count(), run.sending()),
        delivered: run.delivered_count(),
        delivered_per_second: per_second(run.delivered_count(), run.delivering()),
        send_to_receive_us: Latency::of(&latencies.receive),
        send_to_receipt_us: Latency::of(&latencies.receipt),
        generator: Generator {
            late_sends: latencies.lag.len() - latencies.lag.count_between(0, LATE),
            lag_us: Latency::of(&latencies.lag),
            usage: own,
            bottleneck: None,
        },
        faults,
        cut_off,
        history,
        processes,
        kernel: Some(kernel),
        ..Report::new("rooms", load)
    };
    report.judge();
    report
}
