//! A child process whose log the test reads and whose life the test ends as it likes.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::binary;
use crate::until::DEADLINE;

/// A running child. It is killed when this is dropped, and when the test process dies without
/// having dropped it.
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    stdin: ChildStdin,
    lines: watch::Receiver<Vec<String>>,
    readers: [JoinHandle<()>; 2],
    next: usize,
    guard: Child,
}

impl Process {
    /// Starts a binary of the workspace, building it first where that is due. The environment's
    /// own `ROOMCAST_*` and `RUST_LOG` settings do not reach it.
    ///
    /// # Panics
    /// When it does not build or start.
    pub fn spawn<A: AsRef<OsStr>>(bin: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn_at(&binary::path(bin), args)
    }

    /// Starts a binary of the workspace that is there already, or what ends up as one, like
    /// [`Process::spawn`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn_at<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ROOMCAST_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command.args(args);
        Self::start(&program.to_string_lossy(), command)
    }

    /// Starts a program of the system, with the environment as it is.
    ///
    /// # Panics
    /// When it does not start.
    pub fn run<A: AsRef<OsStr>, K: AsRef<OsStr>, V: AsRef<OsStr>>(
        program: impl AsRef<Path>,
        args: impl IntoIterator<Item = A>,
        envs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.args(args).envs(envs);
        Self::start(&program.to_string_lossy(), command)
    }

    /// The first line of its output, from the start, that is `wanted`.
    ///
    /// # Panics
    /// When there is none within [`DEADLINE`], or the process ends without it.
    pub async fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.find(0, wanted).await.1
    }

    /// The first `wanted` line after the one that this returned last.
    ///
    /// # Panics
    /// As [`Process::line`].
    pub async fn next_line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let (index, line) = self.find(self.next, wanted).await;
        self.next = index + 1;
        line
    }

    /// The address that it logged for its clients, in `… is ready at http://…`, or `https://…`.
    pub async fn ready(&self) -> SocketAddr {
        address_in(&self.line(|line| line.contains("is ready at ")).await)
    }

    /// The address that it logged for operators, in `admin server listens at http://…`.
    pub async fn admin(&self) -> SocketAddr {
        address_in(
            &self
                .line(|line| line.contains("admin server listens at "))
                .await,
        )
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// When it does not read, or no longer runs.
    pub async fn say(&mut self, line: &str) {
        let written = timeout(
            DEADLINE,
            self.stdin.write_all(format!("{line}\n").as_bytes()),
        )
        .await;
        if !matches!(written, Ok(Ok(()))) {
            panic!(
                "{} does not read its input: {written:?}\n{}",
                self.name,
                self.output()
            );
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written so far, both streams in one as the lines came.
    pub fn output(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it with SIGKILL, and returns once it is gone.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal("KILL").await;
        self.wait().await
    }

    /// Asks it to end, with SIGTERM.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Asks it to end, with SIGINT, as Ctrl-C does.
    pub async fn interrupt(&self) {
        self.signal("INT").await;
    }

    /// Asks it to read its files anew, with SIGHUP.
    pub async fn hang_up(&self) {
        self.signal("HUP").await;
    }

    /// Stops it where it is, with SIGSTOP: its connections stay open and silent.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on after [`Process::pause`].
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// Waits until it has ended and all that it wrote has been read.
    ///
    /// # Panics
    /// When it has not ended within [`DEADLINE`].
    pub async fn wait(&mut self) -> ExitStatus {
        let Ok(status) = timeout(DEADLINE, self.child.wait()).await else {
            panic!("{} does not end:\n{}", self.name, self.output());
        };
        // From here on the id may be another process's.
        self.guard.start_kill().ok();
        for reader in &mut self.readers {
            if !reader.is_finished() && timeout(DEADLINE, reader).await.is_err() {
                panic!(
                    "a child of {} keeps its output open:\n{}",
                    self.name,
                    self.output()
                );
            }
        }
        status.expect("the child was not waited for elsewhere")
    }

    fn start(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                panic!("{name} does not start: {error}; scripts/test installs what is missing")
            }
        };
        let pid = child.id().expect("it has not been waited for");
        let (sender, lines) = watch::channel(Vec::new());
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        Self {
            name: name.to_owned(),
            child,
            pid,
            stdin,
            lines,
            readers: [
                tokio::spawn(read(stdout, sender.clone())),
                tokio::spawn(read(stderr, sender)),
            ],
            next: 0,
            guard: guard(pid),
        }
    }

    async fn find(&self, from: usize, wanted: impl Fn(&str) -> bool) -> (usize, String) {
        let found = |lines: &[String]| {
            let mut numbered = lines.iter().enumerate().skip(from);
            numbered
                .find(|(_, line)| wanted(line))
                .map(|(index, line)| (index, line.clone()))
        };
        let mut lines = self.lines.clone();
        let why = match timeout(DEADLINE, lines.wait_for(|lines| found(lines).is_some())).await {
            Ok(Ok(lines)) => return found(&lines).expect("it was just found"),
            Ok(Err(_)) => "ended without",
            Err(_) => "did not write",
        };
        panic!(
            "{} {why} the line that was waited for:\n{}",
            self.name,
            self.output()
        );
    }

    async fn signal(&self, name: &str) {
        // Until `wait` has been called the id is its own, even when it has ended.
        assert!(
            self.child.id().is_some(),
            "{} has ended:\n{}",
            self.name,
            self.output()
        );
        let script = format!("kill -{name} {}", self.pid);
        let status = Command::new("sh").args(["-c", &script]).status().await;
        assert!(
            status.is_ok_and(|status| status.success()),
            "`{script}` failed"
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: its pipe closes with this value, and then it would kill by an id that
        // may already be another process's.
        self.guard.start_kill().ok();
    }
}

/// The address in the first `http://` or `https://` URL of a log line.
///
/// # Panics
/// When there is none.
pub fn address_in(line: &str) -> SocketAddr {
    let url = line.split_once("://").map(|(_, rest)| rest);
    let host = url.and_then(|rest| {
        rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".:[]".contains(c)))
            .next()
    });
    match host.map(str::parse) {
        Some(Ok(address)) => address,
        _ => panic!("no http://address:port/ in the line: {line}"),
    }
}

/// Kills `pid` when this process dies: then nobody holds the other end of its input.
fn guard(pid: u32) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read _; kill -9 {pid}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("every system for these tests has sh")
}

async fn read(stream: impl AsyncRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    // An error, like the end, means that no more will come.
    while stream
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|length| length > 0)
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        lines.send_modify(|lines| lines.push(text));
        line.clear();
    }
}
