// The npm client `consul` beside an agent: register, look up, watch, KV.
const assert = require("assert");
const module_ = require("consul");
const Consul = module_.default || module_.Consul || module_;

const client = new Consul({ host: "127.0.0.1", port: Number(process.argv[2]) });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function eventually(what, holds) {
  const end = Date.now() + 20000;
  while (!(await holds())) {
    assert(Date.now() < end, what);
    await pause(50);
  }
}

async function main() {
  await client.agent.service.register({
    name: "web", id: "web-1", address: "192.0.2.1", port: 80, tags: ["blue"], check: { ttl: "1h" },
  });
  await client.agent.check.pass("service:web-1");
  const passing = async () => (await client.health.service({ service: "web", passing: true })).map((entry) => entry.Service.ID);
  await eventually("the service passes", async () => (await passing()).join() === "web-1");
  assert.deepStrictEqual((await client.catalog.service.list()).web, ["blue"]);
  assert.strictEqual((await client.catalog.service.nodes("web"))[0].ServicePort, 80);

  const seen = [];
  const watch = client.watch({ method: client.health.service, options: { service: "web", passing: true, wait: "20s" } });
  watch.on("change", (entries) => seen.push(entries.length));
  watch.on("error", (error) => { throw error; });
  await eventually("the watch has begun", () => seen.join() === "1");
  await client.agent.check.fail("service:web-1");
  await eventually("the watch sees it fail", () => seen.join() === "1,0");
  watch.end();
  await client.agent.service.deregister("web-1");
  await eventually("the service is gone", async () => !("web" in (await client.catalog.service.list())));

  assert(await client.kv.set("a/b", "one"));
  const row = await client.kv.get("a/b");
  assert.strictEqual(row.Value, "one");
  assert(await client.kv.set({ key: "a/b", value: "two", cas: row.ModifyIndex }));
  assert(!(await client.kv.set({ key: "a/b", value: "three", cas: row.ModifyIndex })));
  assert.deepStrictEqual((await client.kv.get({ key: "a/", recurse: true })).map((row) => row.Value), ["two"]);
  assert.deepStrictEqual(await client.kv.keys("a/"), ["a/b"]);
  await client.kv.del("a/b");
  assert.strictEqual(await client.kv.get("a/b"), undefined);
  process.stdout.write("done\n", () => process.exit(0));
}

main().catch((error) => { console.error(error); process.exit(1); });
