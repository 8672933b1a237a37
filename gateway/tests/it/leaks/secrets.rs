//! Tokens, passwords and what people write, in logs, errors, figures and help.

use std::process::Command as Program;

use harness::{Mongo, Process, Redis, StompClient, StompOptions, binary};
use redis::cmd;
use shared::stomp::{Command, Frame};

use super::{answer_to, request};
use crate::wire::Wire;

/// What every secret here begins with.
const SECRET: &str = "s3cret";

/// What everything that people write or are called begins with here.
const PERSONAL: &str = "pers0nal";

/// Runs a program of ours that logs all that it can, with these settings.
fn process(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Process {
    let everything = [("RUST_LOG", "trace")];
    let variables = variables.iter().chain(&everything).copied();
    Process::run(binary::path(name), args, variables)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_nothing_personal_is_in_a_log_a_figure_or_an_error() {
    let redis = Redis::start_with(&["--requirepass", "s3cret-redis"]).await;
    let mut mongo = Mongo::start().await;
    let database = Mongo::database();
    let store = mongo.url_with(&database, "chat", "s3cret-mongo").await;
    let broker = format!("redis://:s3cret-redis@127.0.0.1:{}", redis.port());
    let urls = [("ROOMCAST_BROKER", &*broker), ("ROOMCAST_STORE", &store)];
    let patience = ["--publish-timeout=1s", "--store-timeout=1s"];
    let admin = [&patience[..], &["--admin-listen=127.0.0.1:0"]].concat();
    let all = [&admin[..], &["--listen=127.0.0.1:0"]].concat();

    let text = process("gateway", &all, &urls);
    let flags = ["--broker", &broker, "--store", &store, "--log-format=json"];
    let json = process("gateway", &[&all[..], &flags].concat(), &[]);
    let persister = process("persister", &admin, &urls);
    persister.line(|line| line.contains("is ready")).await;
    let mut said = Vec::new();
    for gateway in [&text, &json] {
        let address = gateway.ready().await.to_string();
        everywhere(&address, &mut said).await;
    }
    let seen = async |process: &Process| {
        let address = process.admin().await.to_string();
        let figures = request(&address, "GET /metrics HTTP/1.1", &[]).await;
        assert!(figures.contains("\nroomcast_"), "{figures}");
        figures
    };
    for process in [&text, &json, &persister] {
        let figures = seen(process).await;
        assert!(!figures.contains(PERSONAL), "{figures}");
        said.push(figures);
    }

    // Servers that are away, and servers that know the password no longer.
    let mut connection = redis.connection().await;
    for (name, arguments) in [
        ("CONFIG", &["SET", "requirepass", "changed"][..]),
        ("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]),
        ("CLIENT", &["KILL", "TYPE", "pubsub"]),
    ] {
        let mut command = cmd(name);
        command.arg(arguments);
        let _: redis::Value = command.query_async(&mut connection).await.unwrap();
    }
    mongo.kill().await;
    for process in [&text, &json, &persister] {
        let told = |line: &str| line.contains("AuthenticationFailed");
        process.line(told).await;
    }
    let address = text.ready().await.to_string();
    said.push(request(&address, "GET /api/rooms/r/messages HTTP/1.1", &[]).await);
    for process in [&text, &json, &persister] {
        let output = process.output();
        let written = ["pers0nal-body", "pers0nal-header"];
        let leak = |line: &&str| written.iter().any(|text| line.contains(text));
        assert_eq!(output.lines().find(leak), None);
        said.push(output);
    }
    // What is for developers is there, so that it is worth to look.
    assert!(text.output().contains("DEBUG"), "{}", text.output());
    for said in &said {
        let leak = said.lines().find(|line| line.contains(SECRET));
        assert_eq!(leak, None);
    }
}

/// Says secrets in every place that has one, and in some that have not; notes all that is answered.
async fn everywhere(address: &str, said: &mut Vec<String>) {
    let query = "access_token=s3cret-query";
    let headers = [
        "Authorization: Bearer s3cret-header",
        "Cookie: token=s3cret-cookie",
        "X-Auth-Token: s3cret-custom",
    ];
    for line in [
        "GET /ws?QUERY HTTP/1.1",
        "GET /sockjs/info?QUERY HTTP/1.1",
        "GET /sockjs/0/a/xhr?QUERY HTTP/1.1",
        "GET /api/rooms/pers0nal-room/messages?QUERY HTTP/1.1",
        "GET /api/rooms/pers0nal room/messages?QUERY HTTP/1.1",
        "GET /nothing?QUERY HTTP/1.1",
        "QUERY /nothing?QUERY HTTP/9",
    ] {
        let line = line.replace("QUERY", query);
        said.push(request(address, &line, &headers).await);
    }
    for frame in [
        // What goes wrong before there is a session, and how.
        "CONNECT\naccept-version:9\npasscode:s3cret\nAuthorization:Bearer s3cret\n\n\0",
        "CONNECT\naccept-version:1.2\nheart-beat:s3cret\npasscode:s3cret\n\n\0",
        "CONNECT\naccept-version:1.2\nlogin:a\u{7f}\npasscode:s3cret\n\n\0",
        "CONNECT\ns3cret\n\n\0",
        "CONNECT s3cret\n\n\0",
        "SEND\ndestination:/app/rooms/r\npasscode:s3cret\n\ns3cret\0",
    ] {
        let mut wire = Wire::open_at(address).await;
        wire.send(frame).await;
        said.push(wire.next().await);
    }

    let url = format!("ws://{address}/ws?{query}");
    let login = StompOptions::login("pers0nal-user");
    let options = StompOptions {
        headers: vec![
            ("Authorization".into(), "Bearer s3cret-connect".into()),
            ("passcode".into(), "s3cret-passcode".into()),
        ],
        ..login
    };
    let mut client = StompClient::connect(&url, options.clone()).await.unwrap();
    let (topic, key) = (
        "/topic/rooms/pers0nal-room",
        format!("pers0nal-key-{address}"),
    );
    client.subscribe("1", topic, &[]).await.unwrap();
    let headers = [
        ("receipt", "1"),
        ("receipt-after", "stored"),
        ("idempotency-key", &*key),
        ("authorization", "Bearer s3cret-send"),
        ("passcode", "s3cret-send"),
        ("x", "pers0nal-header"),
    ];
    client.send(topic, "pers0nal-body", &headers).await.unwrap();
    let heard = client.message().await.unwrap();
    assert_eq!(heard.body, "pers0nal-body");
    said.push(format!("{heard:?}"));
    client.receipt("1").await.unwrap();
    let wrong = Frame::new(Command::Subscribe)
        .with("id", "1")
        .with("destination", topic)
        .with("authorization", "s3cret");
    client.send_frame(wrong).await.unwrap();
    let error = client.expect(Command::Error).await.unwrap();
    said.push(format!("{error:?}"));

    let body = r#"{"body":"pers0nal-body","sender":"pers0nal-user"}"#;
    let post = format!(
        "POST /api/rooms/pers0nal-room/messages?{query} HTTP/1.1\r\nHost: {address}\r\n\
         Connection: close\r\nAuthorization: Bearer s3cret\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    said.push(answer_to(address, post.as_bytes()).await);
    let typed = post.replace("text/plain", "application/json");
    let typed = typed.replace(&format!("?{query}"), "");
    let answer = answer_to(address, typed.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let session = format!("/sockjs/0/{}", uuid::Uuid::new_v4());
    for (path, body) in [
        ("xhr", ""),
        ("xhr_send", r#"["CONNECT\npasscode:s3cret\n\n\u0000"]"#),
        ("xhr", ""),
        ("xhr_send", r#"["SEND\ns3cret\n\n\u0000"]"#),
        ("xhr", ""),
        ("xhr_send", "s3cret"),
    ] {
        let length = body.len();
        let request = format!(
            "POST {session}/{path}?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: Bearer s3cret\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        said.push(answer_to(address, request.as_bytes()).await);
    }
}

#[test]
fn help_shows_no_value_of_a_flag_that_may_hold_a_secret() {
    for name in ["gateway", "persister", "roomcast"] {
        let help = |variables: &[String]| {
            let mut program = Program::new(binary::path(name));
            program.arg("--help");
            program.envs(variables.iter().map(|name| (name, SECRET)));
            String::from_utf8(program.output().unwrap().stdout).unwrap()
        };
        let plain = help(&[]);
        let variables: Vec<_> = plain
            .split("[env: ")
            .skip(1)
            .map(|rest| rest.split([']', '=']).next().unwrap().to_owned())
            .collect();
        assert!(variables.len() > 10, "{plain}");
        let told = help(&variables);
        for variable in &variables {
            let shown = told.contains(&format!("[env: {variable}={SECRET}]"));
            // --tls-key is the name of a file.
            let has_secrets = [
                "_BROKER",
                "_STORE",
                "_KEY",
                "_HEADER",
                "_JWKS_URL",
                "_ACCESS_URL",
            ]
            .iter()
            .any(|end| variable.ends_with(end))
                && variable != "ROOMCAST_TLS_KEY";
            assert_eq!(shown, !has_secrets, "{name} --help shows {variable}");
        }
    }
}

#[test]
fn a_program_that_does_not_start_says_no_secret() {
    let (nowhere, folder) = ("127.0.0.1:1", tempfile::tempdir().unwrap());
    for (broker, store) in [
        ("redis://u:s3cret@NOWHERE", "mongodb://u:s3cret@NOWHERE/db"),
        ("redis://u:s3cret@NOWHERE", "mongodb://NOWHERE/db"),
        ("redis://u:s3cret@NOWHERE/s3cret", "mongodb://NOWHERE/db"),
        (
            "redis+sentinel://:s3cret@NOWHERE/x?sentinel_password=s3cret",
            "sqlite:x.db",
        ),
        (
            "redis+cluster://:s3cret@NOWHERE",
            "sqlite:/s3cret-no-folder/x.db",
        ),
        ("redis://:s3cret@no where", "mongodb://u:s3cret@"),
        ("s3cret", "s3cret"),
        (
            "redis://u:s3cret/x@NOWHERE",
            "mongodb://u:s3c/s3cret@NOWHERE/db",
        ),
        (
            "redis://NOWHERE",
            "mongodb://u:s3cret@NOWHERE/db?authMechanism=s3cret",
        ),
    ] {
        let [broker, store] = [broker, store].map(|url| url.replace("NOWHERE", nowhere));
        for name in ["gateway", "persister"] {
            for as_flags in [true, false] {
                let mut program = Program::new(binary::path(name));
                program
                    .env("RUST_LOG", "trace")
                    .current_dir(folder.path())
                    .args([
                        "--admin-listen",
                        "127.0.0.1:0",
                        "--connect-timeout",
                        "100ms",
                    ]);
                if as_flags {
                    program.args(["--broker", &broker, "--store", &store]);
                } else {
                    program.env("ROOMCAST_BROKER", &broker);
                    program.env("ROOMCAST_STORE", &store);
                }
                if name == "gateway" {
                    program.args(["--listen", "127.0.0.1:0"]);
                }
                let output = program.output().unwrap();
                assert!(matches!(output.status.code(), Some(64 | 69)), "{output:?}");
                let told = String::from_utf8(output.stderr).unwrap();
                let told = told.replace("/s3cret-no-folder", "");
                assert!(!told.contains(SECRET), "{broker} {store}: {told}");
            }
        }
    }
}
