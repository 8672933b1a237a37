//! The order of frames while an answer is awaited, and what an attacker makes us ask.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::Site;
use super::application::{Application, Manner};
use crate::running::backend;

#[tokio::test]
async fn a_burst_keeps_its_order_while_answers_are_awaited() {
    let application = Application::start().await;
    application.allow("kim", &["subscribe", "send"], "a");
    application.allow("kim", &["send"], "b");
    let access = ["--access", "callback", "--access-url", &application.url];
    let site = Site::new(backend(&[]).await, &access).await;
    let _storing = site.backend.storing().await;
    let mut kim = site.client(json!({"sub": "kim"})).await;
    let mut burst = String::from("SUBSCRIBE\nid:a\ndestination:/topic/rooms/a\n\n\0");
    for n in 0..20 {
        let room = if n % 3 == 2 { "b" } else { "a" };
        burst += &format!("SEND\ndestination:/app/rooms/{room}\n\n{n}\0");
    }
    kim.send_raw(Message::text(burst)).await.unwrap();
    for n in (0..20).filter(|n| n % 3 != 2) {
        assert_eq!(kim.message().await.unwrap().body, n.to_string());
    }
    assert_eq!(application.requests().len(), 3);
}

#[tokio::test]
async fn nothing_behind_a_refused_frame_is_sent() {
    let application = Application::start().await;
    application.allow("kim", &["send"], "a");
    application.allow("lee", &["subscribe"], "a");
    let access = ["--access", "callback", "--access-url", &application.url];
    let site = Site::new(backend(&[]).await, &access).await;
    let _storing = site.backend.storing().await;
    let mut lee = site.client(json!({"sub": "lee"})).await;
    lee.subscribe("s", "/topic/rooms/a", &[]).await.unwrap();
    let mut kim = site.client(json!({"sub": "kim"})).await;
    let burst = "SEND\ndestination:/app/rooms/a\n\nfirst\0\
                 SEND\ndestination:/app/rooms/secret\n\nno\0\
                 SEND\ndestination:/app/rooms/a\n\nbehind\0";
    kim.send_raw(Message::text(burst)).await.unwrap();
    assert_eq!(kim.close_code().await.unwrap(), Some(3003));
    let mut again = site.client(json!({"sub": "kim"})).await;
    again.send("/app/rooms/a", "last", &[]).await.unwrap();
    assert_eq!(lee.message().await.unwrap().body, "first");
    assert_eq!(lee.message().await.unwrap().body, "last");
}

#[tokio::test]
async fn a_hanging_application_holds_up_nobody_for_longer_than_its_time() {
    let application = Application::start().await;
    application.allow("lee", &["subscribe", "send"], "a");
    let access = ["--access", "callback", "--access-url", &application.url];
    let flags = [&access[..], &["--access-timeout", "200ms"]].concat();
    let site = Site::new(backend(&[]).await, &flags).await;
    let _storing = site.backend.storing().await;
    let mut lee = site.client(json!({"sub": "lee"})).await;
    lee.subscribe("s", "/topic/rooms/a", &[]).await.unwrap();
    lee.send("/app/rooms/a", "one", &[]).await.unwrap();
    assert_eq!(lee.message().await.unwrap().body, "one");
    application.behave(Manner::Hang);
    let mut attackers = Vec::new();
    for n in 0..100 {
        let mut kim = site.client(json!({"sub": format!("kim{n}")})).await;
        let frame = format!("SEND\ndestination:/app/rooms/r{n}\n\nx\0");
        kim.send_raw(Message::text(frame)).await.unwrap();
        attackers.push(kim);
    }
    // What lee may do is known, and costs no question.
    lee.send("/app/rooms/a", "two", &[]).await.unwrap();
    assert_eq!(lee.message().await.unwrap().body, "two");
    for mut kim in attackers {
        assert_eq!(kim.close_code().await.unwrap(), Some(1013));
    }
}
