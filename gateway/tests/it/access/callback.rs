//! `--access callback`.

use serde_json::{Value, json};

use super::application::{Application, Manner};
use super::{Site, everything, set};
use crate::running::backend;

async fn site(application: &Application, flags: &[&str]) -> Site {
    let access = ["--access", "callback", "--access-url", &application.url];
    let header = ["--access-url-header", "X-Key: k3y"];
    let flags = [&access[..], &header, flags].concat();
    Site::new(backend(&[]).await, &flags).await
}

#[tokio::test]
async fn the_application_says_who_may_and_is_told_who_asks() {
    let application = Application::start().await;
    application.allow("kim", &["subscribe", "send", "history"], "team");
    application.allow("kim", &["subscribe"], "no-past");
    let site = site(&application, &[]).await;
    let _storing = site.backend.storing().await;
    // A claim of rooms means nothing here.
    let kim = json!({"sub": "kim", "rooms": {"*": "rw"}});
    assert_eq!(site.tries(&kim, "team").await, everything());
    assert_eq!(site.tries(&kim, "no-past").await, set(&["subscribe"]));
    assert_eq!(site.tries(&kim, "other").await, set(&[]));
    assert_eq!(site.tries(&json!({"sub": "lee"}), "team").await, set(&[]));
    for (head, body) in application.requests() {
        assert!(
            head.starts_with("POST /may?key=s3cret HTTP/1.1\r\n"),
            "{head}"
        );
        let head = head.to_lowercase();
        assert!(head.contains("x-key: k3y\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/json\r\n"),
            "{head}"
        );
        let names: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["action", "room", "user"]);
    }
    // Each was asked once, though they came from many connections.
    let asked = application.requests();
    let distinct: std::collections::HashSet<_> =
        asked.iter().map(|(_, body)| body.to_string()).collect();
    assert_eq!(asked.len(), distinct.len());
    assert!(site.counted("granted") > 0 && site.counted("refused") > 0);
}

#[tokio::test]
async fn whatever_is_no_clear_yes_lets_nobody_in() {
    let application = Application::start().await;
    let site = site(&application, &["--access-timeout", "200ms"]).await;
    let allow = |body: &str| Manner::Other(200, String::new(), body.into());
    let status = |status, body: &str| Manner::Other(status, String::new(), body.into());
    let yes = "{\"allow\":true}";
    let elsewhere = Application::start().await;
    let redirect = |status| {
        let location = format!("Location: {}\r\n", elsewhere.url);
        Manner::Other(status, location, yes.into())
    };
    elsewhere.behave(allow(yes));
    let manners = [
        Manner::Hang,
        Manner::Flood,
        status(500, yes),
        status(201, yes),
        status(204, ""),
        status(401, yes),
        status(403, yes),
        status(404, yes),
        redirect(302),
        redirect(307),
        allow(""),
        allow("true"),
        allow("[true]"),
        allow("{\"allow\":\"true\"}"),
        allow("{\"allow\":1}"),
        allow("{\"allow\":null}"),
        allow("{\"allowed\":true}"),
        allow("{\"allow\":true"),
        allow("\u{0}\u{1}garbage"),
        allow(&format!(
            "{{\"allow\":true,\"x\":\"{}\"}}",
            "x".repeat(5000)
        )),
        Manner::Other(200, "Content-Encoding: gzip\r\n".into(), "\u{1f}".into()),
    ];
    for (n, manner) in manners.into_iter().enumerate() {
        let shown = format!("{manner:?}");
        application.behave(manner);
        let room = format!("r{n}");
        let done = site.tries(&json!({"sub": "kim"}), &room).await;
        assert_eq!(done, set(&[]), "{:.80}", shown);
    }
    assert_eq!(elsewhere.requests(), [], "a redirection was followed");
    assert_eq!(site.counted("granted"), 0);
    // It comes back by itself.
    application.behave(Manner::Honest);
    application.allow("kim", &["send"], "r0");
    let done = site.tries(&json!({"sub": "kim"}), "r0").await;
    assert_eq!(done, set(&["post", "send"]));
}

#[tokio::test]
async fn an_application_that_is_not_there_lets_nobody_in() {
    let application = Application::start().await;
    let site = site(&application, &[]).await;
    drop(application);
    let done = site.tries(&json!({"sub": "kim"}), "team").await;
    assert_eq!(done, set(&[]));
    assert!(site.counted("unavailable") >= 5);
}

#[tokio::test]
async fn a_users_name_is_told_as_it_is() {
    let application = Application::start().await;
    let site = site(&application, &[]).await;
    let name = "\"},{\"allow\": 김 \\ $ne";
    let mut client = site.client(json!({"sub": name})).await;
    let refused = client.subscribe("s", "/topic/rooms/team", &[]).await;
    refused.unwrap_err();
    let asked = application.requests().pop().unwrap().1;
    let expected: Value = json!({"user": name, "action": "subscribe", "room": "team"});
    assert_eq!(asked, expected);
}
