//! What connections cost in memory, and what is left of it when they have gone.

use std::fs;

use harness::{Process, StompClient};

use crate::fixture::{client, start};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Fewer than the descriptors that a test may have where nobody has raised that.
const MANY: u64 = 500;

/// The resident memory of a server in octets (proc(5)).
fn resident(server: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() * KIB
}

/// Users who have one subscription each, so many to a room.
async fn crowd(server: &Process, count: u64, size: u64) -> Vec<StompClient> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut one = client(server, "kim").await;
        let room = format!("/topic/rooms/{}", number / size);
        one.subscribe("s", &room, &[]).await.unwrap();
        all.push(one);
    }
    all
}

/// What a server has that has served some, when they have gone.
async fn used(server: &Process) -> u64 {
    drop(crowd(server, 50, 10).await);
    let mut least = u64::MAX;
    harness::until("its memory to fall no more", async || {
        let before = least;
        least = before.min(resident(server));
        before == least
    })
    .await;
    least
}

#[tokio::test]
async fn an_idle_connection_costs_a_few_kib() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]).await;
    let before = used(&server).await;
    let _all = crowd(&server, MANY, 10).await;
    let most = 11 * KIB;
    harness::until("connections to cost no more than that", async || {
        resident(&server).saturating_sub(before) / MANY <= most
    })
    .await;
}

#[tokio::test]
async fn what_a_large_message_took_is_given_back_while_its_connection_stays() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]).await;
    let mut all = crowd(&server, MANY, 1).await;
    let before = resident(&server);
    let large = "x".repeat(60 << 10);
    for (number, one) in all.iter_mut().enumerate() {
        // It comes, goes to its sender, and is kept nowhere.
        let room = format!("/app/rooms/{number}");
        one.send(&room, large.clone(), &[("ephemeral", "true")])
            .await
            .unwrap();
        assert_eq!(one.message().await.unwrap().body.len(), large.len());
    }
    harness::until("the memory to be given back", async || {
        resident(&server).saturating_sub(before) / MANY <= 6 * KIB
    })
    .await;
}

#[tokio::test]
async fn what_connections_took_is_given_back_in_each_of_ten_cycles() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]).await;
    let before = used(&server).await;
    for cycle in 0..10 {
        let all = crowd(&server, MANY, 10).await;
        drop(all);
        harness::until(&format!("cycle {cycle} to leave little"), async || {
            resident(&server) <= before + 4 * MIB
        })
        .await;
    }
}
