// Tests the official JavaScript client with a `tokens` worker. Usage: node client.mjs BASE_URL

import assert from "node:assert/strict";
import runpodSdk from "runpod-sdk";

const endpoint = runpodSdk("any", { baseUrl: process.argv[2] }).endpoint("local");
const words = (prompt, delay_ms = 0) => ({ input: { prompt, delay_ms } });

async function eventually(look, what) {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `timed out after 30 s: ${what}`);
  }
}

const health = await endpoint.health();
assert.equal(health.workers.ready, 1);

const run = await endpoint.run(words("to be or not", 100));
assert.equal(run.status, "IN_QUEUE");
const chunks = [];
for await (const chunk of endpoint.stream(run.id)) chunks.push(chunk.output);
assert.deepEqual(chunks, ["to", "be", "or", "not"]);

const status = await endpoint.status(run.id);
assert.equal(status.status, "COMPLETED");
assert.ok(status.started && status.completed && status.succeeded);
assert.ok(status.executionTime >= 400);

const sync = await endpoint.runSync(words("a"), 30_000);
assert.equal(sync.status, "COMPLETED");
assert.deepEqual(sync.output, []);

// The job outlasts the wait: /runsync answers with its current status, and the client continues with /status-sync.
const late = await endpoint.runSync(words("late", 2500), 1000 + 2500);
assert.equal(late.id.startsWith("sync-"), true);
const held = await endpoint.statusSync(late.id, 30_000);
assert.equal(held.status, "COMPLETED");

const long = await endpoint.run(words("never", 3_600_000));
await eventually(async () => (await endpoint.status(long.id)).status === "IN_PROGRESS", "the job runs");
assert.equal((await endpoint.cancel(long.id)).status, "CANCELLED");
assert.equal((await endpoint.status(long.id)).status, "CANCELLED");
assert.equal((await endpoint.purgeQueue()).status, "completed");

console.log("all passed");
