import assert from "node:assert/strict";
import { test } from "node:test";

import { DISCONNECTED_MS, GONE_MS } from "../peer.js";
import { LOOK_MS, Pulse, SOON_MS, STEADY_LOOKS } from "../pulse.js";
import { PROBE_MS } from "../socket.js";
import { golden, inRoom, room } from "./client.js";
import { settle } from "./fakes.js";

test("a path that goes silent is looked for anew, over the WebSocket, before the connection is replaced", async () => {
  const { call, ws, pc, pcs, clock } = await inRoom();
  pc.becomes("disconnected");
  await settle();
  const offer = ws.last("offer");
  assert.ok(offer.body.generation > 1);
  assert.equal(pc.restarts, 1);
  assert.equal(pc.channel.last("offer"), undefined, "Firefox would take what cannot be sent there for the connection's end");
  ws.says("answer", { generation: offer.body.generation, sdp: "elsewhere" }, 2);
  await settle();
  assert.equal(pc.answer.sdp, "elsewhere");
  await clock.advance(DISCONNECTED_MS - 1);
  assert.equal(call.state, "joined");
  pc.becomes("connected");
  await clock.advance(10 * DISCONNECTED_MS);
  assert.deepEqual([call.state, pcs.length, pc.closed], ["joined", 1, false]);
});

test("with the WebSocket gone too, the restart waits for the next one", async () => {
  const { ws, pc, sockets, clock, pcs } = await inRoom();
  ws.drop();
  pc.becomes("disconnected");
  await clock.advance(250);
  const next = /** @type {any} */ (sockets[1]);
  next.open();
  assert.equal(next.sent[0].type, "watch");
  assert.equal(next.last("offer"), undefined, "nobody has said yet who it is");
  next.says("room", room(1, "live"));
  await settle();
  assert.equal(next.last("offer").body.generation, 2);
  next.says("answer", { ...golden("answer"), generation: 2 }, 1);
  await settle();
  next.drop();
  await clock.advance(500);
  /** @type {any} */ (sockets[2]).open();
  /** @type {any} */ (sockets[2]).says("room", room(1, "live"));
  assert.equal(/** @type {any} */ (sockets[2]).last("offer"), undefined, "it is answered");
  assert.equal(pcs.length, 1);
});

test("a restart that nobody answers: the connection is replaced", async () => {
  const { call, pc, pcs, clock } = await inRoom();
  pc.becomes("disconnected");
  await clock.advance(DISCONNECTED_MS + 250);
  assert.deepEqual([call.state, pcs.length], ["rejoining", 2]);
});

test("silence is suspect soon, is noticed after most of a second, once, and only after a steady flow", () => {
  const p = new Pulse();
  let now = 0;
  let bytes = 0;
  const look = (/** @type {number} */ more) => p.look((now += LOOK_MS), (bytes += more));
  for (let i = 0; i < STEADY_LOOKS - 1; i++) assert.equal(look(100), "");
  assert.deepEqual([look(0), look(0), look(0), look(0)], ["", "", "", ""], "it came now and then");
  for (let i = 0; i < STEADY_LOOKS; i++) assert.equal(look(100), "");
  assert.equal(p.wait(now), LOOK_MS);
  assert.deepEqual([look(0), look(0), look(0), look(0), look(0)], ["", "suspect", "silent", "", ""]);
  assert.equal(look(-50), "", "an old path's count is gone: nothing came");
  assert.equal(look(1), "back");
  assert.deepEqual([look(0), look(0), look(0), look(0)], ["", "", "", ""], "and has to be steady again");
  for (let i = 0; i < STEADY_LOOKS; i++) look(100);
  look(0);
  assert.equal(p.wait(now), SOON_MS, "the next look is soon");
  assert.deepEqual([look(0), look(1), look(0)], ["suspect", "back", ""]);
});

test("nothing gets through: the connection is kept, and another WebSocket is tried for all the time", async () => {
  const { call, ws, pc, pcs, sockets, clock } = await inRoom();
  pc.iceConnectionState = "connected";
  await clock.advance(1000);
  pc.becomes("disconnected");
  await settle();
  assert.equal(ws.sent.at(-2).type, "ping");
  await clock.advance(PROBE_MS);
  assert.equal(sockets.length, 2, "no answer: another connection");
  assert.equal(ws.readyState, 1, "beside it");
  await clock.advance(10_000 - PROBE_MS);
  assert.deepEqual([call.state, pcs.length, pc.closed], ["joined", 1, false]);
  const tries = sockets.length - 1;
  assert.ok(tries >= 4 && tries <= 6, `${tries} tries in 10 s`);
  const next = /** @type {any} */ (sockets.at(-1));
  next.open();
  assert.equal(next.sent[0].type, "watch");
  next.says("room", room(1, "live"));
  await settle();
  assert.equal(ws.readyState, 3);
  assert.equal(pc.restarts, 2, "the first restart knew the network of then");
  const offer = next.last("offer");
  assert.ok(offer.body.generation > ws.last("offer").body.generation);
  await clock.advance(DISCONNECTED_MS - 501);
  assert.equal(call.state, "joined", "there is time for the answer");
  next.says("answer", { generation: offer.body.generation, sdp: "elsewhere" }, 1);
  pc.becomes("connected");
  await clock.advance(60_000);
  assert.deepEqual([call.state, pcs.length, sockets.length], ["joined", 1, tries + 1]);
});

