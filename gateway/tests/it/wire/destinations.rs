//! Destinations: rooms by template, queues of users, what is refused.

use harness::Process;
use harness::Redis;

use crate::running::{Running, backend};
use crate::wire::Wire;

/// What a frame that names an impossible destination gets.
async fn refusal(gateway: &Running, frame: &str, detail: &str) {
    let mut wire = Wire::connected(gateway, "1.2").await;
    wire.send(&format!("{frame}\0")).await;
    let length = detail.len();
    wire.expect(&format!(
        "ERROR\nmessage:There is no such destination.\ncode:bad-destination\n\
         content-type:text/plain\nreceipt-id:q\ncontent-length:{length}\n\n{detail}\0"
    ))
    .await;
    wire.expect_close(1008).await;
}

#[tokio::test]
async fn a_subscribe_to_a_users_queue_means_ones_own_and_a_send_names_whose() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut kim = Wire::connected(&gateway, "1.2").await;
    let mut lee = Wire::connected_as(&gateway, "1.2", "lee").await;
    for (wire, id) in [(&mut kim, "k"), (&mut lee, "l")] {
        wire.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/user/queue/errors\nreceipt:1\n\n\0"
        ))
        .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    }
    for (name, body) in [("lee", "for lee"), ("kim", "for kim")] {
        kim.send(&format!(
            "SEND\ndestination:/user/{name}/queue/errors\n\n{body}\0"
        ))
        .await;
    }
    for (wire, id, body) in [(&mut kim, "k", "for kim"), (&mut lee, "l", "for lee")] {
        wire.expect(&format!(
            "MESSAGE\nsubscription:{id}\nmessage-id:*\ndestination:/user/queue/errors\n\
             sender:kim\ncreated-at:*\nephemeral:true\ncontent-length:7\n\n{body}\0"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_topic_of_a_user_is_a_queue_of_its_own() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut kim = Wire::connected(&gateway, "1.1").await;
    for id in ["queue", "topic"] {
        kim.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/user/{id}/x\n\n\0"
        ))
        .await;
    }
    for name in ["topic", "queue"] {
        kim.send(&format!("SEND\ndestination:/user/kim/{name}/x\n\n{name}\0"))
            .await;
    }
    for name in ["topic", "queue"] {
        kim.expect(&format!(
            "MESSAGE\nsubscription:{name}\nmessage-id:*\ndestination:/user/{name}/x\nsender:kim\n\
             created-at:*\nephemeral:true\ncontent-length:5\n\n{name}\0"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_slash_and_a_percent_sign_in_a_users_name_are_encoded() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (name, encoded) in [
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("50%", "50%25"),
        ("김 철수", "%EA%B9%80%20%EC%B2%A0%EC%88%98"),
        ("이/영희", "이%2f영희"),
    ] {
        let mut wire = Wire::connected_as(&gateway, "1.2", name).await;
        wire.send("SUBSCRIBE\nid:s\ndestination:/user/queue/x\n\n\0")
            .await;
        wire.send(&format!(
            "SEND\ndestination:/user/{encoded}/queue/x\n\nhi\0"
        ))
        .await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/user/queue/x\nsender:{name}\n\
             created-at:*\nephemeral:true\ncontent-length:2\n\nhi\0"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_queue_that_cannot_be_meant_is_refused_with_what_could() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (destination, detail) in [
        (
            "/user/queue/x",
            "a SEND names whose queue it means: /user/NAME/queue/… or /user/NAME/topic/…",
        ),
        (
            "/user/kim/x",
            "a SEND names whose queue it means: /user/NAME/queue/… or /user/NAME/topic/…",
        ),
        (
            "/user/50%/queue/x",
            "in a user's name / is %2F and % is %25, and what is encoded is UTF-8",
        ),
        (
            "/user//queue/x",
            "a user name is 1 to 128 octets without control characters",
        ),
        (
            "/user/kim/queue/a b",
            "a queue is queue/ or topic/ and 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ / -",
        ),
    ] {
        let frame = format!("SEND\ndestination:{destination}\nreceipt:q\n\nhi");
        refusal(&gateway, &frame, &format!("SEND: {detail}")).await;
    }
    let own = "a SUBSCRIBE names the user's own queue: /user/queue/… or /user/topic/…";
    for destination in ["/user/lee/queue/x", "/user/kim/queue/x", "/user/x"] {
        let frame = format!("SUBSCRIBE\nid:s\ndestination:{destination}\nreceipt:q\n\n");
        refusal(&gateway, &frame, &format!("SUBSCRIBE: {own}")).await;
    }
}

#[tokio::test]
async fn a_pattern_is_refused() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for pattern in [
        "/topic/**",
        "/topic/rooms/*",
        "/topic/rooms/{room}",
        "/topic/rooms/#",
        "/user/queue/*",
        "/user/**",
        "**",
    ] {
        let detail = "patterns are refused: a destination names one room, without * ? # { }";
        for (command, id) in [("SUBSCRIBE", "id:s\n"), ("SEND", "")] {
            let frame = format!("{command}\n{id}destination:{pattern}\nreceipt:q\n\n");
            refusal(&gateway, &frame, &format!("{command}: {detail}")).await;
        }
    }
}

#[tokio::test]
async fn nobody_reads_anothers_queue_as_a_room() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let detail = "a room name is 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ -";
    for name in ["user/lee/queue/x", "user%2Flee%2Fqueue%2Fx"] {
        let destination = format!("destination:/topic/rooms/{name}");
        let frame = format!("SUBSCRIBE\nid:s\n{destination}\nhistory:10\nreceipt:q\n\n");
        refusal(&gateway, &frame, &format!("SUBSCRIBE: {detail}")).await;
        let frame = format!("SEND\n{destination}\nreceipt:q\n\nhi");
        refusal(&gateway, &frame, &format!("SEND: {detail}")).await;
    }
}

#[tokio::test]
async fn an_unknown_destination_is_refused_with_those_that_there_are() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let detail = "SUBSCRIBE: the destination fits none of /topic/rooms/{room}, /user/queue/…";
    let frame = "SUBSCRIBE\nid:s\ndestination:/queue/x\nreceipt:q\n\n";
    refusal(&gateway, frame, detail).await;
    let detail = "SEND: the destination fits none of /app/rooms/{room}, /topic/rooms/{room}, \
                  /user/NAME/queue/…";
    let frame = "SEND\ndestination:/queue/x\nreceipt:q\n\nhi";
    refusal(&gateway, frame, detail).await;
}

