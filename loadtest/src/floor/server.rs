//! The loop: which sockets are ready, what they say, and who gets it.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use shared::message::{MessageId, Stamp};

use super::client::Client;
use super::request::{self, Kind, Piece, Request};
use super::room::{self, Rooms};

/// What one read takes at most.
const INPUT: usize = 64 << 10;

/// How many ready sockets the system names at once.
const READY: usize = 1024;

/// Who new clients come through; no client has this place.
const DOOR: Token = Token(usize::MAX);

/// A server of one thread.
pub(super) struct Server {
    poll: Poll,
    door: TcpListener,
    hall: Hall,
}

/// Everybody who is there.
struct Hall {
    clients: Vec<Option<Client>>,
    /// Places that are free.
    free: Vec<usize>,
    rooms: Rooms,
    /// What is written next; it is kept for its memory.
    frame: Vec<u8>,
    /// Who did not take what it was offered.
    slow: Vec<usize>,
    stamp: Stamp,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut door = TcpListener::bind(address)?;
        poll.registry()
            .register(&mut door, DOOR, Interest::READABLE)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // One clock reading is enough: the sequence goes on where the milliseconds do not.
        let ms = now.map_or(0, |now| now.as_millis() as u64);
        Ok(Self {
            poll,
            door,
            hall: Hall {
                clients: Vec::new(),
                free: Vec::new(),
                rooms: Rooms::default(),
                frame: Vec::new(),
                slow: Vec::new(),
                stamp: Stamp { ms, seq: 0 },
            },
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Never after [`bind`](Self::bind), on the systems that are known.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.door.local_addr()
    }

    /// Serves; returns only why it could not go on.
    pub(super) fn serve(&mut self) -> io::Error {
        let mut events = Events::with_capacity(READY);
        let mut input = vec![0; INPUT];
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error,
            }
            for event in &events {
                match event.token() {
                    DOOR => self.admit(),
                    Token(place) => self.hall.hear(place, event, &mut input),
                }
            }
        }
    }

    /// Lets in who waits at the door. When descriptors run out it stays closed until the next knock.
    fn admit(&mut self) {
        while let Ok((mut stream, _)) = self.door.accept() {
            let place = self.hall.free.pop().unwrap_or_else(|| {
                self.hall.clients.push(None);
                self.hall.clients.len() - 1
            });
            let registry = self.poll.registry();
            // Only for reading: the system need not say that there is room to write.
            let ready = stream
                .set_nodelay(true)
                .and_then(|()| registry.register(&mut stream, Token(place), Interest::READABLE));
            if ready.is_err() {
                self.hall.free.push(place);
                continue;
            }
            self.hall.clients[place] = Some(Client::new(stream));
        }
    }
}

impl Hall {
    /// Reads all that a client has sent, and does it.
    fn hear(&mut self, place: usize, event: &Event, input: &mut [u8]) {
        loop {
            // An event may be left over from who had this place before.
            let Some(client) = self.clients.get_mut(place).and_then(Option::as_mut) else {
                return;
            };
            let read = match client.read(input) {
                Ok(0) => return self.part(place),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.part(place),
            };
            let heard = if client.rest.is_empty() {
                self.obey(place, &mut input[..read])
            } else {
                let mut all = std::mem::take(&mut client.rest);
                all.extend_from_slice(&input[..read]);
                self.obey(place, &mut all)
            };
            if heard.is_err() {
                self.part(place);
            }
            while let Some(slow) = self.slow.pop() {
                self.part(slow);
            }
            // Edge-triggered: what comes later is said again, unless it was the end.
            if read < input.len() && !event.is_read_closed() {
                return;
            }
        }
    }

