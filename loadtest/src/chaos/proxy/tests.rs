use super::*;

/// Longer than anything here takes that is to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// What shows that nothing comes: long enough for the loopback.
const SILENCE: Duration = Duration::from_millis(200);

struct Network {
    target: TcpListener,
    proxy: Proxy,
}

impl Network {
    async fn new() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap()).await.unwrap();
        Self { target, proxy }
    }

    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (server, _) = self.target.accept().await.unwrap();
        (client, server)
    }
}

async fn heard(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut buffer)).await;
    read.unwrap().unwrap();
    buffer
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(SILENCE, stream.read(&mut [0; 1])).await;
    read.is_err()
}

#[tokio::test]
async fn what_was_cut_off_passes_when_the_cut_ends() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    client.write_all(b"one").await.unwrap();
    assert_eq!(heard(&mut server, 3).await, b"one");
    network.proxy.set(Weather::Cut);
    client.write_all(b"two").await.unwrap();
    server.write_all(b"back").await.unwrap();
    let mut new = TcpStream::connect(network.proxy.address()).await.unwrap();
    new.write_all(b"new").await.unwrap();
    drop(client.write_all(b"three").await);
    assert!(is_silent(&mut server).await);
    assert!(is_silent(&mut client).await);
    network.proxy.set(Weather::Clear);
    assert_eq!(heard(&mut server, 8).await, b"twothree");
    assert_eq!(heard(&mut client, 4).await, b"back");
    let (mut accepted, _) = network.target.accept().await.unwrap();
    assert_eq!(heard(&mut accepted, 3).await, b"new");
}

#[tokio::test]
async fn a_forgotten_connection_stays_silent_and_a_new_one_passes() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    network.proxy.set(Weather::Cut);
    network.proxy.forget();
    network.proxy.set(Weather::Clear);
    client.write_all(b"lost").await.unwrap();
    server.write_all(b"lost").await.unwrap();
    let (mut new, mut accepted) = network.connect().await;
    new.write_all(b"new").await.unwrap();
    assert_eq!(heard(&mut accepted, 3).await, b"new");
    assert!(is_silent(&mut server).await);
    assert!(is_silent(&mut client).await);
}

#[tokio::test]
async fn a_reset_ends_the_connections_that_there_are() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    client.write_all(b"one").await.unwrap();
    assert_eq!(heard(&mut server, 3).await, b"one");
    network.proxy.reset();
    for end in [&mut client, &mut server] {
        let read = tokio::time::timeout(DEADLINE, end.read(&mut [0; 1])).await;
        let error = read.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let (mut new, mut accepted) = network.connect().await;
    new.write_all(b"new").await.unwrap();
    assert_eq!(heard(&mut accepted, 3).await, b"new");
}

#[tokio::test]
async fn the_end_of_one_side_reaches_the_other_after_all_that_was_sent() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    network.proxy.set(Weather::Delay(Duration::from_millis(50)));
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(DEADLINE, server.read_to_end(&mut all)).await;
    read.unwrap().unwrap();
    assert_eq!(all, b"last words");
    server.write_all(b"answer").await.unwrap();
    assert_eq!(heard(&mut client, 6).await, b"answer");
}

#[tokio::test]
async fn a_delay_and_a_throttle_take_their_time() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    for (weather, length, least) in [
        (Weather::Delay(Duration::from_millis(100)), 1, 100),
        (Weather::Throttle(10_000), 5000, 400),
    ] {
        network.proxy.set(weather);
        let sent = Instant::now();
        client.write_all(&vec![7; length]).await.unwrap();
        assert_eq!(heard(&mut server, length).await, vec![7; length]);
        assert!(
            sent.elapsed() >= Duration::from_millis(least),
            "{weather:?}"
        );
    }
}

#[tokio::test]
async fn what_nobody_reads_holds_its_sender_up() {
    let network = Network::new().await;
    let (mut client, _server) = network.connect().await;
    let mut taken = 0;
    let piece = vec![0; 1 << 20];
    while let Ok(written) = tokio::time::timeout(SILENCE, client.write(&piece)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "the proxy takes whatever comes");
    }
}

#[tokio::test]
async fn delayed_answers_are_lost_by_a_reset_and_what_they_answer_is_not() {
    let network = Network::new().await;
    let (mut client, mut server) = network.connect().await;
    network.proxy.set(Weather::DelayAnswers(2 * DEADLINE));
    client.write_all(b"question").await.unwrap();
    assert_eq!(heard(&mut server, 8).await, b"question");
    server.write_all(b"answer").await.unwrap();
    assert!(is_silent(&mut client).await);
    network.proxy.reset();
    let read = client.read(&mut [0; 1]).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
