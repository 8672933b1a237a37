//! A MongoDB for tests: a replica set of one node.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::doc;
pub use mongodb::bson::{Bson, Document};
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::{Client, error};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::until::DEADLINE;
use crate::{cache, port};

/// How long between two looks at a server that is starting.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the server, says its id, and waits for a word or the end of the test process: then it
/// kills the server, and removes its data unless the word is `keep`.
const GUARD: &str = r#"
    data=$1; shift
    "$@" >"$data/output" 2>&1 &
    echo $!
    read -r word
    kill -9 $!; wait $!
    [ "$word" = keep ] || rm -rf "$data"
"#;

/// A running mongod, killed and removed when this is dropped or the test process dies.
pub struct Mongo {
    program: PathBuf,
    data: PathBuf,
    port: u16,
    options: Vec<String>,
    server: Option<Server>,
}

struct Server {
    guard: Child,
    pid: u32,
}

impl Mongo {
    /// Starts one that takes writes.
    ///
    /// # Panics
    /// When there is no mongod, saying how to get one, or it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one that takes writes, with further options: `--tlsMode preferTLS`. It must listen
    /// without TLS too.
    ///
    /// # Panics
    /// As [`Mongo::start`].
    pub async fn start_with(options: &[&str]) -> Self {
        let mongo = Self::spawn_with(options).await;
        let config = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": mongo.host() }] };
        mongo.command(doc! { "replSetInitiate": config }).await;
        mongo.writable().await;
        mongo
    }

