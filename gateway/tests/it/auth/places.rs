//! Where a token may stand: CONNECT, or the request that led to it.

use harness::{Issuer, StompClient, StompOptions};

use crate::auth::bearer;
use crate::running::{Running, backend};

/// Who a client is that asks for this path with these headers and then says this.
async fn who(
    gateway: &Running,
    path: &str,
    headers: &[(&str, &str)],
    options: StompOptions,
) -> Result<String, String> {
    let options = StompOptions {
        request_headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..options
    };
    let url = format!("ws://{}{path}", gateway.address);
    let mut client = StompClient::upgrade(&url, &options)
        .await
        .map_err(|failure| failure.to_string())?;
    let connect = harness::stomp::connect_frame(&options);
    client.send_frame(connect).await.unwrap();
    let frame = client.next_frame(harness::stomp::DEADLINE).await.unwrap();
    let user = frame.header("user-name").map(str::to_owned);
    user.ok_or_else(|| frame.header("code").unwrap().to_owned())
}

#[tokio::test]
async fn a_token_is_taken_from_connect_and_else_from_where_the_flags_say() {
    let issuer = Issuer::es256();
    let (kim, lee, mia) = (issuer.user("kim"), issuer.user("lee"), issuer.user("mia"));
    let backend = backend(&[]).await;
    let places = ["--jwt-cookie", "auth", "--jwt-query", "access_token"];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &places].concat())
        .await;
    let cookie = format!("a=b; auth={lee}; c=d");
    let cookie = ("Cookie", &*cookie);
    let header = format!("Bearer {mia}");
    let header = ("Authorization", &*header);
    let query = format!("/ws?access_token={kim}");
    let plain = StompOptions::default;
    let passcode = StompOptions {
        login: Some("root".into()),
        headers: vec![("passcode".into(), kim.clone())],
        ..plain()
    };

    assert_eq!(
        who(&gateway, "/ws", &[], bearer(&kim)).await.unwrap(),
        "kim"
    );
    assert_eq!(
        who(&gateway, "/ws", &[cookie], passcode).await.unwrap(),
        "kim"
    );
    assert_eq!(
        who(&gateway, "/ws", &[header, cookie], plain())
            .await
            .unwrap(),
        "mia"
    );
    assert_eq!(
        who(&gateway, &query, &[cookie], plain()).await.unwrap(),
        "lee"
    );
    assert_eq!(who(&gateway, &query, &[], plain()).await.unwrap(), "kim");
    assert_eq!(
        who(&gateway, "/ws", &[], plain()).await.unwrap_err(),
        "unauthorized"
    );
    // What CONNECT brings counts, good or not: there is no second try.
    assert_eq!(
        who(&gateway, &query, &[], bearer("x")).await.unwrap_err(),
        "unauthorized"
    );

    let strict = backend.gateway(&issuer.flags()).await;
    assert_eq!(
        who(&strict, "/ws", &[header], plain()).await.unwrap(),
        "mia"
    );
    for (path, headers) in [(&*query, &[][..]), ("/ws", &[cookie][..])] {
        let refused = who(&strict, path, headers, plain()).await;
        assert_eq!(refused.unwrap_err(), "unauthorized");
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_cookie_of_its_visitor() {
    let issuer = Issuer::es256();
    let cookie = format!("auth={}", issuer.user("kim"));
    let backend = backend(&[]).await;
    let ours = "https://chat.example";
    let flags = [
        "--jwt-cookie",
        "auth",
        "--allowed-origin",
        ours,
        "--access",
        "open",
    ];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &flags].concat())
        .await;
    let from = |origin: &str| StompOptions {
        origin: Some(origin.into()),
        ..StompOptions::default()
    };
    let cookies = [("Cookie", &*cookie)];
    assert_eq!(
        who(&gateway, "/ws", &cookies, from(ours)).await.unwrap(),
        "kim"
    );
    for origin in [
        "https://evil.example",
        "https://chat.example.evil.example",
        "null",
    ] {
        let refused = who(&gateway, "/ws", &cookies, from(origin)).await;
        assert!(refused.unwrap_err().contains("403"), "{origin}");
    }

    let header = format!("Cookie: {cookie}");
    let path = "/api/rooms/r/messages";
    let evil = "Origin: https://evil.example";
    let read = gateway.ask("GET", path, &[&header, evil], b"").await;
    assert_eq!(read.header("Access-Control-Allow-Origin"), None);
    assert_eq!(read.header("Access-Control-Allow-Credentials"), None);
    let headers = [&*header, evil, "Content-Type: application/json"];
    let sent = gateway
        .ask("POST", path, &headers, br#"{"body":"x"}"#)
        .await;
    assert_eq!((sent.status, &*sent.code()), (403, "bad-origin"));
    let own = format!("Origin: {ours}");
    let read = gateway.ask("GET", path, &[&header, &own], b"").await;
    assert_eq!(read.status, 200);
    assert_eq!(read.header("Access-Control-Allow-Origin"), Some(ours));
    assert_eq!(
        read.header("Access-Control-Allow-Credentials"),
        Some("true")
    );
}
