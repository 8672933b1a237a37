"""stomp.py over its WebSocket transport, in every version of STOMP."""

import itertools
import os
import queue
import sys
from urllib.parse import urlsplit

from stomp import ConnectionListener
from stomp.adapter.ws import WSStompConnection, WSTransport
from stomp.connect import BaseConnection, StompConnection10, StompConnection11
from stomp.protocol import Protocol10, Protocol11

WAIT = 30
# The flag that the test starts the server with.
MAX_UNACKNOWLEDGED = 4

URL = urlsplit(os.environ["ROOMCAST_URL"])
AT = {"host_and_ports": [(URL.hostname, URL.port)], "ws_path": "/ws"}


class Connection10(StompConnection10):
    """The library's own WebSocket connection is for 1.2 only, and made like this."""

    def __init__(self, **options):
        transport = WSTransport(**options)
        BaseConnection.__init__(self, transport)
        Protocol10.__init__(self, transport)


class Connection11(StompConnection11):
    def __init__(self, heartbeats=(0, 0), heart_beat_receive_scale=1.5, **options):
        transport = WSTransport(**options)
        BaseConnection.__init__(self, transport)
        Protocol11.__init__(self, transport, heartbeats, heart_beat_receive_scale=heart_beat_receive_scale)


CONNECTIONS = {"1.0": Connection10, "1.1": Connection11, "1.2": WSStompConnection}


class Peer(ConnectionListener):
    """A connection, and what has come over it."""

    def __init__(self, version, login="ada", **options):
        self.version = version
        self.connects, self.errors, self.ends = queue.Queue(), queue.Queue(), queue.Queue()
        self.beats = {"sent": queue.Queue(), "heard": queue.Queue()}
        self.inboxes, self.receipts = {}, {}
        self.ids = itertools.count(1)
        self.client = CONNECTIONS[version](**AT, **options)
        self.client.set_listener("test", self)
        self.client.connect(login, "", wait=True)
        self.connected = take(self.connects, "CONNECTED")

    def on_connected(self, frame):
        self.connects.put(frame.headers)

    def on_message(self, frame):
        # A subscription without an id is the only one of its connection here.
        self.inboxes[frame.headers.get("subscription")].put(frame)

    def on_receipt(self, frame):
        self.receipts[frame.headers["receipt-id"]].put(frame.headers)

    def on_error(self, frame):
        self.errors.put(frame)

    def on_disconnected(self):
        self.ends.put(True)

    def on_heartbeat(self):
        self.beats["heard"].put(True)

    def on_send(self, frame):
        if frame.cmd is None:
            self.beats["sent"].put(True)

    def receipt(self):
        name = f"r-{next(self.ids)}"
        self.receipts[name] = queue.Queue()
        return name, lambda: self.take(self.receipts[name], f"the receipt {name}")

    def subscribe(self, destination, ack="auto", **headers):
        sub = None if self.version == "1.0" and not self.inboxes else f"s-{next(self.ids)}"
        self.inboxes[sub] = queue.Queue()
        name, receipt = self.receipt()
        self.client.subscribe(destination, id=sub, ack=ack, receipt=name, **headers)
        receipt()
        return sub

    def send(self, destination, body, **headers):
        name, receipt = self.receipt()
        self.client.send(destination, body, receipt=name, headers=headers)
        return receipt()

    def message(self, sub):
        return self.take(self.inboxes[sub], f"a message of the subscription {sub}")

    def answer(self, verb, frame, **more):
        """Acknowledges as the version has it."""
        if self.version == "1.2":
            verb(frame.headers["ack"], **more)
        elif self.version == "1.1":
            verb(frame.headers["message-id"], frame.headers["subscription"], **more)
        else:
            verb(frame.headers["message-id"], **more)

    def take(self, box, what):
        try:
            return take(box, what)
        except AssertionError as broken:
            errors = [(frame.headers, frame.body) for frame in self.errors.queue]
            raise AssertionError(f"{broken}; ERRORs: {errors}") from None

    def leave(self):
        name, receipt = self.receipt()
        self.client.disconnect(receipt=name)
        receipt()
        self.take(self.ends, "the end of the connection")


def take(box, what):
    try:
        return box.get(timeout=WAIT)
    except queue.Empty:
        raise AssertionError(f"waited in vain for {what}") from None


def same(heard, wanted):
    assert heard == wanted, f"{heard!r} instead of {wanted!r}"


