//! `roomcast`: a whole system in one process, on the in-process broker and SQLite unless told
//! otherwise, with a chat page.

mod lock;
mod page;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use gateway::Parts;
use gateway::config::{GatewayArgs, Settings};
use gateway::entrance::Entrance;
use persister::config::PersisterArgs;
use shared::admin::{Admin, Readiness};
use shared::broker::Earlier;
use shared::config::{BrokerUrl, CommonArgs, StoreUrl};
use shared::exit::{self, Failure};
use shared::metrics::Metrics;
use shared::{broker, listen, shutdown, store, telemetry};
use tikv_jemallocator::Jemalloc;
use tokio_util::sync::CancellationToken;

/// It gives back what clients took that have gone. The system's own keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Chat in one process: serves clients (STOMP over WebSocket and SockJS, HTTP), stores what they
/// say, and has a chat page at `/`.
///
/// Needs nothing else: messages are carried inside the process and kept in a file of `--data-dir`.
/// To scale, run `gateway` and `persister` on a Redis and a MongoDB instead; clients see no
/// difference.
#[derive(Parser)]
#[command(name = "roomcast", version, max_term_width = 100, after_help = EXAMPLE)]
struct Args {
    /// Folder for the messages; it is made where it is missing.
    #[arg(long, env = "ROOMCAST_DATA_DIR", value_name = "FOLDER")]
    #[arg(default_value = "./roomcast-data", help_heading = "Store")]
    data_dir: PathBuf,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    persister: PersisterArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// How long a batch waits: everyone in a room waits for it, and one disk is quick to answer.
const LINGER: Duration = Duration::from_millis(2);

const EXAMPLE: &str = "Example:
  roomcast --listen 0.0.0.0:8080 --data-dir /var/lib/roomcast

Exit codes: 64 a flag or a backend's set-up is wrong, 69 a backend could not be reached or an
address is in use.";

fn main() {
    let args: Args = exit::parse_or_exit();
    telemetry::init(args.common.log_format);
    exit::run_on(args.gateway.threads, serve(args))
}

async fn serve(args: Args) -> Result<(), Failure> {
    let mut settings =
        Settings::from_args(&args.gateway).map_err(|e| Failure::Config(e.to_string()))?;
    settings.auth.connect_timeout = args.common.connect_timeout;
    let broker_settings = args.common.broker_settings(Some(BrokerUrl::Memory))?;
    let file = args.data_dir.join("messages.db");
    let mut store_settings = args.common.store_settings(Some(StoreUrl::Sqlite(file)))?;
    store_settings.retention = args.persister.retention;
    let _claim = match (&broker_settings.url, &store_settings.url) {
        (BrokerUrl::Memory, StoreUrl::Sqlite(file)) => Some(lock::claim(file)?),
        _ => None,
    };
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
        // Redis knows for itself what it has accepted.
        let earlier = match broker_settings.url {
            BrokerUrl::Memory => Earlier::read(&*store).await?,
            BrokerUrl::Redis(_) => Earlier::default(),
        };
        let broker = broker::open(&broker_settings, &metrics, earlier).await?;
        let entrance = Entrance::open(&settings, Arc::clone(&store), &metrics).await?;
        Ok::<_, Failure>((broker, store, entrance))
    };
    let (broker, store, entrance) = tokio::select! {
        opened = opened => opened?,
        () = stop.cancelled() => return Ok(()),
    };

    // The persister outlasts the gateway: receipts of clients that leave wait for the store.
    let persister_stop = CancellationToken::new();
    let mut persister = tokio::spawn(persister::run(
        Arc::clone(&broker),
        Arc::clone(&store),
        args.persister.settings(&args.common, LINGER),
        metrics.clone(),
        readiness.latch("persister"),
        persister_stop.clone(),
    ));
    let parts = Parts {
        name: "roomcast",
        listener,
        settings,
        entrance,
        broker,
        store,
        pages: page::pages(),
        metrics,
        readiness,
        serving,
        drain_timeout: args.common.drain_timeout,
        without: args.common.without(),
    };
    let mut serving = pin!(gateway::run(parts, stop.clone()));
    let (served, stored) = tokio::select! {
        served = &mut serving => {
            persister_stop.cancel();
            (served, persister.await)
        }
        stored = &mut persister => {
            tracing::error!("nothing is stored any more: the server ends");
            stop.cancel();
            (serving.await, stored)
        }
    };
    admin.stop().await;
    served?;
    stored.map_err(|error| Failure::Other(error.to_string()))??;
    Ok(())
}
