//! The chat page: the files that a browser asks for, carried inside the program.

use gateway::server::{Page, Pages};

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page at `/` and what it loads; it loads nothing from elsewhere.
pub(crate) fn pages() -> Pages {
    let files: [(_, _, &[u8]); 10] = [
        (
            "/",
            "text/html; charset=utf-8",
            include_bytes!("page/index.html"),
        ),
        (
            "/chat.css",
            "text/css; charset=utf-8",
            include_bytes!("page/chat.css"),
        ),
        (
            "/icon.svg",
            "image/svg+xml",
            include_bytes!("page/icon.svg"),
        ),
        ("/beat.js", SCRIPT, include_bytes!("page/beat.js")),
        ("/chat.js", SCRIPT, include_bytes!("page/chat.js")),
        ("/link.js", SCRIPT, include_bytes!("page/link.js")),
        ("/room.js", SCRIPT, include_bytes!("page/room.js")),
        ("/stomp.js", SCRIPT, include_bytes!("page/stomp.js")),
        ("/token.js", SCRIPT, include_bytes!("page/token.js")),
        ("/view.js", SCRIPT, include_bytes!("page/view.js")),
    ];
    Pages(
        files
            .map(|(path, content_type, body)| Page {
                path,
                content_type,
                body,
            })
            .to_vec(),
    )
}
