//! A connection that stops, in one direction, without breaking.

use std::sync::Arc;

use shared::config::BrokerUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Stands before a server, and holds back what passes while it is shut.
pub(super) struct Valve {
    port: u16,
    asks: Arc<watch::Sender<Passage>>,
    answers: Arc<watch::Sender<Passage>>,
}

/// What may pass in one direction.
#[derive(Clone, Copy)]
enum Passage {
    Open,
    /// Open until this many more subscribing commands have come; they still pass.
    Subscribes(usize),
    Shut,
}

impl Valve {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asks = Arc::new(watch::Sender::new(Passage::Open));
        let answers = Arc::new(watch::Sender::new(Passage::Open));
        let (of_asks, of_answers) = (Arc::clone(&asks), Arc::clone(&answers));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, Arc::clone(&of_asks)));
                tokio::spawn(carry(from_server, to_client, Arc::clone(&of_answers)));
            }
        });
        Self {
            port,
            asks,
            answers,
        }
    }

    /// What a broker is opened with to go through it.
    pub(super) fn url(&self) -> BrokerUrl {
        BrokerUrl::Redis(format!("redis://127.0.0.1:{}", self.port))
    }

    /// Holds back what the client asks, after this many more commands that subscribe.
    pub(super) fn shut_after_subscribes(&self, count: usize) {
        self.asks.send_replace(Passage::Subscribes(count));
    }

    /// Holds back what the client asks.
    pub(super) fn shut_asks(&self) {
        self.asks.send_replace(Passage::Shut);
    }

    /// Holds back what the server sends.
    pub(super) fn shut_answers(&self) {
        self.answers.send_replace(Passage::Shut);
    }

    pub(super) fn open(&self) {
        self.asks.send_replace(Passage::Open);
        self.answers.send_replace(Passage::Open);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passage: Arc<watch::Sender<Passage>>,
) {
    let mut changed = passage.subscribe();
    let mut octets = vec![0; 65_536];
    loop {
        if changed
            .wait_for(|now| !matches!(now, Passage::Shut))
            .await
            .is_err()
        {
            return;
        }
        let Ok(length @ 1..) = from.read(&mut octets).await else {
            return;
        };
        // It may have been shut while this waited for something to carry.
        let open = changed.wait_for(|now| !matches!(now, Passage::Shut));
        if open.await.is_err() {
            return;
        }
        let read = &octets[..length];
        let word = b"$9\r\nSUBSCRIBE";
        let subscribes = read.windows(word.len()).filter(|part| part == word).count();
        passage.send_if_modified(|now| {
            let Passage::Subscribes(left) = now else {
                return false;
            };
            *left = left.saturating_sub(subscribes);
            if *left == 0 {
                *now = Passage::Shut;
            }
            true
        });
        if to.write_all(read).await.is_err() {
            return;
        }
    }
}
