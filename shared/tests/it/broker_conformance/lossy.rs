//! A connection that breaks at the worst moment: the server has done it, and the answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::config::BrokerUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// Stands before a server and, when told to, swallows its next answer and hangs up.
pub(super) struct Lossy {
    port: u16,
    lose: Arc<AtomicBool>,
}

impl Lossy {
    pub(super) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lose = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let switch = Arc::clone(&switch);
                tokio::spawn(async move {
                    let (mut asks, mut hears) = client.into_split();
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let (mut answers, mut told) = server.into_split();
                    let asking = tokio::spawn(async move { copy(&mut asks, &mut told).await });
                    let mut answer = vec![0; 65_536];
                    while let Ok(length @ 1..) = answers.read(&mut answer).await {
                        if switch.swap(false, Ordering::Relaxed) {
                            break;
                        }
                        if hears.write_all(&answer[..length]).await.is_err() {
                            break;
                        }
                    }
                    asking.abort();
                });
            }
        });
        Self { port, lose }
    }
    /// What a broker is opened with to go through it.
    pub(super) fn url(&self) -> BrokerUrl {
        BrokerUrl::Redis(format!("redis://127.0.0.1:{}", self.port))
    }

    pub(super) fn lose_next(&self) {
        self.lose.store(true, Ordering::Relaxed);
    }

    /// Whether it has done what it was told to.
    pub(super) fn has_lost(&self) -> bool {
        !self.lose.load(Ordering::Relaxed)
    }
}
