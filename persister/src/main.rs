//! The binary `persister`.

use std::time::Duration;

use persister::config::Args;
use shared::admin::{Admin, Readiness};
use shared::exit::{self, Failure};
use shared::metrics::Metrics;
use shared::{broker, shutdown, store, telemetry};
use tikv_jemallocator::Jemalloc;

/// It gives back what a large backlog took. The system's own keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long a batch waits: receipts on other machines are later by more than this anyway.
const LINGER: Duration = Duration::from_millis(10);

/// The port of the admin pages where the flag is not given.
const ADMIN_PORT: u16 = 9101;

// What it does by itself is little: with one thread no other has to be woken.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Args = exit::parse_or_exit();
    exit::run(serve(args)).await
}

async fn serve(args: Args) -> Result<(), Failure> {
    let broker_settings = args.common.broker_settings(None)?;
    let mut store_settings = args.common.store_settings(None)?;
    store_settings.retention = args.persister.retention;
    telemetry::init(args.common.log_format);

    let stop = shutdown::signal();
    let metrics = Metrics::new();
    let readiness = Readiness::new();
    let ready = readiness.latch("persister");
    let admin = Admin::start(
        args.common.admin_address(ADMIN_PORT),
        metrics.clone(),
        readiness,
    )
    .await?;

    let opened = async {
        let store = store::open(&store_settings).await?;
        let broker = broker::open(&broker_settings, &metrics, broker::Earlier::default()).await?;
        Ok::<_, Failure>((broker, store))
    };
    let opened = tokio::select! {
        opened = opened => Some(opened?),
        () = stop.cancelled() => None,
    };
    if let Some((broker, store)) = opened {
        let (from, to) = (broker_settings.url, store_settings.url);
        tracing::info!(broker = %from, store = %to, "persister is ready");
        let settings = args.persister.settings(&args.common, LINGER);
        persister::run(broker, store, settings, metrics, ready, stop).await?;
    }
    admin.stop().await;
    Ok(())
}
