//! Idle connections beyond what one process can hold.

use std::time::Duration;

use harness::{Mongo, Redis};
use tokio::time::sleep;

use super::crowd::{Crowd, held, resident, used};
use super::sheet::{Bound, Cell, Sheet, Table, plain};
use super::stage::{Broken, Stage};
use super::system::{SERVER, System};
use crate::process;
use crate::report::Machine;

pub(crate) const ABOUT: &str = "Idle connections over several gateways, with heart-beats of 10 s both ways, \
    each a member of a 1:1 room; a generator for each gateway, with a source address of its own, on the \
    same machine.";

/// Connections of one gateway and one generator: a process may open 20,000 descriptors by default.
const EACH: u32 = 18_750;

/// Gateways.
const GATEWAYS: u32 = 8;

/// Connections that are wanted.
const WANTED: f64 = 150_000.0;

/// How long they may take to come.
const COMING: Duration = Duration::from_secs(180);

/// How often either side shows that it lives.
const HEARTBEAT: &str = "10s";

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where something could not be run.
pub(crate) async fn many(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let (gateways, each_has) = if stage.quick {
        (2, 5000)
    } else {
        (GATEWAYS, EACH)
    };
    let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
    let kernel_before = process::kernel();
    let mut systems = Vec::new();
    let mut crowds = Vec::new();
    for _ in 0..gateways {
        systems.push(System::gateways(stage, &redis, &mongo, 1).await);
    }
    let pids: Vec<u32> = systems
        .iter()
        .flat_map(|system| system.pids(SERVER))
        .collect();
    let before = resident(&pids);
    let each = systems.iter().map(|system| held(&system.pids(SERVER)));
    let each = each.collect::<Vec<_>>();
    let began = tokio::time::Instant::now();
    for (number, system) in (2..).zip(&systems) {
        let more = [
            "--heartbeat",
            HEARTBEAT,
            "--source",
            &format!("127.0.0.{number}"),
        ];
        let more = more.map(str::to_owned);
        crowds.push(Crowd::gather(stage, system, each_has, &more));
    }
    for (number, crowd) in crowds.iter_mut().enumerate() {
        let own = systems[number].pids(SERVER);
        let there = each[number] + u64::from(each_has);
        crowd.arrived(stage, &own, there, COMING).await?;
        let count = (number as u32 + 1) * each_has;
        stage.say(format_args!("many: {count} connections"));
    }
    let came = began.elapsed().as_secs_f64();
    let generators: Vec<u32> = crowds.iter().map(Crowd::pid).collect();
    let looked = stage.time(20);
    let start = [
        used(&pids),
        used(&generators),
        used(&others(&redis, &mongo)),
    ];
    sleep(looked).await;
    let end = [
        used(&pids),
        used(&generators),
        used(&others(&redis, &mongo)),
    ];
    let cores = [0, 1, 2].map(|at| (end[at] - start[at]) / looked.as_secs_f64());
    let count = f64::from(gateways * each_has);
    let kernel = process::kernel();
    let memory = resident(&pids) - before;
    let slab = kernel.slab_bytes.saturating_sub(kernel_before.slab_bytes) as f64;
    let buffers = kernel
        .tcp_buffers_bytes
        .saturating_sub(kernel_before.tcp_buffers_bytes) as f64;
    let mut table = Table::new(
        "What they take; the kernel's share is of both ends, which are on this machine:",
        &["what", "in all", "for each connection"],
    );
    let mib = f64::from(1 << 20);
    let rows = [
        ("connections", count, None),
        ("TCP sockets, both ends", kernel.tcp_sockets as f64, None),
        ("seconds until all were subscribed", came, None),
        (
            "gateways' memory, MiB; KiB",
            memory / mib,
            Some(memory / count / 1024.0),
        ),
        (
            "kernel's slabs, MiB; KiB",
            slab / mib,
            Some(slab / count / 1024.0),
        ),
        (
            "kernel's TCP buffers, MiB; KiB",
            buffers / mib,
            Some(buffers / count / 1024.0),
        ),
        (
            "gateways' CPU, cores; µs a second",
            cores[0],
            Some(cores[0] * 1e6 / count),
        ),
        ("Redis' and mongod's CPU, cores", cores[2], None),
        ("generators' CPU, cores", cores[1], None),
    ];
    for (what, all, each) in rows {
        let each = each.map_or(Cell::Nothing(()), Cell::from);
        table.row([Cell::from(what), all.into(), each]);
    }
    sheet.tables.push(table);
    if !stage.quick {
        sheet.target(
            "idle connections at a time",
            Bound::AtLeast(WANTED),
            Some(count),
        );
    }
    let machine = Machine::here();
    let taken = memory + resident(&generators) + slab + buffers;
    let room = machine.memory_bytes as f64 / (taken / count);
    let beats = machine.cores as f64 / (cores[0] + cores[1]) * count;
    sheet.note(format!(
        "A process here may open 20,000 descriptors, so that more connections need more gateways. By memory \
         {} would fit on this machine, generators and kernel included, and by heart-beats its cores would \
         be full at {}: the lesser bounds the next step.",
        plain((room / 1e3).round() * 1e3),
        plain((beats / 1e3).round() * 1e3),
    ));
    for (crowd, system) in crowds.into_iter().zip(&systems) {
        crowd
            .leave(stage, &system.pids(SERVER), 1000, COMING)
            .await?;
    }
    Ok(())
}

fn others(redis: &Redis, mongo: &Mongo) -> Vec<u32> {
    redis.pid().into_iter().chain(mongo.pid()).collect()
}
