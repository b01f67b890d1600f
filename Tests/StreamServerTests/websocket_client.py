"""A WebSocket client of remotecommand and port-forward that shares no code with the server.

websocket_client.py URL PROTOCOL [CHANNEL HEX]...: sends the messages (channel 255 is v5's close signal, its byte the channel that ends),
reads until the server closes, and prints what came as JSON: protocol, channels (hex by number), messages (count), code.
PROTOCOL "" asks for none.
"""

import base64
import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, protocol, messages = sys.argv[1].replace("http://", "ws://"), sys.argv[2], sys.argv[3:]
is_base64 = "base64" in protocol
channels: dict[int, bytes] = {}
count = 0
with connect(url, subprotocols=[protocol] if protocol else None, max_size=None) as socket:
    for number, data in zip(messages[::2], messages[1::2]):
        number, data = int(number), bytes.fromhex(data)
        socket.send(f"{number}" + base64.b64encode(data).decode() if is_base64 else bytes([number]) + data)
    try:
        while True:
            message = socket.recv(timeout=60)
            count += 1
            if is_base64:
                assert isinstance(message, str), message
                number, data = int(message[0]), base64.b64decode(message[1:], validate=True)
            else:
                number, data = message[0], message[1:]
            channels[number] = channels.get(number, b"") + data
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else None
print(json.dumps({
    "protocol": socket.subprotocol, "channels": {number: data.hex() for number, data in channels.items()}, "messages": count, "code": code,
}))