test("nothing gets through, and the restart fails: another is tried when there is a network again", async () => {
  const { call, pc, pcs, sockets, clock } = await inRoom();
  pc.iceConnectionState = "connected";
  await clock.advance(1000);
  pc.becomes("disconnected");
  await clock.advance(3000);
  pc.becomes("failed");
  await clock.advance(3000);
  assert.deepEqual([call.state, pcs.length], ["joined", 1]);
  const before = pc.restarts;
  const next = /** @type {any} */ (sockets.at(-1));
  next.open();
  next.says("room", room(1, "live"));
  await settle();
  assert.equal(pc.restarts, before + 1);
  pc.becomes("failed");
  await clock.advance(500);
  assert.equal(call.state, "rejoining", "the room can be asked, and this does not help");
});

test("while nothing gets through no restart is tried: there is no network to look in", async () => {
  const { pc, ws, clock } = await inRoom();
  pc.iceConnectionState = "connected";
  await clock.advance(1000);
  pc.becomes("disconnected");
  await clock.advance(2000);
  assert.equal(pc.restarts, 1, "before anything was known");
  pc.becomes("disconnected");
  await clock.advance(2000);
  assert.equal(pc.restarts, 1);
  ws.says("pong");
  pc.becomes("disconnected");
  await settle();
  assert.equal(pc.restarts, 2, "the room can be reached again");
});

test("nothing gets through for too long: the connection is replaced", async () => {
  const { call, pc, clock } = await inRoom();
  await clock.advance(1000);
  pc.becomes("disconnected");
  await clock.advance(GONE_MS - 1);
  assert.equal(call.state, "joined");
  await clock.advance(1000);
  assert.equal(call.state, "rejoining");
});

test("the WebSocket answers: no other is opened, and the connection is replaced if the restart does not help", async () => {
  const { call, ws, pc, sockets, clock } = await inRoom();
  await clock.advance(1000);
  pc.becomes("disconnected");
  await clock.advance(100);
  ws.says("pong", {});
  await clock.advance(DISCONNECTED_MS + 500);
  assert.deepEqual([call.state, sockets.length], ["rejoining", 1]);
});

test("the network is another one: a WebSocket that can hardly live is replaced at once", async () => {
  const { call, ws, sockets, clock } = await inRoom();
  await clock.advance(1000);
  call.nudge();
  assert.equal(ws.sent.at(-1).type, "ping");
  assert.equal(sockets.length, 2);
  ws.drop();
  const next = /** @type {any} */ (sockets[1]);
  next.open();
  next.says("room", room(1, "live"));
  await clock.advance(20_000);
  assert.equal(sockets.length, 2, "it has taken over");
});

test("the browser gives up a path that is not silent: its network has gone, and the WebSocket's with it", async () => {
  const { ws, pc, sockets, clock } = await inRoom();
  let bytes = 0;
  pc.getStats = async () => new Map([["t", { type: "transport", bytesReceived: (bytes += 100) }]]);
  pc.iceConnectionState = "connected";
  pc.becomes("connected");
  await clock.advance(LOOK_MS * (STEADY_LOOKS + 2));
  assert.equal(sockets.length, 1);
  pc.becomes("disconnected");
  await settle();
  assert.equal(sockets.length, 2);
  assert.equal(pc.restarts, 0, "there may be no other network yet");
  const next = /** @type {any} */ (sockets[1]);
  next.open();
  next.says("room", room(1, "live"));
  await settle();
  assert.deepEqual([pc.restarts, next.last("offer").body.generation, ws.last("offer")], [1, 2, undefined]);
});

test("an offer too large for the WebSocket goes over the data channel", async () => {
  const { pc, ws } = await inRoom();
  const make = pc.createOffer.bind(pc);
  pc.createOffer = async () => ({ type: "offer", sdp: (await make()).sdp + "a=x\r\n".repeat(8000) });
  pc.becomes("disconnected");
  await settle();
  assert.deepEqual([pc.restarts, ws.last("offer")], [1, undefined]);
  assert.ok(pc.channel.sent.length >= 2, "in parts");
});

test("statistics of a connection that closes before they come are none", async () => {
  const { call, pc } = await inRoom();
  pc.getStats = () => new Promise(() => {}); // as Firefox's of a closed connection
  const asked = call.stats();
  await call.leave();
  assert.equal(await asked, null);
});
