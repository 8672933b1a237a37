//! What an idle connection keeps in memory, and what is given back.

use std::time::Duration;

use harness::{Authority, Mongo, Redis};
use tokio::time::{Instant, sleep};

use super::crowd::{Crowd, REST, held, resident, used};
use super::sheet::{Bound, Cell, Plot, Sheet, Spread, Table, plain};
use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::process;
use crate::report::{Report, Unit};

pub(crate) const ABOUT: &str = "Resident memory of a server for each of 2,000, 8,000 and 19,000 idle \
    connections (with --quick 2,000), each a member of a 1:1 room, through the real accept path; the same of \
    19,000 with heart-beats of 10 s on one roomcast with its defaults, with the CPU and the kernel memory that \
    they take; and of one gateway after each of ten cycles (with --quick four) in which 5,000 (1,000) connect \
    and leave and 500 send each other messages of 60,000 octets. Each figure is of a process that was started \
    for it.";

const KIB: f64 = 1024.0;

/// How long a crowd may take to come, or to be gone.
const COMING: Duration = Duration::from_secs(90);

/// Connections of one `roomcast`: it may have 20,000 descriptors here.
const HELD: u32 = 19_000;
const QUICK_HELD: u32 = 2000;

/// How long it is looked what their heart-beats cost.
const LOOKED: u64 = 25;

/// Cycles of coming and going.
const CYCLES: usize = 10;
const QUICK_CYCLES: usize = 4;

/// What a process keeps for a connection, in octets: while it is there and after everybody left.
struct Kept {
    each: f64,
    after: f64,
}

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where something could not be run.
pub(crate) async fn memory(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let counts: &[u32] = match stage.quick {
        true => &[2000],
        false => &[2000, 8000, 19_000],
    };
    let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
    let authority = Authority::new();
    let mut table = Table::new(
        "KiB for each connection; after, what of it the process still has when all have left:",
        &["server", "connections", "KiB each", "KiB each, after"],
    );
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    let names = ["floor", "gateway", "gateway, TLS", "RabbitMQ"];
    let mut outcome = Ok(());
    'all: for name in names {
        let mut points = Vec::new();
        for &count in counts {
            // 133 KiB each are more than 19,000 need to show.
            if name == "RabbitMQ" && count > 2000 {
                continue;
            }
            stage.say(format_args!("memory: {name}, {count} connections"));
            let seen = async {
                let system = match name {
                    "floor" => System::floor(stage).await,
                    "gateway" => System::gateways(stage, &redis, &mongo, 1).await,
                    "gateway, TLS" => System::tls(stage, &redis, &mongo, &authority).await,
                    _ => System::rabbitmq().await,
                };
                keep(stage, &system, count).await
            };
            match seen.await {
                Ok((Kept { each, after }, report)) => {
                    sheet.wrong(name, &format!("{count} idle connections"), &report);
                    points.push((f64::from(count), each));
                    table.row([
                        Cell::from(name),
                        f64::from(count).into(),
                        (each / KIB).into(),
                        (after / KIB).into(),
                    ]);
                }
                Err(broken) => {
                    outcome = Err(broken);
                    break 'all;
                }
            }
        }
        let most = points.iter().map(|(_, each)| each / KIB).reduce(f64::max);
        match name {
            "gateway" => sheet.target("KiB for an idle connection", Bound::AtMost(8.0), most),
            "gateway, TLS" => {
                sheet.target("KiB for an idle connection, TLS", Bound::AtMost(16.0), most);
            }
            _ => {}
        }
        // Beside it the others would be one line at the bottom.
        if name != "RabbitMQ" {
            lines.push((name.to_owned(), points));
        }
    }
    sheet.tables.push(table);
    sheet.plots.push(Plot {
        title: "Memory for each idle connection".into(),
        x: ("connections".into(), Unit::Count),
        y: ("memory".into(), Unit::Bytes),
        logarithmic: false,
        lines,
    });
    outcome?;
    hold(stage, sheet).await?;
    cycles(stage, sheet, &redis, &mongo).await
}

async fn keep(stage: &Stage, system: &System, count: u32) -> Result<(Kept, Report), Broken> {
    let pids = system.pids(SERVER);
    let (before, descriptors) = (resident(&pids), held(&pids));
    let mut crowd = Crowd::gather(stage, system, count, &[]);
    crowd.arrived(stage, COMING).await?;
    sleep(REST).await;
    let each = (resident(&pids) - before) / f64::from(count);
    let few = descriptors + 100;
    let report = crowd.leave(stage, &pids, few, COMING).await?;
    sleep(REST).await;
    let after = (resident(&pids) - before) / f64::from(count);
    Ok((Kept { each, after }, report))
}

