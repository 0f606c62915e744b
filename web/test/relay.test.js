import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, golden, inRoom, joined, room } from "./client.js";
import { settle } from "./fakes.js";

/** A call that has its answer, and no path yet. */
async function answered() {
  const t = begin();
  const promise = t.call.join();
  const ws = /** @type {any} */ (t.sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  await settle();
  ws.says("joined", joined(ws.last("join")), 1);
  await promise;
  return { ...t, ws, pc: /** @type {any} */ (t.pcs[0]) };
}

test("without a direct way the relay is brought in, over the WebSocket", async () => {
  const { clock, ws, pc } = await answered();
  assert.equal(pc.restarts, 0);
  await clock.advance(699);
  assert.equal(pc.restarts, 0);
  await clock.advance(1);
  assert.equal(pc.restarts, 1);
  assert.deepEqual(pc.configuration.iceServers, golden("joined").ice_servers);
  const offer = ws.last("offer");
  assert.equal(offer.body.generation, 2);
  pc.answer = null;
  ws.says("answer", { generation: 2, sdp: "relayed" }, 2);
  await settle();
  assert.equal(pc.answer.sdp, "relayed");
});

test("with no way at all the next connection knows the relay from its beginning, and is made at once", async () => {
  const { clock, ws, pc, pcs, call } = await answered();
  pc.becomes("failed");
  await settle();
  assert.deepEqual([pcs.length, call.state], [2, "rejoining"]);
  const next = /** @type {any} */ (pcs[1]);
  assert.deepEqual(next.configuration.iceServers, golden("joined").ice_servers);
  ws.says("joined", joined(ws.last("join")), 2);
  await settle();
  await clock.advance(100);
  next.becomes("failed");
  await settle();
  assert.equal(pcs.length, 2, "the one after that is made on schedule");
  await clock.advance(1000);
  assert.equal(pcs.length, 3);
});

test("with a direct way, or without a relay, nothing is restarted", async () => {
  const direct = await answered();
  direct.pc.iceConnectionState = "connected";
  await direct.clock.advance(3000);
  assert.equal(direct.pc.restarts, 0);
  const { pcs, clock, sockets, call } = begin();
  call.join();
  sockets[0]?.open();
  sockets[0]?.says("room", room(1, "live"));
  await settle();
  sockets[0]?.says("joined", joined(sockets[0]?.last("join"), { ice_servers: undefined }), 1);
  await clock.advance(3000);
  assert.equal(pcs[0]?.restarts, 0);
});

test("a fresh credential is for the next restart", async () => {
  const { pc, clock } = await inRoom();
  pc.channel.says("servers", golden("servers"));
  pc.iceConnectionState = "failed";
  await clock.advance(1000);
  assert.deepEqual(pc.configuration.iceServers, golden("servers").ice_servers);
});
