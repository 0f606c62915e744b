// What the page says. Pure: codes and states in, sentences out.

/** @import { Budget, Kind, Level, Quality, Room, Stats } from "./types.js" */

/** @type {Record<string, string>} */
const PHASES = {
  requested: "Your room is being prepared",
  queued: "All servers are busy; your room is next in line",
  provisioning: "Finding a server for your room",
  pulling: "Loading your room",
  booting: "Starting your room",
  live: "Your room is ready",
  draining: "This room is closing",
};

/** For so long, nothing but connecting is said. */
export const UNHEARD_MS = 5000;

/**
 * The room's state in words, and how far it is (0 to 100, or null).
 * @param {Room | null} room @param {number} now ms @param {boolean} waiting whether the person has asked to join
 * @param {number} [asking] ms for which nothing has been heard of the room
 */
export function roomStatus(room, now, waiting, asking = 0) {
  if (!room) return { text: asking < UNHEARD_MS ? "Connecting…" : "The service does not answer yet. Is your network up? Trying again…", done: null };
  if (room.state === "live") return { text: waiting ? "Joining…" : "Your room is ready.", done: null };
  const phase = PHASES[room.phase] ?? PHASES[room.state] ?? "Your room is starting";
  // The clocks of two machines: a negative or absurd difference says nothing.
  const elapsed = now - room.since_ms;
  const known = elapsed >= 0 && elapsed < 600_000;
  let text = phase + (known ? `, ${Math.round(elapsed / 1000)}\u00a0s` : "…");
  let done = null;
  if (room.eta_ms) {
    const left = room.eta_ms - (known ? elapsed : 0);
    text += left > 1000 ? `; about ${Math.ceil(left / 1000)}\u00a0s to go.` : "; any moment now.";
    done = known ? Math.min(95, (100 * elapsed) / room.eta_ms) : null;
  }
  return { text: waiting ? `${text} You will join as soon as it is ready.` : text, done };
}

/** @type {Record<string, [string, string]>} */
const OVER = {
  left: ["You left the call", "Thank you for being there."],
  replaced: ["You joined somewhere else", "This call goes on in another window or on another device."],
  ejected: ["You were removed from the call", "Whoever runs this call ended your participation."],
  connection_lost: ["The connection was lost", "Check your network, then join again."],
  empty: ["The call is over", "Everyone has left."],
  unused: ["The room was closed", "Nobody joined in time. Ask for a new link."],
  max_duration: ["The call is over", "It reached its longest allowed time."],
  max_participant_minutes: ["The call is over", "It reached its longest allowed time together."],
  max_egress: ["The call is over", "It used up the data that it was given."],
  max_cost: ["The call is over", "It used up the budget that it was given."],
  deleted: ["The call is over", "Whoever runs this call ended it."],
  terminated: ["The call was interrupted", "The server is going away. Join again in a moment."],
  failed: ["The room could not be kept running", "Ask for a new link."],
  ended: ["The call is over", "This room has ended."],
  room_ended: ["The call is over", "This room has ended."],
  room_not_found: ["There is no such room", "Check the link, or ask for a new one."],
  room_full: ["The room is full", "Try again when someone has left."],
  ticket_expired: ["This link is too old", "Links work for a short time only. Ask for a new one."],
  ticket_used: ["This link was used before", "Each link works once. Ask for a new one, or go back to the window where you joined."],
  ticket_invalid: ["This link does not work", "It may be incomplete. Copy it again, or ask for a new one."],
  ticket_wrong_room: ["This link is for another room", "Ask for a new one."],
  resume_invalid: ["You cannot come back with this", "You may have joined elsewhere since. Ask for a new link."],
  e2ee_required: ["The key is missing", "This call is encrypted end to end, and its link has a part that only you were given. Copy the whole link again."],
  bad_key: ["The key is not complete", "This call is encrypted end to end. Copy the whole link again."],
  no_link: ["This page needs a link", "Open the link that you were given for the call."],
  unsupported: ["This browser cannot make calls", "Use a current Firefox, Chrome, Edge or Safari."],
  signalling_lost: ["The service cannot be reached", "Check your network, then try again."],
};

/** Why it is over, and what to do. @param {string} code */
export function whyOver(code) {
  const [title, text] = OVER[code] ?? ["Something went wrong", "Try again. If it happens again, tell whoever runs this call."];
  return { title, text };
}

/** @type {Record<string, string>} */
const PAUSED = {
  muted: "Camera off",
  hidden: "",
  bandwidth: "Paused: your connection is too slow",
  overload: "Paused: this call has more video than its server can carry",
  codec: "This browser cannot show this video",
  no_keyframe: "Starting…",
};

/** Why a picture is not shown. @param {string | undefined} paused @param {boolean} screen */
export function whyPaused(paused, screen) {
  if (!paused) return "";
  return paused === "muted" && screen ? "Sharing ended" : (PAUSED[paused] ?? "Paused");
}

