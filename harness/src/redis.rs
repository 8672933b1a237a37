//! A Redis server of a test's own, which can be killed, restarted and frozen.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::port;

/// How long the server may take to start, its data loaded.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server may take for one answer while a condition is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What keeps a server's data whatever happens to it.
const DURABLE: &[&str] = &[
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--save",
    "",
    "--maxmemory-policy",
    "noeviction",
    "--auto-aof-rewrite-min-size",
    "512mb",
];

/// Starts the server and ends it together with the test, however the test ends: the pipe to the
/// shell's input closes with the test's process.
const SUPERVISE: &str = r#"dir=$1; shift; "$@" >/dev/null 2>&1 & server=$!; echo $server
exec >/dev/null; cat >/dev/null; kill -9 $server; wait; rm -rf "$dir""#;

/// A server on a free port of the loopback interface, append-only, with `noeviction`. Dropping it
/// ends it and removes its data.
pub struct Redis {
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
    /// A Sentinel keeps what it knows in its configuration.
    config: Option<Config>,
    running: Option<Running>,
    frozen: AtomicBool,
}

struct Config {
    file: PathBuf,
    lines: String,
}

struct Running {
    shell: Child,
    server: String,
}

impl Redis {
    /// Starts a server. Its file is synced before it answers, so it keeps what it has acknowledged
    /// when it is killed: with `everysec` it answers without writing while its disk is busy.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further options: `--maxmemory 4mb`.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not start.
    pub async fn start_with(options: &[&str]) -> Self {
        let durable = DURABLE.iter().chain(options);
        Self::launch(None, || durable.clone().map(ToString::to_string).collect()).await
    }

    /// Starts a server that can join a cluster.
    pub(crate) async fn start_node(options: &[&str]) -> Self {
        Self::launch(None, || {
            let bus = port::free().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let all = DURABLE.iter().chain(&cluster).chain(options);
            all.map(ToString::to_string).collect()
        })
        .await
    }

    /// Starts a Sentinel with these lines of configuration.
    pub(crate) async fn start_sentinel(config: &str) -> Self {
        Self::launch(Some(config), Vec::new).await
    }

    async fn launch(config: Option<&str>, options: impl Fn() -> Vec<String>) -> Self {
        for _ in 0..10 {
            let dir = std::env::temp_dir().join(format!("roomcast-redis-{}", Uuid::new_v4()));
            std::fs::create_dir_all(&dir).expect("the folder for temporary files is writable");
            let config = config.map(|lines| {
                let file = dir.join("sentinel.conf");
                std::fs::write(&file, lines).expect("the folder for temporary files is writable");
                let lines = lines.to_string();
                Config { file, lines }
            });
            let mut redis = Self {
                port: port::free(),
                dir,
                options: options(),
                config,
                running: None,
                frozen: AtomicBool::new(false),
            };
            // Another process may have taken the port since: then the server ends at once.
            if redis.run().await {
                return redis;
            }
        }
        panic!("redis-server does not start: is redis 7 or newer installed? (scripts/test does)");
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref()?.server.parse().ok()
    }

    /// The password that it was started with.
    pub fn password(&self) -> Option<&str> {
        let configured = self.config.as_ref().and_then(|config| {
            let mut lines = config.lines.lines();
            lines.find_map(|line| line.strip_prefix("requirepass "))
        });
        configured.or_else(|| self.option("--requirepass"))
    }

    /// The port on which nodes of a cluster talk to it.
    pub(crate) fn bus_port(&self) -> &str {
        self.option("--cluster-port").expect("it is a node")
    }

