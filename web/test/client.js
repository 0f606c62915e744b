// A call in a world of fakes, as the tests of the client need it.

import { readFileSync } from "node:fs";

import { Call } from "../client.js";
import { settle, world } from "./fakes.js";

/** @import { CallOptions } from "../types.js" */

/** @param {string} name */
export const golden = (name) => JSON.parse(readFileSync(new URL(`../../shared/signal/testdata/${name}.json`, import.meta.url), "utf8")).body;

/** @param {number} version @param {string} state @param {number} [epoch] */
export const room = (version, state, epoch = 1) => ({ ...golden("room"), version, state, epoch });

/** @param {any} join @param {any} [change] */
export const joined = (join, change) => {
  const j = golden("joined");
  return { ...j, answer: { generation: join.body.offer.generation, sdp: "answer" }, ...change };
};

/** A call that watches, with its events noted. @param {Partial<CallOptions>} [options] */
export function begin(options) {
  const w = world();
  const call = new Call({ ws: "wss://x/", ticket: "T", seats: 2, env: w.env, ...options });
  /** @type {[string, any][]} */ const events = [];
  for (const e of /** @type {any[]} */ (["state", "seating", "participants", "chat", "error", "ended", "resume", "connection", "speakers"])) {
    call.on(e, (arg) => events.push([e, arg]));
  }
  return { ...w, call, events, of: (/** @type {string} */ type) => events.filter((e) => e[0] === type).map((e) => e[1]) };
}

/** A call that has joined and is connected. @param {Partial<CallOptions>} [options] */
export async function inRoom(options) {
  const t = begin(options);
  const promise = t.call.join();
  const ws = /** @type {any} */ (t.sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  await settle();
  ws.says("joined", joined(ws.last("join")), 1);
  await promise;
  const pc = /** @type {any} */ (t.pcs[0]);
  pc.becomes("connected");
  pc.channel.open();
  await settle();
  return { ...t, ws, pc };
}
