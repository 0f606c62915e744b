import assert from "node:assert/strict";
import { test } from "node:test";

import { grid, pickMain, seatsFor, wantsOf } from "../layout.js";
import { keep, readLink, readTicket } from "../link.js";
import { summarize } from "../stats.js";
import { connectionFigures, connectionState, deviceProblem, initials, roomStatus, signalOf, standing, weak, whyOver, whyPaused } from "../words.js";
import { golden } from "./client.js";

test("grid: tiles fit, keep their shape and use the space", () => {
  for (const [w, h] of [[1280, 720], [390, 650], [2560, 1300]]) {
    for (let n = 1; n <= 30; n++) {
      const g = grid(n, /** @type {number} */ (w), /** @type {number} */ (h), 10);
      assert.ok(g.cols * g.width + (g.cols - 1) * 10 <= /** @type {number} */ (w), `${n} in ${w}×${h}`);
      assert.ok(Math.abs(g.width / g.height - 16 / 9) < 0.05);
      const rows = Math.ceil(n / g.cols);
      assert.ok(g.width <= 160 || rows * g.height + (rows - 1) * 10 <= /** @type {number} */ (h), `${n} in ${w}×${h}`);
    }
  }
  assert.equal(grid(4, 1280, 720, 10).cols, 2);
  assert.equal(grid(3, 390, 650, 10).cols, 1);
  assert.deepEqual(grid(0, 100, 100, 10), { cols: 1, width: 0, height: 0 });
});

/** @param {string} key @param {any} [change] */
const tile = (key, change) => ({ key, participant: key.split("/")[0] ?? "", screen: key.endsWith("/screen"), self: false, source: true, ...change });
const self = tile("self", { self: true, source: false });

test("pickMain: pinned, screen, speaker, last one, first one", () => {
  const tiles = [tile("a/camera"), tile("b/camera"), self];
  /** @param {any} at */
  const pick = (at) => pickMain(tiles, { pinned: "", active: "", shown: "", ...at });
  assert.equal(pick({}), "a/camera");
  assert.equal(pick({ shown: "b/camera" }), "b/camera");
  assert.equal(pick({ shown: "a/camera", active: "b" }), "b/camera");
  assert.equal(pick({ active: "b", pinned: "a/camera" }), "a/camera");
  assert.equal(pick({ pinned: "gone/camera", active: "me" }), "a/camera");
  assert.equal(pickMain([...tiles, tile("b/screen")], { pinned: "", active: "a", shown: "" }), "b/screen");
  assert.equal(pickMain([self], { pinned: "", active: "", shown: "" }), "self");
});

test("wantsOf: order of importance, sizes, nothing of one's own or unknown", () => {
  const tiles = [tile("a/camera"), tile("b/camera"), tile("c/camera", { source: false }), tile("d/screen"), tile("e/camera"), self];
  const sizes = new Map([["a/camera", { width: 320, height: 180 }], ["b/camera", { width: 0, height: 0 }], ["e/camera", { width: 900, height: 500 }]]);
  assert.deepEqual(wantsOf(tiles, sizes, { pinned: "e/camera", main: "e/camera", active: "b" }), [
    { source: "e/camera", width: 900, height: 500, pinned: true },
    { source: "d/screen", width: 640, height: 360 }, // not measured yet
    { source: "b/camera", width: 0, height: 0 },
    { source: "a/camera", width: 320, height: 180 },
  ]);
});

test("seatsFor: all that is wanted and a few to hear the rest", () => {
  assert.deepEqual([seatsFor(0, 0), seatsFor(3, 3), seatsFor(9, 30), seatsFor(60, 100)], [1, 4, 12, 49]);
});

/** @param {Record<string, string>} [data] @returns {any} */
function storage(data = {}) {
  return {
    data,
    getItem: (/** @type {string} */ k) => data[k] ?? null,
    setItem: (/** @type {string} */ k, /** @type {string} */ v) => (data[k] = v),
    removeItem: (/** @type {string} */ k) => delete data[k],
  };
}

const claims = Buffer.from(JSON.stringify({ name: "Zoë 🙂", grants: { publish: ["camera", "mic", "x"] } })).toString("base64url");
const at = (/** @type {string} */ hash, search = "") => ({ hash, search, host: "h:1", protocol: "http:" });

