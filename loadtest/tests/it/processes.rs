//! A run over two gateways on a real Redis and a real MongoDB.

use harness::{Mongo, Process, Redis};

#[tokio::test]
async fn two_gateways_and_a_persister_give_a_clean_run() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let store = mongo.url(&Mongo::database());
    let broker = redis.url();
    let common = [
        "--broker",
        &broker,
        "--store",
        &store,
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let gateway = || Process::spawn("gateway", common.iter().chain(&["--listen", "127.0.0.1:0"]));
    let gateways = [gateway(), gateway()];
    let _persister = Process::spawn("persister", common);

    let mut flags = [
        "rooms",
        "--users",
        "60",
        "--room-size",
        "7",
        "--rate",
        "300",
    ]
    .into_iter()
    .chain([
        "--duration",
        "2s",
        "--receipt-after",
        "stored",
        "--history-check",
    ])
    .map(str::to_owned)
    .collect::<Vec<_>>();
    for gateway in &gateways {
        flags.extend([
            "--gateway".to_owned(),
            format!("ws://{}/ws", gateway.ready().await),
        ]);
        flags.extend(["--pid".to_owned(), format!("gateway={}", gateway.pid())]);
    }
    let mut loadtest = Process::spawn("loadtest", &flags);
    let status = loadtest.wait().await;
    assert!(status.success(), "{}", loadtest.output());
}
