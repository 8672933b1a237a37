//! `loadtest insert`: the least that storing messages can cost, to compare the persister with.

use std::collections::VecDeque;
use std::time::Instant;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, RawDocumentBuf, cstr, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use serde::{Deserialize, Serialize};
use shared::exit::Failure;
use shared::message::{MessageId, Stamp};
use tokio::task::JoinSet;

use crate::config::InsertArgs;
use crate::process;

/// What a loop has done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Inserted {
    /// Documents.
    pub documents: usize,
    /// From the first batch to the answer to the last.
    pub seconds: f64,
    /// CPU time of this process meanwhile.
    pub cpu_seconds: f64,
}

/// Writes documents as a persister would, and prints how long it took, in a line of JSON.
///
/// # Errors
/// [`Failure`] where the server does not take them.
pub(crate) async fn insert(args: &InsertArgs) -> Result<(), Failure> {
    let failed = |error: mongodb::error::Error| Failure::Unavailable(format!("--store: {error}"));
    let client = Client::with_uri_str(&args.store).await.map_err(failed)?;
    let database = client
        .default_database()
        .ok_or_else(|| Failure::Config("--store: the name of a database is missing".into()))?;
    let messages: Collection<RawDocumentBuf> = database.collection("messages");
    let by_room = IndexModel::builder()
        .keys(doc! { "room": 1, "_id": 1 })
        .build();
    messages.create_index(by_room).await.map_err(failed)?;
    // Made before the clock runs: the loop is to do nothing but write.
    let all = (0..args.documents).map(document).collect::<Vec<_>>();
    let mut batches = all
        .chunks(args.batch)
        .map(<[RawDocumentBuf]>::to_vec)
        .collect::<VecDeque<_>>();
    drop(all);
    let own = std::process::id();
    let used = || process::cpu(own).unwrap_or_default();
    let (began, before) = (Instant::now(), used());
    let mut writers = JoinSet::new();
    loop {
        while writers.len() < args.writers
            && let Some(batch) = batches.pop_front()
        {
            let messages = messages.clone();
            writers.spawn(async move {
                let concern = WriteConcern::builder()
                    .w(Acknowledgment::Majority)
                    .journal(true)
                    .build();
                let written = messages.insert_many(&batch).ordered(false);
                written.write_concern(concern).await.map(drop)
            });
        }
        match writers.join_next().await {
            Some(Ok(written)) => written.map_err(failed)?,
            Some(Err(error)) => return Err(Failure::Other(error.to_string())),
            None => break,
        }
    }
    let inserted = Inserted {
        documents: args.documents,
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: (used() - before).as_secs_f64(),
    };
    let line = serde_json::to_string(&inserted).expect("numbers are JSON");
    println!("{line}");
    Ok(())
}

/// What such a process printed, if it is that.
pub(crate) fn parse(line: &str) -> Option<Inserted> {
    serde_json::from_str(line).ok()
}

/// A document as the store keeps a message of a load, with a body of 128 octets.
fn document(number: usize) -> RawDocumentBuf {
    let stamp = Stamp {
        ms: 1_800_000_000_000 + number as u64 / 10,
        seq: number as u64 % 10,
    };
    let id = MessageId::new(stamp, (number % 16) as u16).uuid();
    let mut document = RawDocumentBuf::new();
    document.append(
        cstr!("_id"),
        Binary {
            subtype: BinarySubtype::Uuid,
            bytes: id.as_bytes().to_vec(),
        },
    );
    document.append(cstr!("room"), format!("load-00000000-r{}", number % 250));
    document.append(cstr!("createdAt"), DateTime::from_millis(stamp.ms as i64));
    document.append(cstr!("sender"), format!("load-00000000-u{}", number % 500));
    document.append(cstr!("contentType"), "text/plain");
    document.append(cstr!("body"), format!("{number:0128}"));
    document.append(cstr!("idempotencyKey"), (number / 500).to_string());
    document
}
