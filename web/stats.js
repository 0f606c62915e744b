// A summary of RTCPeerConnection.getStats() in numbers that mean the same in every
// browser. Pure but for the call of getStats.

import { wayOf } from "./ways.js";

/** @import { SeatStats, Stats } from "./types.js" */

/** @typedef {{at: number, bytesIn: number, bytesOut: number, received: number, lost: number, sent: number, lostOut: number}} Marks */

/**
 * Finds the candidate pair in use. Firefox has no transport statistics to name it.
 * @param {any[]} all
 */
function selectedPair(all) {
  const transport = all.find((s) => s.type === "transport" && s.selectedCandidatePairId);
  if (transport) return all.find((s) => s.id === transport.selectedCandidatePairId);
  const pairs = all.filter((s) => s.type === "candidate-pair" && s.state === "succeeded");
  return pairs.find((s) => s.selected) ?? pairs.find((s) => s.nominated) ?? pairs[0];
}

/** @param {any[]} all @param {string} type @param {string} field */
const sum = (all, type, field) => all.reduce((n, s) => n + (s.type === type ? (s[field] ?? 0) : 0), 0);

/** @param {number} lost @param {number} good */
const ratio = (lost, good) => (lost + good > 0 ? Math.min(1, Math.max(0, lost) / (Math.max(0, lost) + good)) : 0);

/**
 * @param {any[]} all the values of a stats report
 * @param {(mid: string) => number} seatOf seat of an m-line, or -1
 * @param {Marks | null} last
 * @param {number} now milliseconds
 * @returns {{stats: Stats, marks: Marks}}
 */
export function summarize(all, seatOf, last, now) {
  const pair = selectedPair(all);
  const local = pair && all.find((s) => s.id === pair.localCandidateId);
  const transport = all.find((s) => s.type === "transport" && s.bytesSent !== undefined);
  /** @type {Marks} */
  const marks = {
    at: now,
    bytesIn: transport?.bytesReceived ?? pair?.bytesReceived ?? 0,
    bytesOut: transport?.bytesSent ?? pair?.bytesSent ?? 0,
    received: sum(all, "inbound-rtp", "packetsReceived"),
    lost: sum(all, "inbound-rtp", "packetsLost"),
    sent: sum(all, "outbound-rtp", "packetsSent"),
    lostOut: sum(all, "remote-inbound-rtp", "packetsLost"),
  };
  const before = last ?? { ...marks, at: now - 1 };
  const seconds = Math.max(0.001, (now - before.at) / 1000);
  const rtt = pair?.currentRoundTripTime;
  return {
    marks,
    stats: {
      transport: wayOf(local),
      rttMs: rtt === undefined ? null : Math.round(rtt * 1000),
      lossIn: ratio(marks.lost - before.lost, marks.received - before.received),
      lossOut: ratio(marks.lostOut - before.lostOut, marks.sent - before.sent),
      bytesIn: marks.bytesIn,
      bytesOut: marks.bytesOut,
      bpsIn: ((marks.bytesIn - before.bytesIn) * 8) / seconds,
      bpsOut: ((marks.bytesOut - before.bytesOut) * 8) / seconds,
      seats: seatStats(all, seatOf),
    },
  };
}

/** @param {any[]} all @param {(mid: string) => number} seatOf @returns {SeatStats[]} */
function seatStats(all, seatOf) {
  /** @type {Map<number, SeatStats>} */
  const seats = new Map();
  for (const s of all) {
    const seat = s.type === "inbound-rtp" ? seatOf(s.mid) : -1;
    if (seat < 0) continue;
    const of = seats.get(seat) ?? { seat, width: 0, height: 0, fps: 0, framesDecoded: 0, audioEnergy: 0 };
    if (s.kind === "video") {
      of.width = s.frameWidth ?? 0;
      of.height = s.frameHeight ?? 0;
      of.fps = s.framesPerSecond ?? 0;
      of.framesDecoded = s.framesDecoded ?? 0;
    } else {
      of.audioEnergy = s.totalAudioEnergy ?? 0;
    }
    seats.set(seat, of);
  }
  return [...seats.values()].sort((a, b) => a.seat - b.seat);
}
