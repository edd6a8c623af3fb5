"""The servers of gevent, one greenlet for each connection: `net_gevent.py serve gevent echo|http workers=1`."""

import ctypes
import signal
import socket
import sys

from gevent.server import StreamServer

READ = 1024
REQUEST_LINE = b"GET /plaintext HTTP/1.1\r\n"
END = b"\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"


def echo(stream, address):
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := stream.recv(READ):
        stream.sendall(data)


def http(stream, address):
    """Answers all complete requests of a read with one write."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    partial = b""
    while data := stream.recv(READ):
        if partial:
            data = partial + data
        start = answers = 0
        while (end := data.find(END, start)) >= 0:
            if not data.startswith(REQUEST_LINE, start):
                return
            answers += 1
            start = end + len(END)
        partial = data[start:]
        if answers:
            stream.sendall(RESPONSE * answers)


# Linux only: the kernel ends this process with the one that started it.
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
server = StreamServer(("127.0.0.1", 0), {"echo": echo, "http": http}[sys.argv[3]], backlog=1024)
server.start()
print(f"listening on {server.server_host}:{server.server_port}", flush=True)
server.serve_forever()
