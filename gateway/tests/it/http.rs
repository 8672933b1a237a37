//! What the listener answers and refuses.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::serving::{DEADLINE, answer, head, serving};

#[tokio::test]
async fn a_page_is_served_so_that_it_loads_nothing_from_elsewhere() {
    let serving = serving(&[]).await;
    let page = serving.get("/?room=lobby&name=ann").await;
    assert_eq!((page.status, &*page.body), (200, "<!doctype html>"));
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    let policy = page.header("Content-Security-Policy").unwrap();
    let directives: Vec<_> = policy.split("; ").collect();
    assert_eq!(directives[0], "default-src 'none'");
    assert!(directives.contains(&"frame-ancestors 'none'"), "{policy}");
    for directive in &directives[1..] {
        let (_, sources) = directive.split_once(' ').unwrap();
        assert!(matches!(sources, "'self'" | "'none'"), "{directive}");
    }
    assert_eq!(page.header("X-Frame-Options"), Some("DENY"));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(page.header("Cache-Control"), Some("no-cache"));

    let head = serving.ask(&["HEAD / HTTP/1.1"]).await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.header("Content-Length"), Some("15"));

    let post = serving.ask(&["POST / HTTP/1.1", "Content-Length: 0"]).await;
    assert_eq!(
        (post.status, post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
}

#[tokio::test]
async fn a_page_that_the_browser_has_is_not_sent_again() {
    let serving = serving(&[]).await;
    let tag = serving.get("/").await.header("ETag").unwrap().to_owned();
    for known in [&*tag, "*", &format!("\"other\", W/{tag}")] {
        let again = serving
            .ask(&["GET / HTTP/1.1", &format!("If-None-Match: {known}")])
            .await;
        assert_eq!((again.status, &*again.body), (304, ""), "{known}");
        assert_eq!(again.header("ETag"), Some(&*tag));
    }
    let other = serving
        .ask(&["GET / HTTP/1.1", "If-None-Match: \"other\""])
        .await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn an_unknown_path_is_404_in_json() {
    let serving = serving(&[]).await;
    for path in [
        "/nothing",
        "/ws/",
        "/api/rooms/a",
        "/api/rooms/a/b/messages",
        "/../etc/passwd",
    ] {
        let answer = serving.get(path).await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (404, "not-found"),
            "{path}"
        );
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    }
    let metrics = String::from_utf8(serving.metrics.encode()).unwrap();
    assert!(
        metrics.contains("roomcast_gateway_http_requests_total{code=\"4xx\"} 5"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let serving = serving(&["--connect-deadline", "50ms"]).await;
    for part in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = serving.connect().await;
        stream.write_all(part.as_bytes()).await.unwrap();
        let mut octets = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut octets))
            .await
            .unwrap()
            .unwrap();
        assert!(!octets.starts_with(b"HTTP/1.1 2"), "{part:?}");
    }
}

#[tokio::test]
async fn headers_are_bounded() {
    let serving = serving(&[]).await;
    let many: Vec<_> = (0..200).map(|number| format!("X-{number}: x")).collect();
    let long = [format!("X-Long: {}", "x".repeat(20_000))];
    for headers in [&many[..], &long] {
        let mut stream = serving.connect().await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n",
            headers.join("\r\n")
        );
        // The server may have closed before it has read everything.
        stream.write_all(request.as_bytes()).await.ok();
        assert_eq!(head(&mut stream).await.status, 431);
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_not_waited_for() {
    let serving = serving(&[]).await;
    let mut stream = serving.connect().await;
    let request = b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx";
    stream.write_all(request).await.unwrap();
    assert_eq!(head(&mut stream).await.status, 405);
    let body = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let mut stream = serving.connect().await;
    stream.write_all(body).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 200);
}

#[tokio::test]
async fn connections_over_the_limit_are_told_to_come_back() {
    let serving = serving(&["--max-connections", "2"]).await;
    // Each has been answered, so each has its place.
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = serving.connect().await;
        stream
            .write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(head(&mut stream).await.status, 426);
        kept.push(stream);
    }
    let refused = serving.get("/").await;
    assert_eq!((refused.status, &*refused.code()), (503, "overloaded"));
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(refused.header("Connection"), Some("close"));

    kept.pop();
    let deadline = Instant::now() + DEADLINE;
    while serving.get("/").await.status != 200 {
        assert!(
            Instant::now() < deadline,
            "the place of a closed connection is not given on"
        );
    }
}

#[tokio::test]
async fn a_server_that_stops_closes_connections_that_wait_for_a_request() {
    let serving = serving(&[]).await;
    let mut idle = serving.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(head(&mut idle).await.status, 200);
    serving.stop.cancel();
    serving.tasks.close();
    timeout(DEADLINE, serving.tasks.wait()).await.unwrap();
    let mut octets = Vec::new();
    timeout(DEADLINE, idle.read_to_end(&mut octets))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(octets, b"<!doctype html>");
}