    /// Does what these octets say, and keeps those whose message has not all come.
    fn obey(&mut self, place: usize, mut octets: &mut [u8]) -> Result<(), ()> {
        while !octets.is_empty() {
            let client = self.clients[place].as_mut().ok_or(())?;
            if !client.is_open {
                let Some((answer, length)) = request::opened(octets)? else {
                    client.rest = octets.to_vec();
                    return Ok(());
                };
                client.is_open = true;
                if !client.offer(answer.as_bytes()) {
                    return Err(());
                }
                octets = &mut octets[length..];
                continue;
            }
            let Some(Piece {
                kind,
                payload,
                next,
            }) = request::message(octets)?
            else {
                client.rest = octets.to_vec();
                return Ok(());
            };
            match kind {
                Kind::Data => {
                    if let Some(frame) = Request::parse(payload)? {
                        self.answer(place, &frame)?;
                    }
                }
                Kind::Ping => {
                    let length = u8::try_from(payload.len()).map_err(drop)?;
                    if !client.offer(&[&[0x8a, length], &*payload].concat()) {
                        return Err(());
                    }
                }
                Kind::Pong => {}
                Kind::Close => {
                    // RFC 6455, section 5.5.1: the same goes back, and then the connection ends.
                    client.offer(&[0x88, 0]);
                    return Err(());
                }
            }
            octets = &mut octets[next..];
        }
        Ok(())
    }

    /// Does what a frame says.
    fn answer(&mut self, place: usize, request: &Request<'_>) -> Result<(), ()> {
        let client = self.clients[place].as_mut().ok_or(())?;
        self.frame.clear();
        match request.command {
            "SEND" => return self.send(place, request),
            "CONNECT" | "STOMP" => {
                client.name = request.header("login").unwrap_or_default().into();
                room::connected(&mut self.frame);
            }
            "SUBSCRIBE" => {
                let id = request.header("id").ok_or(())?;
                let destination = request.header("destination").ok_or(())?;
                let number = self.rooms.number(destination);
                client.rooms.push((id.into(), number));
                self.rooms.room(number).join(place, id, destination);
            }
            "UNSUBSCRIBE" => {
                let id = request.header("id").ok_or(())?;
                let found = client.rooms.iter().position(|(known, _)| **known == *id);
                if let Some(found) = found {
                    let (_, number) = client.rooms.remove(found);
                    self.rooms.room(number).leave(place);
                }
            }
            "DISCONNECT" => {}
            _ => return Err(()),
        }
        if let Some(receipt) = request.header("receipt") {
            room::receipt(&mut self.frame, receipt, None);
        }
        match self.frame.is_empty() || client.offer(&self.frame) {
            true => Ok(()),
            false => Err(()),
        }
    }

    /// Offers a message to each member of its room, once. The sender's RECEIPT leaves with its own copy,
    /// where it has one.
    fn send(&mut self, sender: usize, request: &Request<'_>) -> Result<(), ()> {
        let destination = request.header("destination").ok_or(())?;
        let from = self.clients[sender].as_ref().ok_or(())?;
        let mut receipt = request.header("receipt");
        self.stamp.seq += 1;
        let id = MessageId::new(self.stamp, 0);
        let number = self.rooms.number(destination);
        for group in &self.rooms.room(number).groups {
            group.message(&mut self.frame, id, &from.name, request.body);
            let length = self.frame.len();
            for &member in &group.members {
                let Some(client) = &self.clients[member] else {
                    continue;
                };
                let receipt = if member == sender {
                    receipt.take()
                } else {
                    None
                };
                let is_taken = match receipt {
                    None => client.offer(&self.frame[..length]),
                    Some(receipt) => {
                        room::receipt(&mut self.frame, receipt, Some(id));
                        client.offer(&self.frame)
                    }
                };
                if !is_taken {
                    self.slow.push(member);
                }
            }
        }
        if let Some(receipt) = receipt {
            self.frame.clear();
            room::receipt(&mut self.frame, receipt, Some(id));
            if !from.offer(&self.frame) {
                return Err(());
            }
        }
        Ok(())
    }

    /// Ends a client's connection.
    fn part(&mut self, place: usize) {
        if let Some(client) = self.clients.get_mut(place).and_then(Option::take) {
            for (_, number) in &client.rooms {
                self.rooms.room(*number).leave(place);
            }
            self.free.push(place);
        }
    }
}
