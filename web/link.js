// The link that opens the page, and what is kept in the tab so that a reload comes
// back. The ticket leaves the address bar at once: it must not be bookmarked,
// shared on a screen or sent as a referrer. Pure but for the storage it is given.

import { VIDEO } from "./codecs.js";
import { KINDS } from "./peer.js";

/** @import { Kind, VideoCodec } from "./types.js" */

/**
 * @typedef {object} Link
 * @property {string} room
 * @property {string} ws
 * @property {string} ticket "" when the tab has a resume secret
 * @property {string} resume
 * @property {string} name from the ticket or from an earlier visit
 * @property {boolean} fixedName the ticket says the name
 * @property {Kind[]} publish what the ticket allows
 * @property {boolean} autojoin
 * @property {string} [key] of the media's encryption; from the address's fragment and kept in the tab alone
 * @property {boolean} [e2ee] the ticket says that the media are encrypted
 * @property {VideoCodec} [codec] to send own videos with, from ?codec=
 */

/** What is kept in the tab, by room. @typedef {{key?: string, ws?: string, ticket?: string, resume?: string, name?: string, joined?: boolean, muted?: boolean, cameraOff?: boolean}} Kept */

/** @param {string} room */
const key = (room) => `mayfly.room.${room}`;

/** @param {Storage} storage @param {string} room @returns {Kept} */
export function kept(storage, room) {
  try {
    return JSON.parse(storage.getItem(key(room)) ?? "{}");
  } catch {
    return {};
  }
}

/** @param {Storage} storage @param {string} room @param {Kept} change */
export function keep(storage, room, change) {
  storage.setItem(key(room), JSON.stringify({ ...kept(storage, room), ...change }));
}

/** @param {Storage} storage @param {string} room */
export function forget(storage, room) {
  storage.removeItem(key(room));
}

/**
 * What a ticket says of its bearer. The room decides by itself; the page only shows
 * what fits.
 * @param {string} ticket @returns {{name: string, publish: Kind[], e2ee?: boolean}}
 */
export function readTicket(ticket) {
  try {
    const payload = (ticket.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
    const publish = claims.grants?.publish;
    return {
      name: typeof claims.name === "string" ? claims.name : "",
      publish: Array.isArray(publish) ? KINDS.filter((k) => publish.includes(k)) : KINDS,
      ...(claims.e2ee === true && { e2ee: true }),
    };
  } catch {
    return { name: "", publish: KINDS };
  }
}

/**
 * Reads the page's address and the tab's memory.
 * @param {{hash: string, search: string, host: string, protocol: string}} location @param {Storage} storage
 * @returns {Link & {address: string}} address: the fragment to show instead, without the ticket
 */
export function readLink(location, storage) {
  const hash = new URLSearchParams(location.hash.slice(1));
  const room = hash.get("room") ?? "";
  const old = kept(storage, room);
  const given = hash.get("ticket") ?? "";
  const ws = hash.get("ws") ?? old.ws ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  // The same link opened again in this tab is a reload; another one begins anew.
  const anew = given !== "" && given !== old.ticket;
  const ticket = anew ? given : (old.ticket ?? "");
  const resume = anew ? "" : (old.resume ?? "");
  const key = hash.get("key") ?? old.key ?? "";
  if (room) keep(storage, room, { ws, ticket, resume, ...(key && { key }), ...(anew && { joined: false }) });
  const { name, publish, e2ee } = readTicket(ticket);
  const query = new URLSearchParams(location.search);
  const codec = VIDEO.find((c) => c === query.get("codec"));
  return {
    room, ws, resume, ticket: resume ? "" : ticket,
    name: name || old.name || "", fixedName: name !== "", publish, ...(key && { key }), ...(e2ee && { e2ee }),
    ...(codec && { codec }),
    autojoin: query.get("autojoin") === "1" || (resume !== "" && !anew && old.joined === true),
    address: room ? `#${new URLSearchParams({ room, ws })}` : "",
  };
}
