//! Frames per second of the decoder and the encoder, as one connection uses them.
#![allow(missing_docs, reason = "criterion's macros write functions")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version, encode};

const SIZES: [(&str, usize); 3] = [
    ("100 octets", 100),
    ("1 KiB", 1 << 10),
    ("64 KiB", 64 << 10),
];

/// What a chat client sends.
fn send(body: usize) -> Frame {
    Frame::new(Command::Send)
        .with("destination", "/app/rooms/general")
        .with("content-type", "application/json;charset=utf-8")
        .with("receipt", "message-1042")
        .with("idempotency-key", "0198c0de-7a3b-7cc1-9f2e-5b1d3c4e5f60")
        .with("client-time", "2026-11-22T15:08:21.123Z")
        .with_body(Bytes::from(vec![b'x'; body]))
}

/// What the others get of it.
fn message(body: usize) -> Frame {
    Frame::new(Command::Message)
        .with("subscription", "sub-0")
        .with("message-id", "0198c0de-7a3b-7cc1-9f2e-5b1d3c4e5f60")
        .with("destination", "/topic/rooms/general")
        .with("sender", "kim")
        .with("created-at", "2026-11-22T15:08:21.456Z")
        .with("content-type", "application/json;charset=utf-8")
        .with("prev", "0198c0de-7a3a-7b00-8000-000000000000")
        .with("client-time", "2026-11-22T15:08:21.123Z")
        .with_body(Bytes::from(vec![b'x'; body]))
}

fn decoder() -> Decoder {
    let mut decoder = Decoder::new(Limits {
        frame_bytes: 1 << 20,
        ..Limits::default()
    });
    decoder.set_version(Version::V1_2);
    decoder
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, size) in SIZES {
        let octets = encode(&send(size), Version::V1_2);
        for (how, piece) in [("whole", octets.len()), ("in pieces of 16", 16)] {
            let mut decoder = decoder();
            group.bench_function(BenchmarkId::new(format!("SEND {name}"), how), |b| {
                b.iter(|| {
                    let mut frames = 0;
                    for piece in octets.chunks(piece) {
                        decoder.feed(black_box(piece));
                        while let Ok(Some(decoded)) = decoder.next() {
                            black_box(decoded);
                            frames += 1;
                        }
                    }
                    assert_eq!(frames, 1);
                });
            });
        }
    }
    let mut decoder = decoder();
    group.bench_function("heart-beat", |b| {
        b.iter(|| {
            decoder.feed(black_box(b"\n"));
            assert_eq!(decoder.next(), Ok(Some(Decoded::HeartBeat)));
        });
    });
    group.finish();
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    for (name, size) in SIZES {
        for (command, frame) in [("SEND", send(size)), ("MESSAGE", message(size))] {
            group.bench_function(format!("{command} {name}"), |b| {
                b.iter(|| encode(black_box(&frame), Version::V1_2));
            });
        }
    }
    let receipt = Frame::new(Command::Receipt).with("receipt-id", "message-1042");
    group.bench_function("RECEIPT", |b| {
        b.iter(|| encode(black_box(&receipt), Version::V1_2))
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decode, write
}
criterion_main!(benches);