#[tokio::test]
async fn a_front_end_keeps_its_paths() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let flags = [
        "--destination-subscribe=/sub/chat/room/{room}",
        "--destination-subscribe=/topic/{room}/messages,/topic/rooms/{room}",
        "--destination-send=/pub/chat/room/{room}",
        "--destination-send=/app/rooms/{room}",
    ];
    kept_paths(&backend.gateway(&flags).await).await;
}

#[tokio::test]
async fn a_front_end_keeps_its_paths_by_environment_variables_too() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("chat.db").display());
    let url = redis.url();
    let args = ["--broker", &url, "--store", &file];
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let variables = [
        (
            "ROOMCAST_DESTINATION_SUBSCRIBE",
            "/sub/chat/room/{room},/topic/{room}/messages,/topic/rooms/{room}",
        ),
        (
            "ROOMCAST_DESTINATION_SEND",
            "/pub/chat/room/{room},/app/rooms/{room}",
        ),
    ];
    let process = Process::run(
        env!("CARGO_BIN_EXE_gateway"),
        args.iter().chain(&listen),
        variables,
    );
    let address = process.ready().await.to_string();
    kept_paths_at(&address).await;
}

async fn kept_paths(gateway: &Running) {
    kept_paths_at(&gateway.address).await;
}

/// One room under all the names that the templates give it.
async fn kept_paths_at(address: &str) {
    let mut wire = Wire::connected_at(address, "1.2", "kim").await;
    let subscribed = ["/sub/chat/room/7", "/topic/7/messages", "/topic/rooms/7"];
    for (id, destination) in subscribed.iter().enumerate() {
        wire.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\n\n\0"
        ))
        .await;
    }
    for sent in ["/pub/chat/room/7", "/app/rooms/7", "/sub/chat/room/7"] {
        wire.send(&format!("SEND\ndestination:{sent}\n\nhi\0"))
            .await;
        let mut expected = subscribed.to_vec();
        while !expected.is_empty() {
            let message = wire.next().await;
            let is_it =
                |destination: &&str| message.contains(&format!("\ndestination:{destination}\n"));
            let at = expected.iter().position(is_it);
            expected.remove(at.unwrap_or_else(|| panic!("{message:?}")));
        }
    }
    wire.send("SUBSCRIBE\nid:p\ndestination:/pub/chat/room/7\n\n\0")
        .await;
    let error = wire.next().await;
    assert!(error.contains("\ncode:bad-destination\n"), "{error:?}");
}