/// Holds as many connections as one process can have, and looks what they cost while they show that they
/// live.
async fn hold(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let count = if stage.quick { QUICK_HELD } else { HELD };
    stage.say(format_args!(
        "memory: roomcast, {count} connections with heart-beats"
    ));
    let system = System::standalone(stage, &[]).await?;
    let pids = system.pids(SERVER);
    let (before, descriptors, kernel_before) = (resident(&pids), held(&pids), process::kernel());
    let mut crowd = Crowd::gather(stage, &system, count, &["--heartbeat", "10s"]);
    crowd.arrived(stage, COMING).await?;
    sleep(REST).await;
    let (start, looked) = (used(&pids), Instant::now());
    sleep(stage.time(LOOKED)).await;
    let cores = (used(&pids) - start) / looked.elapsed().as_secs_f64();
    let (there, kernel) = (resident(&pids), process::kernel());
    let slab = kernel.slab_bytes.saturating_sub(kernel_before.slab_bytes);
    let buffers = kernel.tcp_buffers_bytes;
    let buffers = buffers.saturating_sub(kernel_before.tcp_buffers_bytes);
    let report = crowd.leave(stage, &pids, descriptors + 100, COMING).await?;
    sleep(REST).await;
    let load = format!("{count} idle connections with heart-beats");
    sheet.wrong("roomcast", &load, &report);
    let mut table = Table::new(
        "One roomcast with heart-beats; the kernel's share is of both ends, which are on this machine:",
        &[
            "connections",
            "KiB each",
            "MiB before",
            "MiB with all",
            "MiB after",
            "CPU, cores",
            "kernel's slabs, MiB",
            "kernel's TCP buffers, MiB",
        ],
    );
    let each = (there - before) / f64::from(count) / KIB;
    let octets = [before, there, resident(&pids), slab as f64, buffers as f64];
    let [before, there, after, slab, buffers] = octets.map(|octets| octets / KIB / KIB);
    let row = [
        f64::from(count),
        each,
        before,
        there,
        after,
        cores,
        slab,
        buffers,
    ];
    table.row(row.map(Cell::from));
    sheet.tables.push(table);
    let what = format!(
        "KiB for each of {} on one roomcast",
        plain(f64::from(count))
    );
    sheet.target(what, Bound::AtMost(8.0), Some(each));
    Ok(())
}

/// Lets people come and go, and send each other large messages, again and again.
async fn cycles(
    stage: &Stage,
    sheet: &mut Sheet,
    redis: &Redis,
    mongo: &Mongo,
) -> Result<(), Broken> {
    let system = System::gateways(stage, redis, mongo, 1).await;
    // Without it the journal would grow, which is read for each room that somebody enters.
    let _persister = System::spawn_persister(stage, redis, mongo).await;
    let pids = system.pids(SERVER);
    let descriptors = held(&pids);
    let (count, cycles) = match stage.quick {
        true => (1000, QUICK_CYCLES),
        false => (5000, CYCLES),
    };
    let mut after = Vec::new();
    let mut outcome = Ok(());
    for cycle in 1..=cycles {
        stage.say(format_args!("memory: cycle {cycle} of {cycles}"));
        let one = async {
            let mut crowd = Crowd::gather(stage, &system, count, &[]);
            crowd.arrived(stage, COMING).await?;
            sleep(REST).await;
            let few = descriptors + 100;
            let came = crowd.leave(stage, &pids, few, COMING).await?;
            sleep(REST).await;
            let burst = Ask::rooms(500, 10, 100.0, Duration::from_secs(2));
            let burst = burst.with("--body-bytes", 60_000);
            Ok((came, stage.load(&system, &burst).await?))
        };
        match one.await {
            Ok((came, burst)) => {
                sheet.wrong("gateway", "coming and going", &came);
                sheet.wrong("gateway", "bursts of 60,000 octets", &burst);
            }
            Err(broken) => {
                outcome = Err(broken);
                break;
            }
        }
        after.push(resident(&pids));
    }
    let mut table = Table::new(
        "MiB of a gateway after each cycle:",
        &["first", "third", "last", "last / third"],
    );
    let at = |cycle: usize| after.get(cycle - 1).copied();
    let mib = |octets: Option<f64>| {
        Cell::from(octets.and_then(|octets| Spread::of([octets / KIB / KIB])))
    };
    let growth = at(cycles).zip(at(3)).map(|(last, third)| last / third);
    let share = growth.and_then(|growth| Spread::of([growth]));
    table.row([mib(at(1)), mib(at(3)), mib(at(cycles)), share.into()]);
    sheet.tables.push(table);
    sheet.target(
        "memory after the last cycle / after the third",
        Bound::AtMost(1.1),
        growth,
    );
    sheet.plots.push(Plot {
        title: "A gateway's memory after each cycle".into(),
        x: ("cycle".into(), Unit::Count),
        y: ("resident memory".into(), Unit::Bytes),
        logarithmic: false,
        lines: vec![(
            "gateway".into(),
            (1..).map(f64::from).zip(after.iter().copied()).collect(),
        )],
    });
    outcome
}