    /// Writes a membership as an application does: what a user may do in a room, or nothing.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn write_membership(
        &self,
        database: &str,
        room: &str,
        user: &str,
        rights: Option<&str>,
    ) {
        let client = self.client();
        let memberships = client
            .database(database)
            .collection::<Document>("memberships");
        let key = doc! { "room": room, "user": user };
        let written = match rights {
            Some(rights) => {
                let set = doc! { "$set": { "rights": rights } };
                let written = memberships.update_one(key, set).upsert(true).await;
                written.map(drop)
            }
            None => memberships.delete_one(key).await.map(drop),
        };
        written.expect("the server takes a membership");
    }

    /// Starts a second node that follows this one. A majority is both of them from then on; this
    /// one stays the primary for a minute while the other is silent.
    ///
    /// # Panics
    /// As [`Mongo::start`].
    pub async fn follower(&self) -> Self {
        let follower = Self::spawn_somewhere().await;
        let found = self.command(doc! { "replSetGetConfig": 1 }).await;
        let found = found.get_document("config");
        let mut config = found.expect("the set is initiated").clone();
        let version = config
            .get_i32("version")
            .expect("every configuration has one");
        let member = doc! { "_id": 1, "host": follower.host(), "priority": 0 };
        config.insert("version", version + 1);
        config.insert("settings", doc! { "electionTimeoutMillis": 60_000 });
        config.insert(
            "members",
            vec![doc! { "_id": 0, "host": self.host() }, member],
        );
        self.command(doc! { "replSetReconfig": config }).await;
        // A new member has no vote until it has caught up.
        let deadline = Instant::now() + DEADLINE;
        let majority = async || {
            let status = self.command(doc! { "replSetGetStatus": 1 }).await;
            status.get_i32("writeMajorityCount").ok()
        };
        while majority().await != Some(2) {
            assert!(Instant::now() < deadline, "the follower does not catch up");
            sleep(LOOK).await;
        }
        follower
    }

    /// The one that the tests of a binary share, each with a [`Mongo::database`] of its own.
    ///
    /// # Panics
    /// As [`Mongo::start`].
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Mongo> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A name that no other database has.
    pub fn database() -> String {
        format!("test-{}", Uuid::new_v4().simple())
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("mongodb://{}/{database}?replicaSet=rs0", self.host())
    }

    /// The URL of a database for a user who has just been given this password.
    ///
    /// # Panics
    /// When the server does not take the user.
    pub async fn url_with(&self, database: &str, user: &str, password: &str) -> String {
        self.command(doc! { "createUser": user, "pwd": password, "roles": ["root"] })
            .await;
        let host = self.host();
        format!("mongodb://{user}:{password}@{host}/{database}?replicaSet=rs0&authSource=admin")
    }

    /// The names of a database's collections, sorted.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn collections(&self, database: &str) -> Vec<String> {
        let database = self.client().database(database);
        let mut names = database.list_collection_names().await.expect("it answers");
        names.sort();
        names
    }

    /// All documents of a collection, in no order.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn documents(&self, database: &str, collection: &str) -> Vec<Document> {
        let collection = self.client().database(database).collection(collection);
        let found = collection.find(doc! {}).await.expect("it answers");
        found.try_collect().await.expect("it answers")
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.pid)
    }

    /// Ends it with SIGKILL, and returns once it is gone. Its data stay for [`Mongo::restart`].
    pub async fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let ended = tokio::task::spawn_blocking(move || {
            let mut input = server.guard.stdin.take().expect("it is piped");
            input.write_all(b"keep\n")?;
            server.guard.wait()
        });
        ended
            .await
            .expect("it does not panic")
            .expect("the guard runs until it is told to end");
    }

    /// Asks it to end, with SIGTERM, and returns once it has. Its data stay.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn terminate(&mut self) {
        self.signal("TERM").await;
        let pid = self.server.as_ref().expect("it runs").pid.to_string();
        // One that has ended, and is not waited for, has an empty command line.
        let line = Path::new("/proc").join(pid).join("cmdline");
        let deadline = Instant::now() + DEADLINE;
        while !std::fs::read(&line).unwrap_or_default().is_empty() {
            assert!(Instant::now() < deadline, "mongod does not end");
            sleep(LOOK).await;
        }
        self.kill().await;
    }

    /// The newest that it has logged, 1 MiB at most.
    pub fn newest_log(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(1 << 20)..]).into_owned()
    }

    /// Starts it again after [`Mongo::kill`], with its data, on the same port.
    ///
    /// # Panics
    /// When it does not take writes in time.
    pub async fn restart(&mut self) {
        self.revive().await;
        self.writable().await;
    }

    /// Stops it where it is: its connections stay open and silent.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on after [`Mongo::pause`].
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    /// Whether it was started and not killed since; a frozen one runs too.
    pub(crate) fn runs(&self) -> bool {
        self.server.is_some()
    }

    /// As [`Mongo::restart`], for one that need not become the primary.
    pub(crate) async fn revive(&mut self) {
        assert!(self.server.is_none(), "it still runs");
        self.spawn();
        assert!(self.is_up().await, "port {} was taken meanwhile", self.port);
    }

    /// Starts it on a free port. Another process may take that first: then on the next.
    pub(crate) async fn spawn_somewhere() -> Self {
        Self::spawn_with(&[]).await
    }

    async fn spawn_with(options: &[&str]) -> Self {
        let program = program().unwrap_or_else(|reason| panic!("{reason}"));
        let name = format!("roomcast-mongod-{}", Uuid::new_v4().simple());
        let data = std::env::temp_dir().join(name);
        std::fs::create_dir(&data).expect("the folder for temporary files can be written");
        let mut mongo = Self {
            program,
            data,
            port: 0,
            options: options.iter().map(ToString::to_string).collect(),
            server: None,
        };
        for _ in 0..5 {
            mongo.port = port::free();
            mongo.spawn();
            if mongo.is_up().await {
                return mongo;
            }
            mongo.kill().await;
        }
        panic!("mongod finds no free port");
    }

    fn spawn(&mut self) {
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard"])
            .arg(&self.data)
            .arg(&self.program);
        command.arg("--dbpath").arg(&self.data);
        command.arg("--logpath").arg(self.log()).arg("--logappend");
        command.args(["--port", &self.port.to_string(), "--bind_ip", "127.0.0.1"]);
        command.args(["--replSet", "rs0", "--oplogSize", "64", "--nounixsocket"]);
        command.args(["--wiredTigerCacheSizeGB", "0.25"]);
        command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        command.args(["--setParameter", "ttlMonitorSleepSecs=1"]);
        command.args(&self.options);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut guard = command
            .spawn()
            .expect("every system for these tests has sh");
        let mut pid = String::new();
        let output = guard.stdout.take().expect("it is piped");
        BufReader::new(output)
            .read_line(&mut pid)
            .expect("sh writes a line");
        let pid = pid.trim().parse().expect("the line is a process id");
        self.server = Some(Server { guard, pid });
    }

    /// Waits until it answers; `false` when its port was taken.
    async fn is_up(&self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        let client = self.client();
        while let Err(error) = command(&client, doc! { "ping": 1 }).await {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            if log.contains("Address already in use") {
                return false;
            }
            assert!(
                Instant::now() < deadline,
                "mongod does not start: {error}\n{}",
                tail(&log)
            );
            sleep(LOOK).await;
        }
        true
    }

    async fn writable(&self) {
        let deadline = Instant::now() + DEADLINE;
        let client = self.client();
        loop {
            let hello = command(&client, doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "mongod does not become the primary"
            );
            sleep(LOOK).await;
        }
    }

    pub(crate) async fn command(&self, wanted: Document) -> Document {
        let answer = command(&self.client(), wanted.clone()).await;
        answer.unwrap_or_else(|error| panic!("mongod refuses {wanted}: {error}"))
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client of this node alone, whatever its state.
    pub(crate) fn client(&self) -> Client {
        let host = ServerAddress::Tcp {
            host: "127.0.0.1".into(),
            port: Some(self.port),
        };
        let options = ClientOptions::builder()
            .hosts(vec![host])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_secs(1))
            .build();
        Client::with_options(options).expect("the options are complete")
    }

    fn log(&self) -> PathBuf {
        self.data.join(format!("mongod-{}.log", self.port))
    }

    async fn signal(&self, name: &str) {
        let pid = self.server.as_ref().expect("it runs").pid.to_string();
        let mut kill = tokio::process::Command::new("kill");
        let sent = kill.args(["-s", name, &pid]).status().await;
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -s {name} {pid} failed"
        );
    }
}

