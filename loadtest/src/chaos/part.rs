//! One process of ours, which is ended and started again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Starts a program whose files cannot grow past a size, in units of 512 octets. It gets an error
/// then, as on a full disk, and not the signal that would end it.
const WITHIN: &str = r#"trap '' XFSZ; ulimit -f "$0"; exec "$@""#;

/// What a program says whose port another has.
const TAKEN: &str = "Address already in use";

/// How often a port is tried, and how long it is left alone in between.
const PORT_ATTEMPTS: u32 = 20;
const PORT_PAUSE: Duration = Duration::from_millis(250);

/// A gateway, a persister or a `roomcast`. It has the same ports and flags whenever it is started.
pub(crate) struct Part {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Part {
    /// Starts it, and returns once it is ready. Its log goes to a file of `logs` when it ends.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn start(
        name: String,
        program: PathBuf,
        args: Vec<String>,
        logs: &Path,
    ) -> Self {
        let log = logs.join(format!("{name}.log"));
        let mut part = Self {
            name,
            program,
            args,
            log,
            process: None,
        };
        part.restart().await;
        part
    }

    /// Its name in logs and reports.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts it again, once it has ended.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn restart(&mut self) {
        self.save();
        let (program, args) = (self.program.clone(), self.args.clone());
        self.until_ready(|| Process::spawn_at(&program, &args))
            .await;
    }

    /// Starts it again, with files that cannot grow past `bytes`.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn restart_within(&mut self, bytes: u64) {
        self.save();
        let program = self.program.to_string_lossy().into_owned();
        let shell = [
            "-c".into(),
            WITHIN.into(),
            (bytes / 512).to_string(),
            program,
        ];
        let args = [&shell[..], &self.args].concat();
        self.until_ready(|| Process::spawn_at(Path::new("sh"), &args))
            .await;
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().await;
        }
        self.save();
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub(crate) async fn terminate(&mut self) {
        if let Some(process) = &mut self.process {
            process.terminate().await;
            process.wait().await;
        }
        self.save();
    }

    /// Freezes it with SIGSTOP.
    pub(crate) async fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause().await;
        }
    }

    /// Lets it go on after [`Part::pause`].
    pub(crate) async fn resume(&self) {
        if let Some(process) = &self.process {
            process.resume().await;
        }
    }

    /// What it last said, when it was started and has ended by itself, which it must not.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        if process.runs() {
            return None;
        }
        let output = process.output();
        let last = output.lines().last().unwrap_or("it said nothing");
        Some(format!("{} ended by itself: {last}", self.name))
    }

    /// What its operators see; nothing while it does not answer.
    pub(crate) async fn metrics(&self, within: Duration) -> String {
        let Some(process) = &self.process else {
            return String::new();
        };
        let address = process.admin().await;
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = "GET /metrics HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = timeout(within, asked).await;
        answer.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Starts it until it is ready: while it was dead, another program may have held its port for a
    /// moment.
    async fn until_ready(&mut self, start: impl Fn() -> Process) {
        for attempts_left in (0..PORT_ATTEMPTS).rev() {
            let process = self.process.insert(start());
            let is_told = |line: &str| line.contains(" is ready") || line.contains(TAKEN);
            let line = process.line(is_told).await;
            if !line.contains(TAKEN) {
                return;
            }
            self.save();
            assert!(attempts_left > 0, "{}: {line}", self.name);
            sleep(PORT_PAUSE).await;
        }
    }

    /// Ends what there is of a process, and appends what it wrote to its log.
    fn save(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        let output = process.output();
        let file = OpenOptions::new().create(true).append(true).open(&self.log);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{output}\n---")) {
            eprintln!("the log {} cannot be written: {error}", self.log.display());
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.save();
    }
}
