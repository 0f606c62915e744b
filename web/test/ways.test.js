import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_RELAY_MS, MIN_RELAY_MS, newest, reached, relayIn, wayOf } from "../ways.js";

test("when the relay is brought in", () => {
  const rows = [
    // servers, ms that the join took, ms to wait
    [0, 20, null],
    [1, 0, MIN_RELAY_MS],
    [1, 20, MIN_RELAY_MS],
    [1, 200, 900],
    [2, 500, 1800],
    [1, 5000, MAX_RELAY_MS],
  ];
  for (const [servers, asked, want] of rows) assert.equal(relayIn(/** @type {number} */ (servers), /** @type {number} */ (asked)), want);
});

test("a path is there or not", () => {
  for (const state of ["connected", "completed"]) assert.ok(reached(state));
  for (const state of ["new", "checking", "disconnected", "failed", "closed"]) assert.ok(!reached(state));
});

test("ways in by candidate", () => {
  const rows = [
    [undefined, ""], [{}, ""],
    [{ candidateType: "host", protocol: "udp" }, "udp"],
    [{ candidateType: "prflx", protocol: "tcp" }, "tcp"],
    [{ candidateType: "relay", protocol: "udp", relayProtocol: "udp" }, "turn-udp"],
    [{ candidateType: "relay", protocol: "udp", relayProtocol: "tcp" }, "turn-tcp"],
    [{ candidateType: "relay", protocol: "udp", relayProtocol: "tls" }, "turn-tls"],
    [{ candidateType: "relay", protocol: "udp" }, "turn-udp"],
  ];
  for (const [candidate, want] of rows) assert.equal(wayOf(/** @type {any} */ (candidate)), want);
});

test("the paths of a newer answer come before those of an older one", () => {
  const answer = "a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host\r\na=candidate:2 1 tcp 1671430143 192.0.2.1 443 typ host tcptype passive\r\na=ice-ufrag:x\r\n";
  assert.equal(newest(answer, 3), "a=candidate:1 1 udp 3 192.0.2.1 3478 typ host\r\na=candidate:2 1 tcp 3 192.0.2.1 443 typ host tcptype passive\r\na=ice-ufrag:x\r\n");
});
