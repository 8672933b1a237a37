//! A RabbitMQ that speaks STOMP over WebSocket, to compare with.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::port;

/// How long it may take until it takes connections: Erlang loads some 70 applications.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a name server of Erlang's and the broker, says their ids, and ends both together with the
/// test, however that ends: the pipe to the shell's input closes with the test's process. With a name
/// server of its own the broker neither finds another nor leaves one behind.
const SUPERVISE: &str = r#"dir=$1; epmd=$2; shift 2
epmd -address 127.0.0.1 -port "$epmd" >/dev/null 2>&1 & names=$!
"$@" >"$dir/log" 2>&1 & server=$!; echo $server $names
exec >/dev/null; cat >/dev/null; kill -9 $server $names; wait; rm -rf "$dir""#;

/// What the log says when it takes connections.
const READY: &str = "Server startup complete";

/// What the log says when another process has one of its ports.
const TAKEN: &str = "eaddrinuse";

/// A broker on free ports of the loopback interface, with the plugin `rabbitmq_web_stomp` and the user
/// `guest`. Dropping it ends it and removes its data.
pub struct Rabbitmq {
    shell: Child,
    /// The broker and the name server.
    processes: [u32; 2],
    port: u16,
    dir: PathBuf,
}

impl Rabbitmq {
    /// Starts one, and returns once clients can connect.
    ///
    /// # Panics
    /// When it is missing, saying how to get it, or does not start.
    pub async fn start() -> Self {
        let program = program().unwrap_or_else(|reason| panic!("{reason}"));
        let mut log = String::new();
        for _ in 0..5 {
            let mut server = Self::spawn(&program);
            if server.is_up().await {
                return server;
            }
            log = server.log();
        }
        panic!("RabbitMQ does not start:\n{log}");
    }

    /// Where clients connect: `ws://HOST:PORT/ws`.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    /// The process that does the work.
    pub fn pid(&self) -> u32 {
        self.processes[0]
    }

    /// All that it consists of: the process that does the work, and Erlang's name server.
    pub fn processes(&self) -> [u32; 2] {
        self.processes
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn spawn(program: &Path) -> Self {
        let dir = std::env::temp_dir().join(format!("roomcast-rabbitmq-{}", Uuid::new_v4()));
        let write = |name: &str, text: &str| {
            let written = std::fs::write(dir.join(name), text);
            written.expect("the folder for temporary files is writable");
        };
        std::fs::create_dir_all(&dir).expect("the folder for temporary files is writable");
        let [port, amqp, distribution, epmd] = [(); 4].map(|()| port::free());
        write("enabled_plugins", "[rabbitmq_web_stomp].\n");
        write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.default = 127.0.0.1:{amqp}\n\
                 stomp.listeners.tcp = none\n\
                 web_stomp.tcp.ip = 127.0.0.1\n\
                 web_stomp.tcp.port = {port}\n\
                 log.console = true\n\
                 log.file = false\n"
            ),
        );
        let path = |name: &str| dir.join(name).into_os_string();
        let mut shell = Command::new("sh")
            .args(["-c", SUPERVISE, "sh"])
            .arg(&dir)
            .arg(epmd.to_string())
            .arg(program)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LANG", "C.UTF-8")
            .env("HOME", &dir)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", "roomcast@localhost")
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", &dir)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            // Its script becomes the broker then, and does not stay as a parent.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let mut pids = String::new();
        let output = shell.stdout.take().expect("the output is piped");
        BufReader::new(output)
            .read_line(&mut pids)
            .expect("the shell names the processes");
        let mut pids = pids.split_whitespace().map(|pid| {
            let pid = pid.parse();
            pid.expect("the line is two process ids")
        });
        let processes = [(); 2].map(|()| pids.next().expect("the line is two process ids"));
        drop(pids);
        Self {
            shell,
            processes,
            port,
            dir,
        }
    }

    /// Waits until it takes connections; `false` when another process has one of its ports.
    async fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let log = self.log();
            let address = ("127.0.0.1", self.port);
            if log.contains(READY) && TcpStream::connect(address).await.is_ok() {
                return true;
            }
            let line = Path::new("/proc")
                .join(self.pid().to_string())
                .join("cmdline");
            // One that has ended, and is not waited for, has an empty command line.
            let has_ended = std::fs::read(line).unwrap_or_default().is_empty();
            if has_ended || log.contains(TAKEN) {
                return false;
            }
            assert!(
                Instant::now() < deadline,
                "RabbitMQ does not become ready:\n{log}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Rabbitmq {
    fn drop(&mut self) {
        // The end of its input tells the shell to end everything; it waits until that is done.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Where RabbitMQ's own script is: what `ROOMCAST_RABBITMQ` names, or where Debian puts it. The one in
/// `PATH` is Debian's wrapper, which works for its own user and data alone.
///
/// # Errors
/// A line that says what to do, when there is none.
pub fn program() -> Result<PathBuf, String> {
    const DEBIAN: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
    let given = std::env::var_os("ROOMCAST_RABBITMQ").map(PathBuf::from);
    let program = given.clone().unwrap_or_else(|| DEBIAN.into());
    match (program.is_file(), given) {
        (true, _) => Ok(program),
        (false, Some(given)) => Err(format!("ROOMCAST_RABBITMQ is no file: {}", given.display())),
        (false, None) => Err(format!(
            "there is no {DEBIAN}: `scripts/test` installs it, or apt-get install rabbitmq-server, or \
             name RabbitMQ's own script in ROOMCAST_RABBITMQ"
        )),
    }
}
