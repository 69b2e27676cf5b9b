"""gRPC finds servers by our DNS and follows where they go: port of DNS, port of HTTP, port of the servers."""
import json
import sys
import time
import urllib.request
from concurrent import futures

import grpc

dns, http, port = sys.argv[1:4]


def put(path, body=None):
    data = b"" if body is None else json.dumps(body).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{http}/v1/agent/service/{path}", data, method="PUT")).read()


def register(address):
    put("register", {"Name": "greeter", "ID": address, "Address": address, "Port": int(port)})


def serve(address):
    say = grpc.unary_unary_rpc_method_handler(lambda request, context: address.encode())
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", {"Say": say}),))
    assert server.add_insecure_port(f"{address}:{port}")
    server.start()
    register(address)
    return server


def answered(say):
    try:
        return say(b"", timeout=2, wait_for_ready=True).decode()
    except grpc.RpcError:
        return None


def eventually(what, holds):
    end = time.time() + 25
    while not holds():
        assert time.time() < end, what
        time.sleep(0.05)


servers = {address: serve(address) for address in ("127.0.0.1", "127.0.0.2")}
options = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
channel = grpc.insecure_channel(f"dns://127.0.0.1:{dns}/greeter.service.consul:{port}", options)
say = channel.unary_unary("/Greeter/Say")
eventually("both are asked in turn", lambda: {answered(say) for _ in range(6)} == set(servers))
put("deregister/127.0.0.1")
servers.pop("127.0.0.1").stop(0)
eventually("the other one alone", lambda: {answered(say) for _ in range(6)} == {"127.0.0.2"})
servers["127.0.0.3"] = serve("127.0.0.3")
put("deregister/127.0.0.2")
servers.pop("127.0.0.2").stop(0)
eventually("the new one", lambda: {answered(say) for _ in range(6)} == {"127.0.0.3"})
channel.close()
servers["127.0.0.3"].stop(0)
print("done")
