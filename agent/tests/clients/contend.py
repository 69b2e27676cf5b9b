"""py-consul contends for a lock for ever, and says when it has it and when it lost it: contend.py HOST KEY NAME TTL DELAY."""
import sys
import time

import consul

host, key, name, ttl, delay = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])


def say(what):
    print(what, flush=True)


def asked(what):
    """The answer, or None if there was none."""
    try:
        return what(consul.Consul(host=host, port=8500))
    except (consul.ConsulException, OSError) as error:
        say("refused %r" % error)
        return None


def hold(session):
    """Renews and looks as long as the lock is held; one that cannot be sure for a whole TTL has it no more."""
    sure = time.monotonic()
    while time.monotonic() - sure < ttl:
        began = time.monotonic()
        try:
            client = consul.Consul(host=host, port=8500)
            client.session.renew(session)
            pair = client.kv.get(key, consistency="consistent")[1]
        except consul.NotFound:
            return
        except (consul.ConsulException, OSError) as error:
            say("refused %r" % error)
            time.sleep(0.2)
            continue
        if pair is None or pair.get("Session") != session:
            return
        sure = began
        time.sleep(ttl / 5)


session = None
while True:
    if session is None or asked(lambda client: client.session.renew(session)) is None:
        session = asked(lambda client: client.session.create(name, ttl=ttl, lock_delay=delay))
    elif asked(lambda client: client.kv.put(key, name, acquire=session)):
        say("held")
        hold(session)
        say("lost")
        session = None
    time.sleep(0.3)