def talks(version):
    topic, app = f"/topic/rooms/talk-{version}", f"/app/rooms/talk-{version}"
    ada, ben = Peer(version), Peer(version, "ben", binary_mode=True)
    same(ada.connected["version"], version)
    inboxes = [(peer, peer.subscribe(topic)) for peer in (ada, ben)]
    odd = "https://chat.example/a:b 한글" if version == "1.0" else "C:\\temp\nsecond: 한글 👋"
    for sender, login in ((ada, "ada"), (ben, "ben")):
        body = f"안녕하세요 👋 {version}\n둘째 줄 " + "가나다 " * 4000
        receipt = sender.send(app, body, **{"content-type": "text/plain;charset=utf-8", "x-odd": odd})
        for peer, inbox in inboxes:
            message = peer.message(inbox)
            same(message.body, body)
            same(message.headers["message-id"], receipt["message-id"])
            same(message.headers["sender"], login)
            same(message.headers["x-odd"], odd)
    ben.leave()
    ada.leave()


def acknowledges(version):
    topic, app = f"/topic/rooms/ack-{version}", f"/app/rooms/ack-{version}"
    for mode in ("client", "client-individual"):
        ada = Peer(version)
        client = ada.client
        window = ada.subscribe(topic, ack=mode)
        every = ada.subscribe(topic)
        bodies = [f"{mode} {number}" for number in range(3 * MAX_UNACKNOWLEDGED)]
        for body in bodies:
            ada.send(app, body)
        for body in bodies:
            same(ada.message(every).body, body)
        seen = [ada.message(window) for _ in range(MAX_UNACKNOWLEDGED)]
        same([frame.body for frame in seen], bodies[:MAX_UNACKNOWLEDGED])
        assert ada.inboxes[window].empty()
        # In a transaction it counts from COMMIT on.
        transaction = client.begin()
        ada.answer(client.ack, seen[2], transaction=transaction)
        ada.send(app, "mark")
        same(ada.message(every).body, "mark")
        assert ada.inboxes[window].empty()
        client.commit(transaction)
        freed = 3 if mode == "client" else 1
        if version != "1.0":
            ada.answer(client.nack, seen[3])
            freed += 1
        more = [ada.message(window).body for _ in range(freed)]
        same(more, bodies[MAX_UNACKNOWLEDGED : MAX_UNACKNOWLEDGED + freed])
        ada.send(app, "mark")
        same(ada.message(every).body, "mark")
        assert ada.inboxes[window].empty()
        ada.leave()


def transacts(version):
    topic, app = f"/topic/rooms/transaction-{version}", f"/app/rooms/transaction-{version}"
    ada = Peer(version)
    inbox = ada.subscribe(topic)
    kept, dropped = ada.client.begin(), ada.client.begin()
    ada.client.send(app, "one", transaction=kept)
    ada.client.send(app, "never", transaction=dropped)
    ada.client.send(app, "two", transaction=kept)
    ada.send(app, "at once")
    same(ada.message(inbox).body, "at once")
    ada.client.abort(dropped)
    name, receipt = ada.receipt()
    ada.client.commit(kept, receipt=name)
    receipt()
    ada.send(app, "after")
    same([ada.message(inbox).body for _ in range(3)], ["one", "two", "after"])
    ada.leave()


def refuses(version):
    ada = Peer(version)
    ada.client.send("/app/nowhere", "x", receipt="r")
    error = take(ada.errors, "the ERROR")
    same(error.headers["code"], "bad-destination")
    same(error.headers["receipt-id"], "r")
    assert "destination" in error.headers["message"], error.headers
    take(ada.ends, "the end of the connection")


def beats(version):
    idle = Peer(version, heartbeats=(1000, 1000), heart_beat_receive_scale=10)
    for way in ("sent", "heard"):
        for _ in range(3):
            idle.take(idle.beats[way], f"a heart-beat {way}")
    idle.send("/app/rooms/idle", "still here")
    idle.leave()


def binary():
    octets = bytes(range(256)) * 64
    ada = Peer("1.2", binary_mode=True, auto_decode=False)
    inbox = ada.subscribe("/topic/rooms/binary")
    ada.send("/app/rooms/binary", octets, **{"content-type": "application/octet-stream"})
    same(ada.message(inbox).body, octets)
    ada.leave()


for stomp_version in CONNECTIONS:
    for check in (talks, acknowledges, transacts, refuses, beats):
        # STOMP 1.0 has no heart-beats.
        if (stomp_version, check) != ("1.0", beats):
            print(f"- STOMP {stomp_version}: it {check.__name__}", flush=True)
            check(stomp_version)
print("- binary bodies come back octet by octet", flush=True)
binary()
print("done", flush=True)
# The library's threads are not waited for.
sys.stdout.flush()
os._exit(0)
