"""Just enough HTTP and DNS to ask, to wait, and to write in bulk, without a library's cost in the way."""
import re
import selectors
import socket
import struct
import threading
import time

class _Buffer(threading.local):
    """What is received goes through here: one made for each answer would cost more than what is measured."""

    def __init__(self):
        self.view = memoryview(bytearray(1 << 18))


_buffer = _Buffer()
_LENGTH = re.compile(rb"content-length: (\d+)", re.I)
_INDEX = re.compile(rb"x-consul-index: (\d+)", re.I)


def receive(sock):
    """What has come, up to 256 KB; nothing at the end."""
    return bytes(_buffer.view[:sock.recv_into(_buffer.view)])


def request(method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body or method != "GET":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Connection:
    """One HTTP connection; answers are read whole."""

    def __init__(self, port, source=None, host="127.0.0.1", seconds=20):
        self.socket = socket.create_connection((host, port), seconds, source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clear()

    def clear(self):
        self.parts, self.have, self.need, self.head = [], 0, None, b""

    def send(self, data):
        self.clear()
        self.socket.sendall(data)

    def feed(self, data):
        """True when the answer is whole."""
        self.parts.append(data)
        self.have += len(data)
        if self.need is None:
            so_far = b"".join(self.parts)
            end = so_far.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.head = so_far[:end]
            length = _LENGTH.search(self.head)
            self.need = end + 4 + (int(length.group(1)) if length else 0)
        return self.have >= self.need

    def receive(self):
        while True:
            data = receive(self.socket)
            if not data:
                raise EOFError("the connection was closed")
            if self.feed(data):
                return self

    @property
    def status(self):
        return int(self.head.split(b" ", 2)[1])

    @property
    def index(self):
        found = _INDEX.search(self.head)
        return int(found.group(1)) if found else 0

    @property
    def body(self):
        return b"".join(self.parts)[len(self.head) + 4:]

    def ask(self, method, path, body=b""):
        self.send(request(method, path, body))
        return self.receive()

    def close(self):
        self.socket.close()


def ask(port, method, path, body=b""):
    """(status, body) of one request on a connection of its own."""
    connection = Connection(port)
    try:
        connection.ask(method, path, body)
        return connection.status, connection.body
    finally:
        connection.close()


def collect(connections, seconds):
    """Waits for the whole answer of each; the moments at which they were whole, in order."""
    whole, waiting = [], selectors.DefaultSelector()
    for connection in connections:
        waiting.register(connection.socket, selectors.EVENT_READ, connection)
    end = time.monotonic() + seconds
    while len(whole) < len(connections) and time.monotonic() < end:
        for key, _ in waiting.select(0.2):
            data = receive(key.data.socket)
            if not data:
                raise EOFError("a reader's connection was closed")
            if key.data.feed(data):
                whole.append(time.monotonic())
                waiting.unregister(key.data.socket)
    waiting.close()
    return whole


def pump(port, requests, connections=64, host="127.0.0.1"):
    """Sends all requests over some connections, one at a time on each; every answer must be 200."""
    requests, waiting = iter(requests), selectors.DefaultSelector()
    for _ in range(connections):
        data = next(requests, None)
        if data is None:
            break
        connection = Connection(port, host=host)
        connection.send(data)
        waiting.register(connection.socket, selectors.EVENT_READ, connection)
    while waiting.get_map():
        for key, _ in waiting.select(20):
            connection = key.data
            data = receive(connection.socket)
            if not data:
                raise EOFError("a writer's connection was closed")
            if not connection.feed(data):
                continue
            if connection.status != 200:
                raise RuntimeError(f"{connection.status}: {connection.body[:200]!r}")
            data = next(requests, None)
            if data is None:
                waiting.unregister(connection.socket)
                connection.close()
            else:
                connection.send(data)
    waiting.close()


def dns(port, name, kind=1, seconds=1.0):
    """(rcode, answers) of one question over UDP, with EDNS."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", 0x1234, 0x100, 1, 0, 0, 1) + labels + struct.pack(">BHH", 0, kind, 1)
    query += b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(seconds)
        udp.sendto(query, ("127.0.0.1", port))
        answer = udp.recv(4096)
    return answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
