//! Whose pages may use SockJS.

use super::http::request;
use crate::running::{Running, backend};

async fn gateway(flags: &[&str]) -> Running {
    backend(&[]).await.gateway(flags).await
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_unless_it_is_allowed() {
    let gateway = gateway(&["--allowed-origin", "https://app.example"]).await;
    let own = format!("Origin: http://{}", gateway.address);
    for (origin, is_allowed) in [
        (&*own, true),
        ("Origin: https://app.example", true),
        ("Origin: https://evil.example", false),
        ("Origin: null", false),
    ] {
        for (number, line) in [
            "GET /sockjs/info",
            "POST /sockjs/0/a/xhr",
            "POST /sockjs/0/b/xhr_streaming",
            "GET /sockjs/0/c/eventsource",
            "GET /sockjs/0/d/htmlfile?c=x",
            "GET /sockjs/0/e/jsonp?c=x",
        ]
        .into_iter()
        .enumerate()
        {
            // A session of its own, for one that is there already has a receiver.
            let line = line.replace("/0/", &format!("/0/{number}{}", origin.len()));
            let reply = request(&gateway.address, &line, &[origin], b"").await;
            let status = if is_allowed { 200 } else { 403 };
            assert_eq!(reply.status, status, "{line} {origin}");
            let named = origin.strip_prefix("Origin: ").filter(|_| is_allowed);
            assert_eq!(reply.header("Access-Control-Allow-Origin"), named);
            let credentials = is_allowed.then_some("true");
            assert_eq!(
                reply.header("Access-Control-Allow-Credentials"),
                credentials
            );
        }
    }
}

#[tokio::test]
async fn an_answer_names_the_page_s_origin_and_never_all() {
    let gateway = gateway(&["--allowed-origin", "*"]).await;
    for origin in ["https://any.example", "null"] {
        let header = format!("Origin: {origin}");
        let reply = request(&gateway.address, "GET /sockjs/info", &[&header], b"").await;
        assert_eq!(reply.header("Access-Control-Allow-Origin"), Some(origin));
        assert_eq!(reply.header("Vary"), Some("Origin"));
    }
    let reply = request(&gateway.address, "GET /sockjs/info", &[], b"").await;
    assert_eq!(reply.header("Access-Control-Allow-Origin"), None);
    assert_eq!(reply.header("Vary"), Some("Origin"));
}

#[tokio::test]
async fn what_a_browser_asks_before_it_sends_is_answered_for_a_year() {
    let gateway = gateway(&["--allowed-origin", "https://app.example"]).await;
    let headers = [
        "Origin: https://app.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type",
    ];
    for (path, methods) in [
        ("/sockjs/info", "OPTIONS, GET"),
        ("/sockjs/0/a/xhr", "OPTIONS, POST"),
        ("/sockjs/0/a/xhr_send", "OPTIONS, POST"),
        ("/sockjs/0/a/xhr_streaming", "OPTIONS, POST"),
    ] {
        let mut reply = request(&gateway.address, &format!("OPTIONS {path}"), &headers, b"").await;
        assert_eq!((reply.status, &*reply.text().await), (204, ""), "{path}");
        for (name, value) in [
            ("Access-Control-Allow-Origin", "https://app.example"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "content-type"),
            ("Access-Control-Max-Age", "31536000"),
            ("Cache-Control", "public, max-age=31536000"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path} {name}");
        }
    }
    let evil = ["Origin: https://evil.example"];
    let reply = request(&gateway.address, "OPTIONS /sockjs/0/a/xhr", &evil, b"").await;
    assert_eq!(reply.status, 403);
}

#[tokio::test]
async fn a_script_or_frame_of_another_site_is_judged_by_the_page_that_asks() {
    let gateway = gateway(&["--allowed-origin", "https://app.example"]).await;
    let mut number = 0;
    for (headers, status) in [
        (&[][..], 200),
        (&["Sec-Fetch-Site: same-origin"], 200),
        (&["Sec-Fetch-Site: none"], 200),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (
            &[
                "Sec-Fetch-Site: cross-site",
                "Referer: https://app.example/a",
            ],
            200,
        ),
        (
            &[
                "Sec-Fetch-Site: cross-site",
                "Referer: https://evil.example/https://app.example/",
            ],
            403,
        ),
        (
            &[
                "Sec-Fetch-Site: same-site",
                "Referer: https://other.example/",
            ],
            403,
        ),
    ] {
        for line in [
            "GET /sockjs/iframe.html",
            "GET /sockjs/0/s/htmlfile?c=x",
            "GET /sockjs/0/s/jsonp?c=x",
        ] {
            number += 1;
            let line = line.replace("/s/", &format!("/{number}/"));
            let reply = request(&gateway.address, &line, headers, b"").await;
            assert_eq!(reply.status, status, "{line} {headers:?}");
        }
    }
}
