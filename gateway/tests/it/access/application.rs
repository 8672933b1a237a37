//! The back end of an application, which is asked whether users may.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// By what it knows.
    Honest,
    /// With this status, header lines and body.
    Other(u16, String, String),
    /// With octets that have no end.
    Flood,
    /// Not at all.
    Hang,
}

/// Answers on a free port until it is dropped.
pub(crate) struct Application {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    allowed: HashSet<(String, String, String)>,
    manner: Manner,
    requests: Vec<(String, Value)>,
}

impl Application {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/may?key=s3cret", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            allowed: HashSet::new(),
            manner: Manner::Honest,
            requests: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state, task }
    }

    pub(crate) fn allow(&self, user: &str, actions: &[&str], room: &str) {
        for action in actions {
            let allowed = (user.to_owned(), (*action).to_owned(), room.to_owned());
            self.state.lock().unwrap().allowed.insert(allowed);
        }
    }

    pub(crate) fn forbid_all(&self) {
        self.state.lock().unwrap().allowed.clear();
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// The head and the body of every request so far.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut octets = Vec::new();
    loop {
        let (head, body) = loop {
            if let Some(request) = take_request(&mut octets) {
                break request;
            }
            if stream.read_buf(&mut octets).await.ok()? == 0 {
                return None;
            }
        };
        let manner = {
            let mut state = state.lock().unwrap();
            state.requests.push((head, body.clone()));
            state.manner.clone()
        };
        let answer = |status: u16, headers: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        };
        let answer = match manner {
            Manner::Honest => {
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                let asked = (text("user"), text("action"), text("room"));
                let allow = state.lock().unwrap().allowed.contains(&asked);
                answer(200, "", &format!("{{\"allow\":{allow}}}"))
            }
            Manner::Other(status, headers, body) => answer(status, &headers, &body),
            Manner::Flood => {
                let head = "HTTP/1.1 200 X\r\nContent-Length: 100000000\r\n\r\n{\"allow\":true";
                stream.write_all(head.as_bytes()).await.ok()?;
                loop {
                    stream.write_all(&[b' '; 4096]).await.ok()?;
                }
            }
            Manner::Hang => std::future::pending().await,
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// A whole request, where there is one.
fn take_request(octets: &mut Vec<u8>) -> Option<(String, Value)> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(octets[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    });
    let end = end + length.unwrap_or(0_usize);
    let body = serde_json::from_slice(octets.get(head.len()..end)?).unwrap();
    octets.drain(..end);
    Some((head, body))
}