    /// A connection for the test's own commands.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(30)));
        self.client()
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .expect("the server answers")
    }

    /// One command on a connection of its own, with a short deadline: for conditions.
    ///
    /// # Errors
    /// When the server is not there, silent, or refuses.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let client = self.client();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        command.query_async(&mut connection).await
    }

    /// Whether it runs and is not frozen.
    pub fn is_running(&self) -> bool {
        self.running.is_some() && !self.frozen.load(Ordering::Relaxed)
    }

    /// Whether it was killed and not started again.
    pub fn is_killed(&self) -> bool {
        self.running.is_none()
    }

    /// Kills the server with SIGKILL. Its data stay.
    pub fn kill(&mut self) {
        self.frozen.store(false, Ordering::Relaxed);
        if let Some(mut running) = self.running.take() {
            // The shell goes first: it would remove the data.
            let _ = running.shell.kill();
            let _ = running.shell.wait();
            signal("-KILL", &running.server);
        }
    }

    /// Asks the server to end, with SIGTERM, and returns once it has. Its data stay.
    ///
    /// # Panics
    /// When it does not end within half a minute.
    pub async fn terminate(&mut self) {
        let Some(running) = &self.running else {
            return;
        };
        signal("-TERM", &running.server);
        let deadline = Instant::now() + START_TIMEOUT;
        while runs(&running.server) {
            assert!(Instant::now() < deadline, "redis-server does not end");
            sleep(Duration::from_millis(10)).await;
        }
        self.kill();
    }

    /// Lets it take so many octets more than it has taken now.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn limit_memory(&self, more: u64) {
        let mut connection = self.connection().await;
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut connection)
            .await
            .expect("the server answers");
        let used: u64 = info.get("used_memory").expect("every server knows it");
        let limit: redis::RedisResult<()> = redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(used + more)
            .query_async(&mut connection)
            .await;
        limit.expect("the server takes any limit");
    }

    /// Closes the connections of its replicas. Frozen ones do not come back, and have nothing of what
    /// it is told from then on, not even in their sockets.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn drop_replicas(&self) {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("replica");
        let killed: redis::RedisResult<u64> = kill.query_async(&mut self.connection().await).await;
        killed.expect("the server closes connections");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("redis.log")).unwrap_or_default()
    }

    /// Starts a killed server again: same port, same data. Returns when the data are loaded.
    ///
    /// # Panics
    /// When it does not start within half a minute.
    pub async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.run().await {
            assert!(
                Instant::now() < deadline,
                "redis-server does not start again"
            );
        }
    }

    /// Freezes the server with SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.frozen.store(true, Ordering::Relaxed);
        self.signal("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.signal("-CONT");
        self.frozen.store(false, Ordering::Relaxed);
    }

    fn signal(&self, name: &str) {
        let running = self.running.as_ref().expect("the server runs");
        signal(name, &running.server);
    }

    /// Runs the server until it answers; `false` when it ends before.
    async fn run(&mut self) -> bool {
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISE, "sh"])
            .arg(&self.dir)
            .arg("redis-server")
            .args(self.config.as_ref().map(|config| &config.file))
            .args(self.config.is_some().then_some("--sentinel"))
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.dir)
            .args(["--logfile", "redis.log"])
            .args(&self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let mut server = String::new();
        let output = shell.stdout.take().expect("the output is piped");
        BufReader::new(output)
            .read_line(&mut server)
            .expect("the shell names the process");
        let server = server.trim().to_string();
        self.running = Some(Running {
            shell,
            server: server.clone(),
        });
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if self.answers().await {
                return true;
            }
            if !runs(&server) {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.kill();
        false
    }

    async fn answers(&self) -> bool {
        let pong: RedisResult<String> = self.ask(&redis::cmd("PING")).await;
        // A server with a password answers too.
        pong.map_or_else(|error| error.to_string().contains("NOAUTH"), |_| true)
    }

    fn client(&self) -> Client {
        let url = match self.password() {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => self.url(),
        };
        Client::open(url).expect("the URL is well-formed")
    }

    fn option(&self, name: &str) -> Option<&str> {
        let at = self.options.iter().position(|option| option == name)?;
        self.options.get(at + 1).map(String::as_str)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How many commands the server at this URL has carried out since it was started; `None` when it
/// does not answer.
pub async fn commands(url: &str) -> Option<u64> {
    let client = Client::open(url).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let info: redis::InfoDict = redis::cmd("INFO")
        .arg("stats")
        .query_async(&mut connection)
        .await
        .ok()?;
    info.get("total_commands_processed")
}

/// Whether a process has not ended: one that has, and is not waited for, has an empty command line.
fn runs(process: &str) -> bool {
    let line = Path::new("/proc").join(process).join("cmdline");
    !std::fs::read(line).unwrap_or_default().is_empty()
}

fn signal(name: &str, process: &str) {
    let _ = Command::new("kill")
        .args([name, process])
        .stderr(Stdio::null())
        .status();
}
