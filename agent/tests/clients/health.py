"""A gRPC server with the health service of grpcio: prints its port, then does what is said on its input."""
import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(4))
states = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(states, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
for line in sys.stdin:
    if line.strip() == "STOP":
        server.stop(None).wait()
    else:
        states.set("web", health_pb2.HealthCheckResponse.ServingStatus.Value(line.strip()))
    print("done", flush=True)
