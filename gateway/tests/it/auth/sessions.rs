//! Sessions whose token ends, and who they are until then.

use harness::token::now;
use harness::{Issuer, until};
use serde_json::json;
use shared::stomp::{Command, Frame};
use tokio::io::AsyncReadExt;

use crate::running::backend;

#[tokio::test]
async fn a_session_is_its_tokens_user_and_ends_with_its_token() {
    let issuer = Issuer::es256();
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let flags = ["--jwt-leeway", "0s", "--access", "open"];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &flags].concat())
        .await;
    let ends = now() + 8;
    let mut client = gateway
        .known(&issuer.token(json!({"sub": "kim", "exp": ends})))
        .await
        .unwrap();
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    // A header claims nothing.
    let claim = [("sender", "root"), ("user-name", "root"), ("login", "root")];
    client.send("/app/rooms/r", "hi", &claim).await.unwrap();
    let message = client.message().await.unwrap();
    assert_eq!(message.header("sender"), Some("kim"));

    assert_eq!(client.close_code().await.unwrap(), Some(4001));
    assert!(now() >= ends, "it ended too early");
    let error = client.expect(Command::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("token-expired"));
    let ended = &gateway.metrics.gateway.disconnects;
    assert_eq!(ended.with_label_values(&["token-expired"]).get(), 1);
}

#[tokio::test]
async fn a_sockjs_session_has_the_token_of_connect_too_and_ends_with_it() {
    let issuer = Issuer::hs256();
    let backend = backend(&[]).await;
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &["--jwt-leeway", "0s"]].concat())
        .await;
    let token = issuer.token(json!({"sub": "kim", "exp": now() + 8}));
    let base = "/sockjs/000/abcdefgh";
    let opened = gateway.ask("POST", &format!("{base}/xhr"), &[], b"").await;
    assert!(opened.body.contains('o'), "{}", opened.body);
    let connect = format!("CONNECT\naccept-version:1.2\npasscode:{token}\n\n\0");
    let body = json!([connect]).to_string();
    let path = format!("{base}/xhr_send");
    let sent = gateway.ask("POST", &path, &[], body.as_bytes()).await;
    assert_eq!(sent.status, 204);
    let mut heard = String::new();
    until("the end of the token to be told", async || {
        let answer = gateway.ask("POST", &format!("{base}/xhr"), &[], b"").await;
        heard += &answer.body;
        heard.contains("token-expired")
    })
    .await;
    assert!(heard.contains("user-name:kim"), "{heard}");
}

#[tokio::test]
async fn who_says_nothing_after_a_refusal_is_cut_off() {
    let issuer = Issuer::es256();
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&issuer.flags()).await;
    let upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut stream = gateway.connect().await;
    let mut octets = gateway.request("GET", "/ws", &upgrade, b"");
    // A CONNECT in a text frame whose mask is zero.
    let connect = b"CONNECT\naccept-version:1.2\npasscode:x\n\n\0";
    octets.extend([0x81, 0x80 | connect.len() as u8, 0, 0, 0, 0]);
    octets.extend(connect);
    tokio::io::AsyncWriteExt::write_all(&mut stream, &octets)
        .await
        .unwrap();
    let mut heard = Vec::new();
    let read = stream.read_to_end(&mut heard);
    let read = tokio::time::timeout(crate::serving::DEADLINE, read).await;
    assert!(read.is_ok(), "the connection is still open");
    assert!(String::from_utf8_lossy(&heard).contains("code:unauthorized"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_user_are_those_of_the_tokens_subject_and_of_nobody_else() {
    let issuer = Issuer::hs256();
    let backend = backend(&[]).await;
    let flags = [
        "--access",
        "open",
        "--user-max-connections",
        "2",
        "--user-max-rooms",
        "1",
    ];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &flags].concat())
        .await;
    let token = |user: &str| issuer.token(json!({"sub": user}));
    let mut first = gateway.known(&token("kim")).await.unwrap();
    let mut second = gateway.known(&token("kim")).await.unwrap();
    // Another token of the same user, and a name that is not proved, change nothing.
    for _ in 0..3 {
        assert_eq!(
            gateway.user_of(&token("kim")).await,
            Err("too-many-connections".into())
        );
    }
    let turned_away = &gateway.metrics.gateway.turned_away;
    assert_eq!(turned_away.with_label_values(&["user"]).get(), 3);
    let mut other = gateway.known(&token("lee")).await.unwrap();
    first.subscribe("s", "/topic/rooms/a", &[]).await.unwrap();
    other.subscribe("s", "/topic/rooms/b", &[]).await.unwrap();
    second
        .send_frame(
            Frame::new(Command::Subscribe)
                .with("id", "s")
                .with("destination", "/topic/rooms/b"),
        )
        .await
        .unwrap();
    let error = second.expect(Command::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("too-many-rooms"));
    drop((first, second));
    until("the user's places to be free", async || {
        gateway.user_of(&token("kim")).await.is_ok()
    })
    .await;
}
