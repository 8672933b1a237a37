//! What is answered without a session.

use super::http::request;
use crate::running::backend;

const NOT_CACHED: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

#[tokio::test]
async fn the_prefix_greets() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for path in ["/sockjs", "/sockjs/"] {
        let mut reply = request(&gateway.address, &format!("GET {path}"), &[], b"").await;
        assert_eq!(
            (reply.status, &*reply.text().await),
            (200, "Welcome to SockJS!\n")
        );
        assert_eq!(
            reply.header("Content-Type"),
            Some("text/plain; charset=UTF-8")
        );
    }
}

#[tokio::test]
async fn info_says_what_there_is_and_a_number_that_cannot_be_guessed() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let mut reply = request(&gateway.address, "GET /sockjs/info?t=1", &[], b"").await;
        assert_eq!(
            reply.header("Content-Type"),
            Some("application/json; charset=UTF-8")
        );
        assert_eq!(reply.header("Cache-Control"), Some(NOT_CACHED));
        assert_eq!(reply.header("Set-Cookie"), None);
        let mut info: serde_json::Value = serde_json::from_str(&reply.text().await).unwrap();
        numbers.push(u32::try_from(info["entropy"].take().as_u64().unwrap()).unwrap());
        let rest = r#"{"entropy":null,"origins":["*:*"],"cookie_needed":false,"websocket":true}"#;
        assert_eq!(
            info,
            serde_json::from_str::<serde_json::Value>(rest).unwrap()
        );
    }
    assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]));
}

#[tokio::test]
async fn the_frame_s_page_loads_the_client_that_is_set_and_is_kept() {
    let flags = [
        "--sockjs-client-url",
        "/sockjs.min.js",
        "--allowed-origin",
        "https://app.example,https://b.example:8443",
    ];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut page = request(
        &gateway.address,
        "GET /sockjs/iframe-1.6.1.html?t=1",
        &[],
        b"",
    )
    .await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=UTF-8")
    );
    assert_eq!(
        page.header("Cache-Control"),
        Some("public, max-age=31536000")
    );
    assert!(page.header("Expires").is_some());
    assert_eq!(
        page.header("Content-Security-Policy"),
        Some("frame-ancestors 'self' https://app.example https://b.example:8443")
    );
    let text = page.text().await;
    assert!(
        text.contains("<script src=\"/sockjs.min.js\"></script>"),
        "{text}"
    );

    let known = format!("If-None-Match: {}", page.header("ETag").unwrap());
    let mut again = request(&gateway.address, "GET /sockjs/iframe.html", &[&known], b"").await;
    assert_eq!((again.status, &*again.text().await), (304, ""));
    assert_eq!(again.header("Content-Type"), None);
}

#[tokio::test]
async fn the_client_of_the_frame_s_page_is_the_public_one_unless_set() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut page = request(&gateway.address, "GET /sockjs/iframe.html", &[], b"").await;
    let url = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js";
    let text = page.text().await;
    assert!(
        text.contains(&format!("<script src=\"{url}\"></script>")),
        "{text}"
    );
    assert_eq!(
        page.header("Content-Security-Policy"),
        Some("frame-ancestors 'self'")
    );
}

#[tokio::test]
async fn what_is_not_there_is_404_and_another_method_405() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for path in [
        "/sockjs//",
        "/sockjs/a",
        "/sockjs/a/b",
        "/sockjs/a./b/xhr",
        "/sockjsx",
    ] {
        let reply = request(&gateway.address, &format!("POST {path}"), &[], b"").await;
        assert_eq!(reply.status, 404, "{path}");
    }
    for (line, allow) in [
        ("POST /sockjs/info", "OPTIONS, GET"),
        ("GET /sockjs/a/b/xhr", "OPTIONS, POST"),
        ("GET /sockjs/a/b/xhr_send", "OPTIONS, POST"),
        ("POST /sockjs/a/b/eventsource", "GET"),
        ("GET /sockjs/a/b/jsonp_send", "POST"),
        ("POST /sockjs/a/b/websocket", "GET"),
    ] {
        let mut reply = request(&gateway.address, line, &[], b"").await;
        assert_eq!((reply.status, &*reply.text().await), (405, ""), "{line}");
        assert_eq!(reply.header("Allow"), Some(allow), "{line}");
        assert_eq!(reply.header("Content-Type"), None, "{line}");
    }
}

#[tokio::test]
async fn nothing_of_a_session_is_kept_guessed_or_buffered() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (line, kind) in [
        (
            "POST /sockjs/0/a/xhr",
            "application/javascript; charset=UTF-8",
        ),
        (
            "POST /sockjs/0/b/xhr_streaming",
            "application/javascript; charset=UTF-8",
        ),
        ("GET /sockjs/0/c/eventsource", "text/event-stream"),
        ("GET /sockjs/0/d/htmlfile?c=x", "text/html; charset=UTF-8"),
        (
            "GET /sockjs/0/e/jsonp?c=x",
            "application/javascript; charset=UTF-8",
        ),
    ] {
        let reply = request(&gateway.address, line, &[], b"").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("Content-Type"), Some(kind), "{line}");
        assert_eq!(reply.header("Cache-Control"), Some(NOT_CACHED), "{line}");
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(reply.header("X-Accel-Buffering"), Some("no"), "{line}");
        assert_eq!(reply.header("Set-Cookie"), None, "{line}");
    }
}

#[tokio::test]
async fn a_callback_that_is_no_name_is_refused_before_a_session_begins() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for transport in ["jsonp", "htmlfile"] {
        for (query, told) in [
            ("", "\"callback\" parameter required\n"),
            ("?c=", "\"callback\" parameter required\n"),
            ("?c=abc(", "invalid \"callback\" parameter\n"),
            ("?callback=a%3Cb", "invalid \"callback\" parameter\n"),
        ] {
            let line = format!("GET /sockjs/0/s/{transport}{query}");
            let mut reply = request(&gateway.address, &line, &[], b"").await;
            assert_eq!((reply.status, &*reply.text().await), (500, told), "{line}");
        }
    }
    let sent = request(
        &gateway.address,
        "POST /sockjs/0/s/xhr_send",
        &[],
        b"[\"x\"]",
    )
    .await;
    assert_eq!(sent.status, 404);
}