test("readLink: the ticket leaves the address, and a reload comes back", () => {
  const tab = storage();
  const first = readLink(at(`#room=r1&ticket=h.${claims}.s&ws=wss%3A%2F%2Fx%2F`, "?autojoin=1"), tab);
  assert.deepEqual(first, { room: "r1", ws: "wss://x/", resume: "", ticket: `h.${claims}.s`, name: "Zoë 🙂", fixedName: true, publish: ["mic", "camera"], autojoin: true,
    address: "#room=r1&ws=wss%3A%2F%2Fx%2F" });
  // Reloaded before joining: still the ticket, and no joining by itself.
  const second = readLink(at(first.address), tab);
  assert.deepEqual([second.ticket, second.resume, second.autojoin], [`h.${claims}.s`, "", false]);
  // Reloaded in the call: the secret, at once.
  keep(tab, "r1", { resume: "r1.s", joined: true });
  const third = readLink(at(first.address), tab);
  assert.deepEqual([third.ticket, third.resume, third.autojoin, third.ws], ["", "r1.s", true, "wss://x/"]);
  // The same link opened again in this tab is a reload; a new ticket begins anew.
  assert.equal(readLink(at(`#room=r1&ticket=h.${claims}.s`), tab).resume, "r1.s");
  const anew = readLink(at("#room=r1&ticket=other"), tab);
  assert.deepEqual([anew.ticket, anew.resume, anew.autojoin, anew.fixedName], ["other", "", false, false]);
  // Without a signalling URL: this host's.
  assert.equal(readLink(at("#room=r2&ticket=t"), storage()).ws, "ws://h:1/ws");
  assert.deepEqual([readLink(at(""), tab).room, readLink(at(""), tab).address], ["", ""]);
  assert.equal(readLink(at("#room=r1"), storage({ "mayfly.room.r1": "{broken" })).ticket, "");
});

test("readTicket: whatever the ticket says, something to show", () => {
  for (const t of ["", "a", "a.b.c", "a.!!.c", `a.${Buffer.from("[1]").toString("base64url")}.c`, `a.${Buffer.from('{"name":7}').toString("base64url")}.c`]) {
    assert.deepEqual(readTicket(t), { name: "", publish: ["mic", "camera", "screen", "screen-audio"] });
  }
});

test("words: the start of a room", () => {
  const room = { id: "r", version: 1, epoch: 1, state: /** @type {const} */ ("starting"), phase: "pulling", since_ms: 1000, eta_ms: 20_000 };
  assert.deepEqual(roomStatus(room, 5000, false), { text: "Loading your room, 4\u00a0s; about 16\u00a0s to go.", done: 20 });
  assert.match(roomStatus(room, 5000, true).text, /You will join as soon as it is ready\.$/);
  assert.equal(roomStatus(room, 26_000, false).text, "Loading your room, 25\u00a0s; any moment now.");
  assert.equal(roomStatus(room, 500, false).text, "Loading your room…; about 20\u00a0s to go.", "a clock that is behind");
  assert.equal(roomStatus({ ...room, phase: "unheard of", eta_ms: undefined }, 2000, false).text, "Your room is starting, 1\u00a0s");
  assert.equal(roomStatus({ ...room, state: "live" }, 0, true).text, "Joining…");
  assert.equal(roomStatus(null, 0, false).text, "Connecting…");
  assert.match(roomStatus(null, 0, false, 5000).text, /does not answer yet/);
});

test("words: every end and every pause has some, even an unknown one", () => {
  for (const code of ["left", "ticket_used", "room_full", "never heard of"]) {
    const { title, text } = whyOver(code);
    assert.ok(title && text, code);
  }
  assert.equal(whyPaused("muted", false), "Camera off");
  assert.equal(whyPaused("muted", true), "Sharing ended");
  assert.equal(whyPaused("bandwidth", false), "Paused: your connection is too slow");
  assert.equal(whyPaused("never heard of", false), "Paused");
  assert.equal(whyPaused(undefined, false), "");
  assert.match(deviceProblem(new DOMException("", "NotAllowedError")), /Allow/);
  assert.match(deviceProblem("?"), /join without/);
  assert.doesNotMatch(deviceProblem(new DOMException("", "NotReadableError"), true), /join/);
  assert.deepEqual(["Ada Lovelace", "ada", "  ", "🙂 x", "A B C"].map(initials), ["AL", "A", "?", "🙂X", "AC"]);
});

