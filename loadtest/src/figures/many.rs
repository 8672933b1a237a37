//! Idle connections beyond what one process can hold.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Mongo, Redis};
use rlimit::Resource;
use tokio::time::{Instant, sleep};

use super::crowd::{Crowd, REST, held, resident, used};
use super::sheet::{Bound, Cell, Sheet, Table, plain};
use super::stage::{Broken, Stage};
use super::system::{SERVER, System};
use crate::process;
use crate::report::Machine;

pub(crate) const ABOUT: &str = "150,000 idle connections over eight gateways (with --quick 10,000 over two), \
    with heart-beats of 10 s both ways, each a member of a 1:1 room; a generator for each gateway, with a \
    source address of its own, on the same machine. They come as fast as they can, are held for 25 s, and \
    leave together.";

/// Connections of one gateway and one generator: a process may open 20,000 descriptors by default.
const EACH: u32 = 18_750;
const QUICK_EACH: u32 = 5000;

/// Gateways.
const GATEWAYS: u32 = 8;
const QUICK_GATEWAYS: u32 = 2;

/// Connections that are wanted.
const WANTED: f64 = 150_000.0;

/// How long they may take to come, or to leave.
const COMING: Duration = Duration::from_secs(180);

/// How often either side shows that it lives.
const HEARTBEAT: &str = "10s";

/// How long it is looked what they cost: each side shows twice that it lives.
const LOOKED: u64 = 25;

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where something could not be run.
pub(crate) async fn many(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let (gateways, each_has) = match stage.quick {
        true => (QUICK_GATEWAYS, QUICK_EACH),
        false => (GATEWAYS, EACH),
    };
    let count = f64::from(gateways * each_has);
    let (redis, mongo) = tokio::join!(Redis::start(), Mongo::start());
    let mut systems = Vec::new();
    for _ in 0..gateways {
        systems.push(System::gateways(stage, &redis, &mongo, 1).await);
    }
    let servers = systems.iter().flat_map(|system| system.pids(SERVER));
    let servers = servers.collect::<Vec<_>>();
    let backends = redis.pid().into_iter().chain(mongo.pid());
    let backends = backends.collect::<Vec<_>>();
    let (empty, descriptors, kernel_before) =
        (resident(&servers), held(&servers), process::kernel());
    let began = Instant::now();
    let mut crowds = Vec::new();
    for (number, system) in (2..).zip(&systems) {
        let source = format!("127.0.0.{number}");
        let more = ["--heartbeat", HEARTBEAT, "--source", &source];
        crowds.push(Crowd::gather(stage, system, each_has, &more));
    }
    for (there, crowd) in (1..).zip(&mut crowds) {
        crowd.arrived(stage, COMING).await?;
        stage.say(format_args!(
            "many: {there} of {gateways} gateways have {each_has} each"
        ));
    }
    let came = began.elapsed().as_secs_f64();
    sleep(REST).await;
    let generators = crowds.iter().map(Crowd::pid).collect::<Vec<_>>();
    let all = [&servers, &generators, &backends];
    let (start, looked) = (all.map(|pids| used(pids)), Instant::now());
    sleep(stage.time(LOOKED)).await;
    let (end, looked) = (all.map(|pids| used(pids)), looked.elapsed().as_secs_f64());
    let cores = [0, 1, 2].map(|at| (end[at] - start[at]) / looked);
    let kernel = process::kernel();
    let [memory, generating] = [resident(&servers) - empty, resident(&generators)];
    let held = held(&servers).saturating_sub(descriptors) as f64;
    let slab = kernel.slab_bytes.saturating_sub(kernel_before.slab_bytes) as f64;
    let buffers = kernel.tcp_buffers_bytes;
    let buffers = buffers.saturating_sub(kernel_before.tcp_buffers_bytes) as f64;
    let leaving = crowds.into_iter().zip(&systems).map(|(crowd, system)| {
        let pids = system.pids(SERVER);
        async move { crowd.leave(stage, &pids, 1000, COMING).await }
    });
    let mut whole = 0.0;
    for (number, left) in (1..).zip(join_all(leaving).await) {
        let report = left?;
        sheet.wrong(&format!("gateway {number}"), "idle connections", &report);
        let kept = report.series.iter().map(|interval| interval.connections);
        whole += kept.min().unwrap_or_default() as f64;
    }
    let kept = held.min(whole);
    let mut table = Table::new(
        "What they take; the kernel's share is of both ends, which are on this machine:",
        &["what", "in all", "for each connection"],
    );
    let (mib, kib) = (f64::from(1 << 20), 1024.0);
    let memories = |what: &str, octets: f64| {
        let what = format!("{what}, MiB; KiB");
        (what, octets / mib, Some(octets / count / kib))
    };
    let loads = |what: &str, cores: f64| {
        let what = format!("{what}, cores; µs a second");
        (what, cores, Some(cores * 1e6 / count))
    };
    let alone = |what: &str, value: f64| (what.to_owned(), value, None);
    let rows = [
        alone("connections, all the time", kept),
        alone("TCP sockets, both ends", kernel.tcp_sockets as f64),
        alone("seconds until all were subscribed", came),
        alone("of them a second", count / came),
        memories("gateways' memory", memory),
        memories("generators' memory", generating),
        memories("kernel's slabs", slab),
        memories("kernel's TCP buffers", buffers),
        loads("gateways' CPU", cores[0]),
        loads("generators' CPU", cores[1]),
        loads("Redis' and mongod's CPU", cores[2]),
    ];
    for (what, all, each) in rows {
        let each = each.map_or(Cell::Nothing(()), Cell::from);
        table.row([Cell::from(what), all.into(), each]);
    }
    sheet.tables.push(table);
    if !stage.quick {
        let what = "connections at a time, subscribed and none cut off";
        sheet.target(what, Bound::AtLeast(WANTED), Some(kept));
    }
    let limit = rlimit::getrlimit(Resource::NOFILE).map_or(0, |(_, most)| most);
    let machine = Machine::here();
    let room = machine.memory_bytes as f64 / ((memory + generating + slab + buffers) / count);
    let beats = machine.cores as f64 / cores.iter().sum::<f64>() * count;
    let next = match room < beats {
        true => "memory bounds the next step",
        false => "the cores bound the next step",
    };
    sheet.note(format!(
        "A process may open {} descriptors here, which bounds one gateway: more connections need more of \
         them. The machine's memory would hold {} such connections, both ends and their generators, and \
         heart-beats would fill its cores at {}: {next}.",
        plain(limit as f64),
        plain((room / 1e3).round() * 1e3),
        plain((beats / 1e3).round() * 1e3),
    ));
    Ok(())
}
