//! `--refusals message`.

use serde_json::{Value, json};
use shared::stomp::{Command, Frame};

use super::Site;
use crate::running::backend;

async fn site() -> Site {
    Site::new(backend(&[]).await, &["--refusals", "message"]).await
}

#[tokio::test]
async fn a_front_end_survives_a_refusal_and_is_told_of_it() {
    let site = site().await;
    let _storing = site.backend.storing().await;
    let claims = json!({"sub": "kim", "rooms": {"lobby": "rw"}});
    let mut kim = site.client(claims.clone()).await;
    let mut twin = site.client(claims).await;
    for client in [&mut kim, &mut twin] {
        client
            .subscribe("e", "/user/queue/errors", &[])
            .await
            .unwrap();
    }
    let frame = Frame::new(Command::Send)
        .with("destination", "/app/rooms/secret")
        .with("receipt", "r1")
        .with_body("no");
    kim.send_frame(frame).await.unwrap();
    let frame = Frame::new(Command::Subscribe)
        .with("destination", "/topic/rooms/secret")
        .with("id", "s");
    kim.send_frame(frame).await.unwrap();
    for (receipt, destination) in [
        (Some("r1"), "/app/rooms/secret"),
        (None, "/topic/rooms/secret"),
    ] {
        let told = kim.message().await.unwrap();
        assert_eq!(told.header("receipt-id"), receipt);
        assert_eq!(told.header("subscription"), Some("e"));
        assert_eq!(told.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&told.body).unwrap();
        let message = "This is not allowed.";
        assert_eq!(
            body,
            json!({"code": "forbidden", "message": message, "destination": destination})
        );
    }
    // It goes on; and its twin, whose refusal it was not, has heard nothing.
    for client in [&mut kim, &mut twin] {
        client
            .subscribe("l", "/topic/rooms/lobby", &[])
            .await
            .unwrap();
    }
    kim.send("/app/rooms/lobby", "hi", &[]).await.unwrap();
    for client in [&mut kim, &mut twin] {
        assert_eq!(client.message().await.unwrap().body, "hi");
    }
}

#[tokio::test]
async fn nobody_can_write_into_the_errors_of_another() {
    let site = site().await;
    let _storing = site.backend.storing().await;
    let mut lee = site.client(json!({"sub": "lee"})).await;
    lee.subscribe("e", "/user/queue/errors", &[]).await.unwrap();
    let mut kim = site
        .client(json!({"sub": "kim", "rooms": {"*": "rw"}}))
        .await;
    kim.subscribe("e", "/user/queue/errors", &[]).await.unwrap();
    for destination in ["/user/lee/queue/errors", "/user/kim/queue/errors"] {
        kim.send(destination, "forged", &[]).await.unwrap();
        let told = kim.message().await.unwrap();
        assert_ne!(told.body, "forged");
    }
    let mut own = site.client(json!({"sub": "lee"})).await;
    own.subscribe("e", "/user/queue/errors", &[("history", "10")])
        .await
        .unwrap();
    for client in [&mut lee, &mut own] {
        client.send("/app/rooms/x", "mine", &[]).await.unwrap();
        let body: Value = serde_json::from_slice(&client.message().await.unwrap().body).unwrap();
        assert_eq!(body["destination"], "/app/rooms/x");
    }
}