impl Drop for Mongo {
    fn drop(&mut self) {
        if self.server.is_none() {
            // Nobody is left who would do it.
            std::fs::remove_dir_all(&self.data).ok();
        }
    }
}

/// How many queries the server at this URL has answered since it was started; `None` when it does
/// not answer.
pub async fn queries(url: &str) -> Option<u64> {
    let client = Client::with_uri_str(url).await.ok()?;
    let status = command(&client, doc! { "serverStatus": 1 }).await.ok()?;
    let count = status.get_document("opcounters").ok()?.get("query")?;
    let count = count.as_i64().or_else(|| count.as_i32().map(i64::from));
    u64::try_from(count?).ok()
}

async fn command(client: &Client, command: Document) -> error::Result<Document> {
    client.database("admin").run_command(command).await
}

/// Where mongod is: what `ROOMCAST_MONGOD` names, in `PATH`, or where `scripts/test` puts it.
///
/// # Errors
/// A line that says what to do, when there is none.
pub fn program() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("ROOMCAST_MONGOD") {
        let given = PathBuf::from(given);
        return match given.is_file() {
            true => Ok(given),
            false => Err(format!("ROOMCAST_MONGOD is no file: {}", given.display())),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = cache::folder().map(|cache| cache.join("mongod-6.0.5"));
    std::env::split_paths(&path)
        .chain(installed)
        .map(|folder| folder.join("mongod"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            "there is no mongod: `scripts/test` installs it, or set ROOMCAST_MONGOD".into()
        })
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
