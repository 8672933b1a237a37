//! Figures out of reports, and out of what operators see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::sheet::Spread;
use crate::report::Report;

/// How long an operators' page may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A figure of each of these reports; of none where one of them has none.
pub(crate) fn spread(
    reports: &[Report],
    figure: impl Fn(&Report) -> Option<f64>,
) -> Option<Spread> {
    let all = reports.iter().map(figure).collect::<Option<Vec<_>>>()?;
    Spread::of(all)
}

/// Microseconds of CPU time for each delivery, of all processes of this name together.
pub(crate) fn cost(report: &Report, name: &str) -> Option<f64> {
    let named = report.processes.iter().filter(|usage| usage.name == name);
    let each = named.map(|usage| usage.us_per_delivery);
    let all = each.collect::<Option<Vec<_>>>()?;
    (!all.is_empty()).then(|| all.iter().sum())
}

/// Milliseconds that all but one in a hundred deliveries took at most.
pub(crate) fn p99(report: &Report) -> Option<f64> {
    let took = &report.send_to_receive_us;
    (took.count > 0).then(|| took.p99 as f64 / 1e3)
}

/// Milliseconds that all but one in a hundred receipts took at most.
pub(crate) fn receipt_p99(report: &Report) -> Option<f64> {
    let took = &report.send_to_receipt_us;
    (took.count > 0).then(|| took.p99 as f64 / 1e3)
}

/// The values of a process's metrics, those with labels summed up; none while it does not answer.
pub(crate) async fn metrics(admin: SocketAddr) -> BTreeMap<String, f64> {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: figures\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER, asked).await.ok().and_then(Result::ok);
    let mut values = BTreeMap::new();
    for line in answer.unwrap_or_default().lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = name.split('{').next().unwrap_or(name);
        if let (false, Ok(value)) = (line.starts_with('#'), value.parse::<f64>()) {
            *values.entry(name.to_owned()).or_default() += value;
        }
    }
    values
}

/// The greatest value of a metric among these processes, again and again until it is told to stop:
/// seconds since the beginning, and values.
pub(crate) async fn follow(
    admins: &[SocketAddr],
    name: &str,
    every: Duration,
    stop: CancellationToken,
) -> Vec<(f64, f64)> {
    let began = Instant::now();
    let mut seen = Vec::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return seen,
        }
        let mut values = Vec::new();
        for admin in admins {
            values.extend(metrics(*admin).await.get(name).copied());
        }
        if let Some(most) = values.into_iter().reduce(f64::max) {
            seen.push((began.elapsed().as_secs_f64(), most));
        }
    }
}
