//! A HAProxy of a test's own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::Process;

/// How long it may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running HAProxy. Dropping it ends it and removes its configuration.
pub struct Haproxy {
    address: SocketAddr,
    process: Process,
    dir: PathBuf,
}

impl Haproxy {
    /// Starts it with what `configuration` makes of two free ports of the loopback interface, the
    /// first of which is [`address`](Self::address). Returns when it listens there.
    ///
    /// # Panics
    /// When `haproxy` is missing, or does not take the configuration.
    pub async fn start(configuration: impl Fn([u16; 2]) -> String) -> Self {
        for _ in 0..10 {
            let dir = std::env::temp_dir().join(format!("roomcast-haproxy-{}", Uuid::new_v4()));
            std::fs::create_dir_all(&dir).expect("the folder for temporary files is writable");
            let ports = free_ports();
            let file = dir.join("haproxy.cfg");
            std::fs::write(&file, configuration(ports)).expect("the folder is new");
            let file = file.to_str().expect("the path is ours, and is text");
            let none: [(&str, &str); 0] = [];
            let haproxy = Self {
                address: (Ipv4Addr::LOCALHOST, ports[0]).into(),
                process: Process::run(program(), ["-db", "-f", file], none),
                dir,
            };
            if haproxy.listens().await {
                return haproxy;
            }
        }
        panic!("no two ports stay free for haproxy");
    }

    /// Where its first port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it listens; `false` when another process has taken one of its ports.
    async fn listens(&self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let output = self.process.output();
            if output.contains("Address already in use") {
                return false;
            }
            assert!(!output.contains("[ALERT]"), "haproxy fails:\n{output}");
            if TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            assert!(
                Instant::now() < deadline,
                "haproxy does not listen:\n{output}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Debian puts it where only root's path leads.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join("haproxy"))
        .find(|file| file.is_file())
        .expect("haproxy is not installed: apt-get install haproxy, or run scripts/test")
}

fn free_ports() -> [u16; 2] {
    let bound = [(); 2].map(|()| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        (address.port(), listener)
    });
    bound.map(|(port, _listener)| port)
}