/** @type {Record<Level, string>} */
const LEVELS = { excellent: "Excellent connection", good: "Good connection", poor: "Weak connection", lost: "Connection lost" };

/**
 * What a tile says about the way of its sound and picture: how many of three bars, and a
 * sentence, "" while there is nothing to say.
 * @param {Level} level @param {boolean} far whether the other end is the worse one
 */
export function signalOf(level, far) {
  const bars = { excellent: 3, good: 2, poor: 1, lost: 0 }[level] ?? 3;
  const whose = far ? "Their" : "Your";
  const text = { excellent: "", good: `${whose} connection is fair`, poor: `${whose} connection is weak`, lost: `${whose} connection is lost` }[level] ?? "";
  return { bars, text };
}

/**
 * The connection in a few words, and what is missing for it.
 * @param {boolean} media whether it is up @param {boolean} met whether it ever was
 * @param {Quality | null} [quality] @param {number} [paused] pictures paused for want of bandwidth
 */
export function connectionState(media, met, quality = null, paused = 0) {
  if (!media) return met ? "Reconnecting…" : "Connecting…";
  const parts = [quality ? (LEVELS[quality.level] ?? LEVELS.good) : "Connected"];
  if (paused > 0) parts.push(paused === 1 ? "one picture paused" : `${paused} pictures paused`);
  return parts.join(" · ");
}

/**
 * The connection in figures: [what, value].
 * @param {Stats | null} stats @param {boolean} signalling @param {Quality | null} [quality]
 * @returns {[string, string][]}
 */
export function connectionFigures(stats, signalling, quality = null) {
  /** @type {[string, string][]} */ const out = [];
  const way = quality?.transport || stats?.transport;
  if (way) out.push(["Way in", way.toUpperCase()]);
  if (stats && stats.rttMs !== null) out.push(["Round trip", `${stats.rttMs} ms`]);
  if (stats) {
    out.push(["Loss", `${(100 * Math.max(stats.lossIn, stats.lossOut)).toFixed(1)} %`]);
    out.push(["Receiving", `${megabits(stats.bpsIn)} Mbit/s`], ["Sending", `${megabits(stats.bpsOut)} Mbit/s`]);
  }
  if (quality?.bandwidth_kbps) out.push(["Room to receive", `${megabits(quality.bandwidth_kbps * 1000)} Mbit/s`]);
  out.push(["Service", signalling ? "connected" : "reconnecting"]);
  return out;
}

/** @param {number} bps */
const megabits = (bps) => (Math.max(0, bps) / 1e6).toFixed(1);

/** Whether to warn of the connection. @param {Stats | null} stats @param {Quality | null} quality */
export function weak(stats, quality) {
  return (stats !== null && Math.max(stats.lossIn, stats.lossOut) > 0.05) || (quality !== null && quality.score < 40);
}

/** One or two letters for someone without a picture. @param {string} name */
export function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const first = [...(words[0] ?? "?")][0] ?? "?";
  const last = words.length > 1 ? ([...(words.at(-1) ?? "")][0] ?? "") : "";
  return (first + last).toUpperCase();
}

/** @type {Record<Kind, string>} */
const OWN = { mic: "microphone", camera: "camera", screen: "screen", "screen-audio": "screen's sound" };

/** What to tell of own sources that whoever runs the room has muted, or no more; "" for nothing new. @param {Kind[]} was @param {Kind[]} is */
export function standing(was, is) {
  /** @param {Kind[]} kinds */
  const words = (kinds) => kinds.map((k) => OWN[k]).join(" and ");
  const held = is.filter((k) => !was.includes(k));
  const free = was.filter((k) => !is.includes(k));
  if (held.length > 0) return `Whoever runs this call has turned off your ${words(held)}.`;
  return free.length > 0 ? `You may use your ${words(free)} again.` : "";
}

/** What to tell when the room comes near a cap. @param {Budget} b */
export function nearTheEnd(b) {
  const text = b.level === "last" ? "This call will end very soon" : "This call will end soon";
  return b.reduce ? `${text}. Pictures are smaller until then.` : `${text}.`;
}

/** What to do when a device does not open. @param {unknown} err @param {boolean} [inside] the call */
export function deviceProblem(err, inside = false) {
  const without = inside ? "" : " You can also join without.";
  switch (err instanceof Error ? err.name : "") {
    case "NotAllowedError":
      return `Camera and microphone are blocked. Allow them with the icon in the address bar, then turn them on again.${without}`;
    case "NotFoundError": case "OverconstrainedError":
      return `No such camera or microphone was found.${without}`;
    case "NotReadableError":
      return `Another program uses the camera or microphone. Close it, then turn them on again.${without}`;
  }
  return `Camera and microphone cannot be used here.${without}`;
}
