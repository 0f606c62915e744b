// Which way into the room: directly, over UDP or TCP, or by the task's own relay (TURN).
// Pure: client.js has the clock and the connection.
//
// The direct ways are all in the answer, and the browser tries them at once: UDP first,
// TCP on 443 and 80 where UDP does not pass. The relay is for networks that let neither
// through, most of all those that want to see TLS. A browser asks a relay for addresses
// before its offer or with an ICE restart: with the offer it would cost everybody several
// connections, and the few who need it half a second less.

export const MIN_RELAY_MS = 700;
export const MAX_RELAY_MS = 2500;

/**
 * How long after the answer a direct way is waited for before the relay is brought in: as
 * long as a TCP connection and its checks may take, which is three times what the join
 * took, and some for the slow. Null is never.
 * @param {number} servers how many the room told of
 * @param {number} askedMs from the join to its answer
 */
export function relayIn(servers, askedMs) {
  if (servers === 0) return null;
  return Math.min(Math.max(300 + 3 * askedMs, MIN_RELAY_MS), MAX_RELAY_MS);
}

/** Whether a path has been found. @param {string} state of ICE */
export const reached = (state) => state === "connected" || state === "completed";

/**
 * The way in that a candidate stands for, in the words of the room's record: udp, tcp,
 * turn-udp, turn-tcp or turn-tls; "" while unknown.
 * @param {{candidateType?: string, protocol?: string, relayProtocol?: string} | undefined} local
 */
export function wayOf(local) {
  if (!local) return "";
  return local.candidateType === "relay" ? `turn-${local.relayProtocol || "udp"}` : (local.protocol ?? "");
}

/**
 * Has the browser prefer the paths of this answer to those of earlier ones, whatever its
 * own addresses. After an ICE restart Chromium keeps to an older path that ranks higher, as
 * IPv6 does, for 3.5 s after it has died. The lower of both ends' priorities decides first
 * (RFC 8445 §6.1.2.3), so all of the room's get the same low one, which grows from answer to
 * answer; among the paths of one answer the browser's own priorities decide.
 * @param {string} sdp @param {number} answer counts from 1
 */
export function newest(sdp, answer) {
  return sdp.replace(/^(a=candidate:\S+ \d+ \S+) \d+/gm, `$1 ${answer}`);
}
