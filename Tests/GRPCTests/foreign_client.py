"""A gRPC client that shares no code with the server under test: Python's grpcio, generic calls.

Usage: foreign_client.py COMMAND TARGET [ARGUMENT...]; prints one JSON object per line.
"""
import itertools
import json
import os
import socket
import sys
import threading
import time

import grpc

MIB = 1024 * 1024
TEST = "/test.v1.Test/"
HEALTH = "/grpc.health.v1.Health/"
FIELD = {1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def channel(target, **extra):
    options = {"grpc.max_receive_message_length": 16 * MIB, "grpc.max_send_message_length": -1}
    options.update({key.replace("__", "."): value for key, value in extra.items()})
    return grpc.insecure_channel(target, options=list(options.items()))


def unary(connection, path):
    return connection.unary_unary(path, request_serializer=None, response_deserializer=None)


def stream(connection, path):
    return connection.unary_stream(path, request_serializer=None, response_deserializer=None)


def say(**fields):
    print(json.dumps(fields), flush=True)


def outcome(call):
    try:
        return {"code": "OK", "length": len(call())}
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


def burst(target, rounds, concurrent, size):
    """Rounds of many calls at once; every one must end within a minute."""
    begin = time.monotonic()
    with channel(target) as connection:
        method = unary(connection, TEST + "Size")
        for _ in range(int(rounds)):
            calls = [method.future(size.encode(), timeout=60) for _ in range(int(concurrent))]
            for call in calls:
                if len(call.result()) != int(size):
                    raise SystemExit("a reply has the wrong length")
    seconds = time.monotonic() - begin
    say(calls=int(rounds) * int(concurrent), seconds=round(seconds, 2))


def sizes(target):
    with channel(target) as connection:
        echo, size = unary(connection, TEST + "Echo"), unary(connection, TEST + "Size")
        exact = os.urandom(16 * MIB)
        say(name="exact", equal=echo(exact, timeout=60) == exact, code="OK")
        say(name="oversize request", **outcome(lambda: echo(exact + b"x", timeout=60)))
        say(name="oversize reply", **outcome(lambda: size(str(16 * MIB + 1).encode(), timeout=60)))
        say(name="after", **outcome(lambda: echo(b"still here", timeout=60)))


def cancels(target, count):
    """Cancels many calls while a watch stands on the same connection, then sees whether it still hears."""
    with channel(target) as connection:
        watch = stream(connection, HEALTH + "Watch")(b"\x0a\x04flip", timeout=120)
        heard = [next(watch)[1]]
        toggle, slow = unary(connection, TEST + "Toggle"), unary(connection, TEST + "Slow")
        begin = time.monotonic()
        waiting = []
        for index in range(int(count)):
            waiting.append(slow.future(b"", timeout=120))
            if len(waiting) == 50:
                for call in waiting:
                    call.cancel()
                waiting = []
        for call in waiting:
            call.cancel()
        seconds = time.monotonic() - begin
        for _ in range(3):
            toggle(b"", timeout=60)
            heard.append(next(watch)[1])
        say(heard=[FIELD[status] for status in heard], seconds=round(seconds, 2), alive=watch.is_active())


def unknown(target):
    with channel(target) as connection:
        for path in ["/test.v1.Test/Nothing", "/no.such.Service/Method", "/", "/a", "//", "/%41/%00"]:
            say(path=path, **outcome(lambda: unary(connection, path)(b"", timeout=60)))


def deadline(target, seconds):
    with channel(target) as connection:
        say(**outcome(lambda: unary(connection, TEST + "Slow")(b"", timeout=float(seconds))))


def hang(target):
    """Starts a call and says so; whoever reads that ends this process."""
    connection = channel(target)
    call = stream(connection, TEST + "Ticks")(b"-1", timeout=120)
    next(call)
    say(started=True)
    threading.Event().wait()


def metadata(target):
    sent = [("x-first", "1"), ("x-twice", "a"), ("x-twice", "b"), ("x-raw-bin", bytes([0, 255, 7]))]
    with channel(target) as connection:
        reply = unary(connection, TEST + "Context")(b"", timeout=60, metadata=sent)
        say(reply=reply.decode())
        say(**outcome(lambda: unary(connection, TEST + "Fail")("naïve – 日本".encode(), timeout=60)))
        say(**outcome(lambda: unary(connection, TEST + "Fail")(b"long " * 4000, timeout=60)))


def authorities(target):
    for authority in ["localhost", "%2Frun%2Fswiftlet%2Fswiftlet.sock", "10.0.0.1:99999", "x"]:
        with channel(target, grpc__default_authority=authority) as connection:
            say(authority=authority, **outcome(lambda: unary(connection, TEST + "Echo")(b"abc", timeout=60)))


def health(target):
    with channel(target) as connection:
        check = unary(connection, HEALTH + "Check")
        for service in ["", "test.v1.Test", "no.such.Service"]:
            name = service.encode()
            request = b"\x0a" + bytes([len(name)]) + name if name else b""
            result = outcome(lambda: check(request, timeout=60))
            if result["code"] == "OK":
                result["status"] = FIELD[check(request, timeout=60)[1]]
            say(service=service, **result)
        say(**outcome(lambda: check(b"\x0a\xff", timeout=60)))
        watch = stream(connection, HEALTH + "Watch")(b"\x0a\x03new", timeout=60)
        say(service="new", status=FIELD[next(watch)[1]])


def watch(target):
    """Follows the server's health until the stream ends."""
    with channel(target) as connection:
        follow = stream(connection, HEALTH + "Watch")(b"", timeout=120)
        try:
            for status in follow:
                say(status=FIELD[status[1]])
        except grpc.RpcError as error:
            say(code=error.code().name)


def streams(target, count):
    """Reads a long stream slowly at first: flow control must hold the server back, and lose nothing."""
    with channel(target) as connection:
        ticks = stream(connection, TEST + "Ticks")(count.encode(), timeout=120)
        numbers = [int(next(ticks)) for _ in range(3)]
        numbers += [int(tick) for tick in ticks]
        say(count=len(numbers), ordered=numbers == list(range(len(numbers))))
        many = [stream(connection, TEST + "Ticks")(b"2", timeout=120) for _ in range(500)]
        say(streams=sum(len(list(one)) == 2 for one in many))


def connect(target):
    if target.startswith("unix://"):
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(target[len("unix://"):])
        return plain
    host, port = target.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def garbage(target):
    """Bytes no HTTP/2 peer would send: at once, after the preface, and in place of frames and messages."""
    payloads = [
        b"", b"\x00" * 100, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(100_000), PREFACE[:10],
        PREFACE + os.urandom(50_000), PREFACE + b"\xff" * 9, PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + os.urandom(50_000),
        PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x05\x01\x05\x00\x00\x00\x01" + b"\xff" * 5,
    ]
    payloads += [PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + os.urandom(300) for _ in range(200)]
    for payload in payloads:
        plain = connect(target)
        try:
            plain.sendall(payload)
        except OSError:
            pass
        plain.close()
    with channel(target) as connection:
        say(connections=len(payloads), **outcome(lambda: unary(connection, TEST + "Echo")(b"abc", timeout=60)))


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream_id, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body


def bare(target, authority):
    """A call written byte by byte, with an :authority of one's choice ("-" for none at all)."""
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", TEST.encode() + b"Echo")]
    if authority != "-":
        headers.append((b":authority", authority.encode()))
    headers += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    plain = connect(target)
    plain.settimeout(30)
    block = b"".join(itertools.starmap(literal, headers))
    plain.sendall(PREFACE + frame(4, 0, 0) + frame(1, 4, 1, block) + frame(0, 1, 1, b"\x00\x00\x00\x00\x03abc"))
    received = b""
    while True:
        head = b""
        while len(head) < 9:
            piece = plain.recv(9 - len(head))
            if not piece:
                return say(answered=b"\x00\x00\x00\x00\x03abc" in received, ended="connection closed")
            head += piece
        length = int.from_bytes(head[:3], "big")
        body = b""
        while len(body) < length:
            body += plain.recv(length - len(body))
        received += body
        if head[5:9] == b"\x00\x00\x00\x01" and (head[3] == 3 or (head[3] == 1 and head[4] & 1)):
            return say(answered=b"\x00\x00\x00\x00\x03abc" in received, ended={1: "trailers", 3: "reset"}[head[3]])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
