//! The binary `persister`.

use std::process::ExitCode;

use persister::config::Args;
use shared::admin::{self, Readiness};
use shared::exit::{self, Failure};
use shared::metrics::Metrics;
use shared::{broker, shutdown, store, telemetry};
use tokio_util::sync::CancellationToken;

/// The port of the admin pages where the flag is not given.
const ADMIN_PORT: u16 = 9101;

#[tokio::main]
async fn main() -> ExitCode {
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
    let pages = admin::bind(args.common.admin_address(ADMIN_PORT)).await?;
    let served = CancellationToken::new();
    let pages = tokio::spawn(admin::serve(
        pages,
        metrics.clone(),
        readiness,
        served.clone(),
    ));

    let opened = async {
        let store = store::open(&store_settings).await?;
        let broker = broker::open(&broker_settings, &metrics, None).await?;
        Ok::<_, Failure>((broker, store))
    };
    let opened = tokio::select! {
        opened = opened => Some(opened?),
        () = stop.cancelled() => None,
    };
    if let Some((broker, store)) = opened {
        let (from, to) = (broker_settings.url, store_settings.url);
        tracing::info!(broker = %from, store = %to, "persister is ready");
        let settings = args.persister.settings(&args.common);
        persister::run(broker, store, settings, metrics, ready, stop).await?;
    }
    served.cancel();
    pages
        .await
        .map_err(|error| Failure::Other(error.to_string()))
}
