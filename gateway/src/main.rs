//! `gateway`: the tier that holds the clients. Any number of them share one Redis and one MongoDB.

use std::sync::Arc;

use clap::Parser;
use gateway::Parts;
use gateway::config::{GatewayArgs, Settings};
use gateway::entrance::Entrance;
use gateway::server::Pages;
use shared::admin::{Admin, Readiness};
use shared::broker::Earlier;
use shared::config::CommonArgs;
use shared::exit::{self, Failure};
use shared::metrics::Metrics;
use shared::{broker, listen, shutdown, store, telemetry};
use tikv_jemallocator::Jemalloc;

/// It gives back what clients took that have gone. The system's own keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Serves chat clients: STOMP over WebSocket and SockJS; messages and history over HTTP.
///
/// Run as many as you need behind a load balancer; they share one Redis and one MongoDB, and hold
/// no message of their own. Start at least one `persister` beside them, which writes what they accept.
#[derive(Parser)]
#[command(name = "gateway", version, max_term_width = 100, after_help = EXAMPLE)]
struct Args {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLE: &str = "Example:
  gateway --broker redis://127.0.0.1:6379 --store mongodb://127.0.0.1:27017/roomcast

Exit codes: 64 a flag or a backend's set-up is wrong, 69 a backend could not be reached or an
address is in use.";

fn main() {
    let args: Args = exit::parse_or_exit();
    telemetry::init(args.common.log_format);
    let threads = args.gateway.threads.unwrap_or(1);
    exit::run_on(Some(threads), serve(args))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let mut settings =
        Settings::from_args(&args.gateway).map_err(|e| Failure::Config(e.to_string()))?;
    settings.auth.connect_timeout = args.common.connect_timeout;
    let broker_settings = args.common.broker_settings(None)?;
    let store_settings = args.common.store_settings(None)?;
    let stop = shutdown::signal();
    let metrics = Metrics::new();
    let readiness = Readiness::new();
    let serving = readiness.latch("serving");
    let listener = listen::bind("--listen", settings.listen).await?;
    let admin = Admin::start(
        args.common.admin_address(9100),
        metrics.clone(),
        readiness.clone(),
    )
    .await?;
    let opened = async {
        let store = store::open(&store_settings).await?;
        let broker = broker::open(&broker_settings, &metrics, Earlier::default()).await?;
        let entrance = Entrance::open(&settings, Arc::clone(&store), &metrics).await?;
        Ok::<_, Failure>((broker, store, entrance))
    };
    let (broker, store, entrance) = tokio::select! {
        opened = opened => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let parts = Parts {
        name: "gateway",
        listener,
        settings,
        entrance,
        broker,
        store,
        pages: Pages::default(),
        metrics,
        readiness,
        serving,
        drain_timeout: args.common.drain_timeout,
        without: args.common.without(),
    };
    gateway::run(parts, stop).await?;
    admin.stop().await;
    Ok(())
}