/** @param {number} k bytes and packets grow by it */
const report = (k) => [
  { type: "candidate-pair", id: "p1", state: "succeeded", nominated: true, localCandidateId: "l1", currentRoundTripTime: 0.0123, bytesSent: 1000 * k, bytesReceived: 2000 * k },
  { type: "candidate-pair", id: "p0", state: "failed", localCandidateId: "l0" },
  { type: "local-candidate", id: "l0", protocol: "udp" },
  { type: "local-candidate", id: "l1", protocol: "tcp" },
  { type: "inbound-rtp", id: "i1", kind: "video", mid: "5", packetsReceived: 90 * k, packetsLost: 10 * k, frameWidth: 640, frameHeight: 360, framesPerSecond: 25, framesDecoded: 7 },
  { type: "inbound-rtp", id: "i2", kind: "audio", mid: "4", packetsReceived: 0, packetsLost: 0, totalAudioEnergy: 0.5 },
  { type: "inbound-rtp", id: "i3", kind: "video", mid: "99" },
  { type: "outbound-rtp", id: "o1", packetsSent: 100 * k },
  { type: "remote-inbound-rtp", id: "r1", packetsLost: 0 },
];
const seatOf = (/** @type {string} */ mid) => (mid === "4" || mid === "5" ? 0 : -1);

test("stats: one summary of both browsers' reports", () => {
  const firefox = summarize(report(1), seatOf, null, 1000);
  assert.deepEqual([firefox.stats.transport, firefox.stats.rttMs, firefox.stats.bytesIn, firefox.stats.lossIn, firefox.stats.bpsIn], ["tcp", 12, 2000, 0, 0]);
  assert.deepEqual(firefox.stats.seats, [{ seat: 0, width: 640, height: 360, fps: 25, framesDecoded: 7, audioEnergy: 0.5 }]);
  const later = summarize(report(3), seatOf, firefox.marks, 3000).stats;
  assert.equal(later.lossIn, 0.1);
  assert.equal(later.bpsIn, 16_000);
  // Chromium names the pair, and counts on the transport.
  const chromium = [...report(1), { type: "transport", id: "t", selectedCandidatePairId: "p0", bytesSent: 5, bytesReceived: 6 }];
  const c = summarize(chromium, seatOf, null, 1000).stats;
  assert.deepEqual([c.transport, c.bytesOut, c.bytesIn, c.rttMs], ["udp", 5, 6, null]);
  assert.equal(summarize([], seatOf, null, 0).stats.transport, "");
  const figures = /** @param {Parameters<typeof connectionFigures>} args */ (...args) => Object.fromEntries(connectionFigures(...args));
  assert.deepEqual(figures(later, true), {
    "Way in": "TCP", "Round trip": "12 ms", Loss: "10.0 %", Receiving: "0.0 Mbit/s", Sending: "0.0 Mbit/s", Service: "connected",
  });
  // The room sees what the browser does not: that the path leads through its relay.
  const seen = figures(later, false, { ...golden("quality"), transport: "turn-tls" });
  assert.deepEqual([seen["Way in"], seen["Room to receive"], seen.Service], ["TURN-TLS", "1.3 Mbit/s", "reconnecting"]);
  assert.deepEqual(figures(null, true), { Service: "connected" });
  assert.ok(weak(later, null) && !weak(firefox.stats, null) && weak(null, { ...golden("quality"), score: 10, level: "poor" }));
});

test("words: the connection is up before its figures are known", () => {
  const good = golden("quality");
  assert.equal(connectionState(false, false), "Connecting…");
  assert.equal(connectionState(false, true, good, 2), "Reconnecting…", "what was known is of no use");
  assert.equal(connectionState(true, true), "Connected");
  assert.equal(connectionState(true, true, good), "Good connection");
  assert.equal(connectionState(true, true, { ...good, level: "poor" }, 1), "Weak connection · one picture paused");
  assert.equal(connectionState(true, true, good, 2), "Good connection · 2 pictures paused");
});

test("words: what whoever runs the call has turned off, and on again", () => {
  assert.equal(standing([], ["mic"]), "Whoever runs this call has turned off your microphone.");
  assert.equal(standing(["mic"], ["mic", "camera", "screen"]), "Whoever runs this call has turned off your camera and screen.");
  assert.equal(standing(["mic", "camera"], ["camera"]), "You may use your microphone again.");
  assert.equal(standing(["mic"], ["mic"]), "");
});

test("words: a tile says whose connection is the worse one, or nothing", () => {
  assert.deepEqual(signalOf("excellent", true), { bars: 3, text: "" });
  assert.deepEqual(signalOf("good", false), { bars: 2, text: "Your connection is fair" });
  assert.deepEqual(signalOf("poor", true), { bars: 1, text: "Their connection is weak" });
  assert.deepEqual(signalOf("lost", true), { bars: 0, text: "Their connection is lost" });
  assert.deepEqual(signalOf(/** @type {any} */ ("splendid"), true), { bars: 3, text: "" }, "a word of a later room");
});
