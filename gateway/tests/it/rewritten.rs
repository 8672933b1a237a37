//! What a gateway does when Redis has something else than what it has said: a message that was not
//! published, a window that is gone, a server that took another's place and never had what the
//! other had shown.

use harness::{Redis, StompClient};
use redis::Script;
use shared::stomp::{Command, Frame};

use crate::running::{Backend, Running, redis_backend};

const TOPIC: &str = "/topic/rooms/r";

/// Repeats the newest entry of the journal under another id, without publishing it. ARGV: the
/// id, the message before it. With a third, that entry is taken out of the window, and put back in
/// behind the new one.
const SLIP_IN: &str = r"
    local entry = redis.call('XREVRANGE', 'rc:{0}:journal', '+', '-', 'COUNT', 1)[1]
    local payload
    for at = 1, #entry[2], 2 do
        if entry[2][at] == 'payload' then payload = entry[2][at + 1] end
    end
    if ARGV[3] then redis.call('DEL', 'rc:{0}:recent:r', 'rc:{0}:journal') end
    local id = redis.call('XADD', 'rc:{0}:journal', ARGV[1],
        'room', 'r', 'payload', payload, 'notify', '', 'prev', ARGV[2])
    redis.call('XADD', 'rc:{0}:recent:r', id, 'payload', payload, 'prev', ARGV[2])
    return id";

struct World {
    redis: Redis,
    backend: Backend,
    gateway: Running,
    client: StompClient,
}

impl World {
    /// A member of a room in which one message was sent, and that one.
    async fn new(flags: &[&str]) -> (Self, Frame) {
        let redis = Redis::start().await;
        let backend = redis_backend(&redis, &["--shards", "1"]).await;
        let gateway = backend.gateway(flags).await;
        let mut client = gateway.client("kim").await;
        client.subscribe("s", TOPIC, &[]).await.unwrap();
        let mut world = Self {
            redis,
            backend,
            gateway,
            client,
        };
        let first = world.send("1").await;
        (world, first)
    }

    async fn send(&mut self, body: &'static str) -> Frame {
        self.client.send("/app/rooms/r", body, &[]).await.unwrap();
        self.client.message().await.unwrap()
    }

    async fn slip_in(&self, arguments: &[&str]) {
        let script = Script::new(SLIP_IN);
        let mut call = script.prepare_invoke();
        for argument in arguments {
            call.arg(*argument);
        }
        let mut connection = self.redis.connection().await;
        call.invoke_async::<String>(&mut connection).await.unwrap();
    }

    async fn cut_links(&self) {
        let mut connection = self.redis.connection().await;
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        kill.query_async::<u64>(&mut connection).await.unwrap();
    }
}

/// A message's id as Redis has it.
fn stamp(message: &Frame, later: i64) -> String {
    let id: shared::message::MessageId = message.header("message-id").unwrap().parse().unwrap();
    let stamp = id.stamp();
    format!("{}-{}", stamp.ms.saturating_add_signed(later), stamp.seq)
}

#[tokio::test]
async fn a_message_that_was_not_heard_comes_before_the_one_that_names_it() {
    let (mut world, first) = World::new(&[]).await;
    world.slip_in(&["*", &stamp(&first, 0)]).await;
    let missed = world.send("2").await;
    assert_eq!(missed.body, "1", "the repeated one");
    assert_eq!(world.client.message().await.unwrap().body, "2");
    assert_eq!(world.gateway.metrics.gateway.gaps_repaired.get(), 1);
}

#[tokio::test]
async fn a_message_that_was_not_heard_comes_although_the_window_has_expired() {
    let (mut world, first) = World::new(&[]).await;
    world.slip_in(&["*", &stamp(&first, 0)]).await;
    let mut connection = world.redis.connection().await;
    let mut forget = redis::cmd("DEL");
    forget.arg("rc:{0}:recent:r");
    forget.query_async::<()>(&mut connection).await.unwrap();
    let missed = world.send("2").await;
    assert_eq!(missed.body, "1", "the repeated one");
    let newest = world.client.message().await.unwrap();
    assert_eq!((&*newest.body, newest.header("prev")), (&b"2"[..], None));
}

#[tokio::test]
async fn without_looking_at_prev_a_message_that_was_not_heard_is_missed() {
    let (mut world, first) = World::new(&["--without", "prev-check"]).await;
    world.slip_in(&["*", &stamp(&first, 0)]).await;
    assert_eq!(world.send("2").await.body, "2");
}

#[tokio::test]
async fn without_repair_a_message_that_was_not_heard_is_missed() {
    let (mut world, first) = World::new(&["--without", "gap-repair"]).await;
    world.slip_in(&["*", &stamp(&first, 0)]).await;
    assert_eq!(world.send("2").await.body, "2");
}

#[tokio::test]
async fn who_has_seen_what_is_gone_is_told_when_something_else_came_before_it() {
    let (mut world, _) = World::new(&[]).await;
    // Redis must know the first one from elsewhere: a persister has stored it.
    let storing = world.backend.storing().await;
    let broker = &world.backend.broker;
    harness::until("the first to be stored", async || {
        broker.backlog().await.is_ok_and(|backlog| backlog == 0)
    })
    .await;
    storing.abort();
    let shown = world.send("2").await;
    // Another server took the place of Redis. It never had this one, and has another before it.
    world.slip_in(&[&stamp(&shown, -1), "", "anew"]).await;
    world.cut_links().await;
    let error = world.client.expect(Command::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("gap"));

    // What it has seen is nowhere, so that nobody can say what came after it.
    let mut back = world.gateway.client("kim").await;
    let after = [("after", shown.header("message-id").unwrap())];
    let told = back.subscribe("s", TOPIC, &after).await.unwrap();
    assert_eq!(told.header("recovered"), Some("false"));
    // And what comes now is not held against it.
    back.send("/app/rooms/r", "3", &[]).await.unwrap();
    assert_eq!(back.message().await.unwrap().body, "3");
}

#[tokio::test]
async fn who_has_seen_only_what_is_gone_is_told_too() {
    let (world, first) = World::new(&[]).await;
    // To this one the room begins with that message.
    let gateway = world.backend.gateway(&[]).await;
    let mut client = gateway.client("lee").await;
    client.subscribe("s", TOPIC, &[]).await.unwrap();
    let mut connection = world.redis.connection().await;
    let flush = redis::cmd("FLUSHALL");
    flush.query_async::<()>(&mut connection).await.unwrap();
    world.cut_links().await;
    let error = client.expect(Command::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("gap"));
    let mut back = gateway.client("lee").await;
    let after = [("after", first.header("message-id").unwrap())];
    let told = back.subscribe("s", TOPIC, &after).await.unwrap();
    assert_eq!(told.header("recovered"), Some("false"));
}

#[tokio::test]
async fn an_after_that_the_room_never_had_hides_nothing_that_is_new() {
    let (world, _) = World::new(&[]).await;
    let mut client = world.gateway.client("lee").await;
    let far_ahead = [("after", "0fffffff-ffff-7000-8000-000000000000")];
    let told = client.subscribe("s", TOPIC, &far_ahead).await.unwrap();
    assert_eq!(told.header("recovered"), Some("false"));
    client.send("/app/rooms/r", "2", &[]).await.unwrap();
    assert_eq!(client.message().await.unwrap().body, "2");
}
