"""The servers of asyncio, as protocols on the event loop that comes with Python: `net_asyncio.py serve asyncio echo|http workers=1`."""

import asyncio
import ctypes
import signal
import sys

REQUEST_LINE = b"GET /plaintext HTTP/1.1\r\n"
END = b"\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Http(asyncio.Protocol):
    """Answers all complete requests of a read with one write."""

    def connection_made(self, transport):
        self.transport = transport
        self.partial = b""

    def data_received(self, data):
        if self.partial:
            data = self.partial + data
        start = answers = 0
        while (end := data.find(END, start)) >= 0:
            if not data.startswith(REQUEST_LINE, start):
                return self.transport.close()
            answers += 1
            start = end + len(END)
        self.partial = data[start:]
        if answers:
            self.transport.write(RESPONSE * answers)


async def main(service):
    loop = asyncio.get_running_loop()
    # The event loop sets TCP_NODELAY by itself.
    server = await loop.create_server({"echo": Echo, "http": Http}[service], "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


# Linux only: the kernel ends this process with the one that started it.
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
asyncio.run(main(sys.argv[3]))
