"""py-consul beside an agent: register, look up, watch, KV."""
import sys
import threading
import time

import consul

port = int(sys.argv[1])
client = consul.Consul(host="127.0.0.1", port=port)


def eventually(what, holds):
    end = time.time() + 20
    while not holds():
        assert time.time() < end, what
        time.sleep(0.05)


def passing():
    return [entry["Service"]["ID"] for entry in client.health.service("web", passing=True)[1]]


assert client.agent.service.register("web", service_id="web-1", address="192.0.2.1", port=80, tags=["blue"], check=consul.Check.ttl("1h"))
client.agent.check.ttl_pass("service:web-1")
eventually("the service passes", lambda: passing() == ["web-1"])
assert client.catalog.services()[1]["web"] == ["blue"]
assert client.catalog.service("web")[1][0]["ServicePort"] == 80

index, before = client.health.service("web", passing=True)
seen = []
watch = threading.Thread(
    target=lambda: seen.append(consul.Consul(host="127.0.0.1", port=port).health.service("web", index=index, wait="20s", passing=True)))
watch.start()
time.sleep(0.3)
assert not seen
client.agent.check.ttl_fail("service:web-1", "said so")
watch.join(20)
assert seen and int(seen[0][0]) > int(index) and seen[0][1] == [], seen
assert client.agent.service.deregister("web-1")
eventually("the service is gone", lambda: "web" not in client.catalog.services()[1])

assert client.kv.put("a/b", "one")
index, row = client.kv.get("a/b")
assert row["Value"] == b"one"
assert client.kv.put("a/b", "two", cas=row["ModifyIndex"])
assert not client.kv.put("a/b", "three", cas=row["ModifyIndex"])
assert [row["Value"] for row in client.kv.get("a/", recurse=True)[1]] == [b"two"]
assert client.kv.get("a/", keys=True)[1] == ["a/b"]
assert client.kv.delete("a/b")
assert client.kv.get("a/b")[1] is None
print("done")
