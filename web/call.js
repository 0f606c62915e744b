// The call page: it wires a Call (client.js) to the page. link.js reads the
// address, prejoin.js is the page before the call, stage.js the tiles, chat.js the
// chat, connection.js the corner that says how it goes, words.js what is said.
//
// For tests, window.mayfly holds { call, stage, stats() }: the Call, the Stage, and
// a promise of the state, the connection's statistics and what every tile shows.

import { ChatPanel } from "./chat.js";
import { Call } from "./client.js";
import { ConnectionPanel } from "./connection.js";
import { open, remembered } from "./devices.js";
import { MediaCrypto } from "./e2ee.js";
import { seatsFor } from "./layout.js";
import { forget, keep, kept, readLink } from "./link.js";
import { $, Prejoin, toggle } from "./prejoin.js";
import { Stage } from "./stage.js";
import { deviceProblem, nearTheEnd, standing, whyOver } from "./words.js";

/** @import { CallErrorInfo, Kind } from "./types.js" */

const FIRST_SIZE = { width: 640, height: 360 }; // asked for until it is known who is there, and how large
const NOTICE_MS = 15_000;
const BANNER_MS = 1500; // a rejoin that takes less is not worth a word

const link = readLink(location, sessionStorage);
if (link.address) history.replaceState(null, "", location.pathname + location.search + link.address);

/** @type {Call} */ let call;
/** @type {MediaCrypto | null} */ let e2ee = null;
/** @type {Prejoin} */ let prejoin;
/** @type {Stage} */ let stage;
/** @type {ChatPanel} */ let chat;
/** Own sources that the room does not forward, whatever is sent. @type {Kind[]} */ let held = [];
/** @type {any} */ let bannerTimer = null;

/** @param {string} text */
function announce(text) {
  $("announce").textContent = text;
}

/** @param {string} text @param {{label: string, act: () => void}} [button] */
function banner(text, button) {
  clearTimeout(bannerTimer);
  $("banner").hidden = text === "";
  $("banner").textContent = text;
  if (!button) return;
  const b = document.createElement("button");
  b.textContent = button.label;
  b.onclick = button.act;
  $("banner").append(b);
}

/** The last page. @param {string} reason @param {CallErrorInfo} [error] @param {boolean} [again] whether coming back may work */
function over(reason, error, again = false) {
  prejoin?.stop();
  for (const local of Object.values(call?.local ?? {})) local.track?.stop();
  prejoin?.mic?.stop();
  prejoin?.camera?.stop();
  const { title, text } = whyOver(error?.code ?? reason);
  $("incall").hidden = true;
  $("over").hidden = false;
  $("over-title").textContent = title;
  $("over-text").textContent = text;
  $("over-code").textContent = error ? `Code: ${error.code}` : "";
  $("over-again").hidden = !again;
  $("over-again").textContent = reason === "left" ? "Join again" : "Try again";
  $("over-again").onclick = () => location.reload();
  document.title = title;
  $("over-title").focus();
}

function start() {
  if (!link.room || (!link.ticket && !link.resume)) return over("no_link");
  if (link.e2ee && !link.key) return over("e2ee_required");
  try {
    call = new Call({
      ws: link.ws,
      ...(link.resume ? { resume: link.resume } : { ticket: link.ticket }),
      publish: link.publish,
      ...(link.codec && { codec: link.codec }),
      ...(link.key && { e2ee: (e2ee = new MediaCrypto(link.key)) }),
      sdk: "mayfly-web/0.1.0",
      browser: navigator.userAgent.slice(0, 120),
    });
  } catch (err) {
    return over("unsupported", /** @type {any} */ (err));
  }
  stage = new Stage({
    stage: $("stage"), main: $("main"), tiles: $("tiles"),
    view: (wants) => {
      call.view(wants);
      call.grow(seatsFor(wants.length, call.participants.size));
    },
    silenced: () => banner("The browser blocks sound until you touch the page.", {
      label: "Turn on sound",
      act: () => {
        banner("");
        stage.unsilence();
      },
    }),
  });
  chat = new ChatPanel({ send: (text) => call.chat(text), announce });
  prejoin = new Prejoin({ name: link.name, fixedName: link.fixedName, join, opened: () => call.prepare() });
  call.view([], FIRST_SIZE);
  Object.assign(window, { mayfly: { call, stage, stats: snapshot, e2ee } });
  listen();
  new ConnectionPanel(call);
  controls();
  call.watch();
  begin();
}

async function begin() {
  const old = kept(sessionStorage, link.room);
  prejoin.muted = old.muted ?? false;
  await prejoin.start();
  if (old.cameraOff && !prejoin.cameraOff) await prejoin.toggleCamera();
  if (link.autojoin && !call.over) prejoin.ask();
}

function join() {
  if (!link.fixedName && prejoin.name) call.options.name = prejoin.name;
  keep(sessionStorage, link.room, { name: prejoin.name });
  call.setMuted("mic", prejoin.muted);
  for (const kind of /** @type {const} */ (["mic", "camera"])) {
    if (link.publish.includes(kind)) call.setTrack(kind, prejoin[kind]);
    else prejoin[kind]?.stop();
  }
  call.join().catch(() => {}); // the ended event tells it
}

function listen() {
  call.on("room", (room) => prejoin.room(room));
  call.on("resume", (resume) => keep(sessionStorage, link.room, { resume, joined: true }));
  call.on("joined", () => {
    if ($("incall").hidden) {
      prejoin.stop();
      $("incall").hidden = false;
      announce("You are in the call.");
    }
    stage.self.id = call.participant;
    stage.self.name = prejoin.name;
    showLocal();
  });
  call.on("state", (state) => {
    clearTimeout(bannerTimer);
    if (state === "rejoining") bannerTimer = setTimeout(() => banner("Connection lost. Reconnecting…"), BANNER_MS);
    if (state === "joined") banner("");
  });
  let before = new Set(call.participants.keys());
  call.on("participants", (people) => {
    for (const [id, p] of people) if (!before.has(id)) announce(`${p.name || "Guest"} joined`);
    before = new Set(people.keys());
    stage.people = people;
    $("count").textContent = people.size === 0 ? "Nobody else is here yet" : `${people.size + 1}\u00a0people`;
    stage.update();
  });
  call.on("seating", (seating) => {
    stage.seating = seating;
    stage.update();
  });
  call.on("speakers", (speakers) => {
    stage.speakers = speakers;
    stage.update();
  });
  call.on("chat", (c) => chat.add(c, c.from === call.participant));
  call.on("quality", (q) => {
    stage.quality = q;
    stage.describe();
  });
  call.on("grants", ({ grants, muted }) => {
    const now = link.publish.filter((kind) => muted.includes(kind) || !grants.publish.includes(kind));
    const text = standing(held, now);
    held = now;
    chat.allow(grants.chat);
    showLocal();
    if (!text) return;
    banner(text);
    announce(text);
    bannerTimer = setTimeout(() => banner(""), NOTICE_MS);
  });
  call.on("budget", (b) => {
    banner(nearTheEnd(b));
    announce(nearTheEnd(b));
    bannerTimer = setTimeout(() => banner(""), NOTICE_MS);
  });
  call.on("local", showLocal);
  call.on("error", (err) => console.warn("mayfly:", err.code));
  call.on("ended", ({ reason, error }) => {
    const again = reason === "left" || reason === "connection_lost" || reason === "terminated" || error?.retryable === true;
    // One who left comes back through the door, not straight into the room.
    if (reason === "left") keep(sessionStorage, link.room, { joined: false });
    else if (!again && error?.code !== "ticket_used") forget(sessionStorage, link.room);
    over(reason, error, again);
  });
}

/** Buttons and preview of the own sources. */
function showLocal() {
  const { mic, camera, screen } = call.local;
  const silent = mic.muted || !mic.track;
  toggle("mic", silent, "i-mic", silent ? "Unmute" : "Mute");
  toggle("camera", !camera.track, "i-cam", camera.track ? "Camera off" : "Camera on");
  $("share").setAttribute("aria-pressed", String(screen.track !== null));
  $("share").classList.toggle("on", screen.track !== null);
  $("share").querySelector("span").textContent = screen.track ? "Stop sharing" : "Share";
  // The buttons of what is turned off still work: it comes back as it is then.
  for (const [id, kind, title] of /** @type {const} */ ([["mic", "mic", "Microphone (D)"], ["camera", "camera", "Camera (E)"], ["share", "screen", "Share your screen"]])) {
    $(id).classList.toggle("held", held.includes(kind));
    $(id).title = held.includes(kind) ? "Turned off by whoever runs this call" : title;
    if (held.includes(kind)) $(id).querySelector("span").textContent = "Turned off";
  }
  stage.self.muted = silent || held.includes("mic");
  stage.self.held = held.includes("camera");
  if ((stage.self.camera?.getVideoTracks()[0] ?? null) !== camera.track) {
    stage.self.camera = camera.track ? new MediaStream([camera.track]) : null;
  }
  stage.update();
}

async function toggleMic() {
  const { mic } = call.local;
  if (!mic.track) {
    const track = await device("mic");
    if (!track) return;
    call.setTrack("mic", track);
    call.setMuted("mic", false);
  } else {
    call.setMuted("mic", !mic.muted);
  }
  keep(sessionStorage, link.room, { muted: call.local.mic.muted });
}

async function toggleCamera() {
  const { track } = call.local.camera;
  if (track) {
    track.stop(); // its light goes out
    call.setTrack("camera", null);
  } else {
    call.setTrack("camera", await device("camera"));
  }
  keep(sessionStorage, link.room, { cameraOff: !call.local.camera.track });
}

/** @param {"mic" | "camera"} kind */
async function device(kind) {
  try {
    return await open(kind, remembered()[kind]);
  } catch (err) {
    banner(deviceProblem(err, true), { label: "Close", act: () => banner("") });
    return null;
  }
}

async function toggleShare() {
  if (call.local.screen.track) {
    for (const kind of /** @type {const} */ (["screen", "screen-audio"])) {
      call.local[kind].track?.stop();
      call.setTrack(kind, null);
    }
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: true });
    const [video] = stream.getVideoTracks();
    if (video) video.contentHint = "detail";
    call.setTrack("screen", video ?? null);
    if (link.publish.includes("screen-audio")) call.setTrack("screen-audio", stream.getAudioTracks()[0] ?? null);
  } catch (err) {
    if (err instanceof Error && err.name !== "NotAllowedError") banner("The screen cannot be shared here.", { label: "Close", act: () => banner("") });
  }
}

function showLayout() {
  const grid = stage.layout === "grid";
  $("layout").querySelector("use").setAttribute("href", grid ? "#i-speaker" : "#i-grid");
  $("layout").querySelector("span").textContent = grid ? "Speaker" : "Grid";
}

function controls() {
  $("mic").onclick = toggleMic;
  $("camera").onclick = toggleCamera;
  $("share").onclick = toggleShare;
  $("mic").hidden = !link.publish.includes("mic");
  $("camera").hidden = !link.publish.includes("camera");
  $("share").hidden = !link.publish.includes("screen") || !navigator.mediaDevices?.getDisplayMedia;
  $("layout").onclick = () => {
    stage.layout = stage.layout === "grid" ? "speaker" : "grid";
    stage.pinned = "";
    stage.update();
    showLayout();
  };
  $("stage").addEventListener("layout", showLayout);
  $("leave").onclick = () => call.leave();
  document.addEventListener("visibilitychange", () => stage.visibility());
  addEventListener("online", () => call.nudge());
  /** @type {any} */ const network = /** @type {any} */ (navigator).connection; // what it is of: phones say so, and change without being offline
  let kind = network?.type;
  network?.addEventListener("change", () => kind !== network.type && ((kind = network.type), call.nudge()));
  addEventListener("keydown", (e) => {
    const typing = e.target instanceof HTMLElement && e.target.closest("input, select, textarea");
    if (typing || e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
    const before = !$("prejoin").hidden;
    if (!before && $("incall").hidden) return;
    if (e.key === "d" || e.key === "D") before ? prejoin.toggleMic() : toggleMic();
    else if (e.key === "e" || e.key === "E") before ? prejoin.toggleCamera() : toggleCamera();
  });
}

/** What a test wants to know. */
async function snapshot() {
  return {
    state: call.state,
    participant: call.participant,
    epoch: call.room?.epoch ?? 0,
    stats: await call.stats(),
    seating: call.seating.map(({ stream: _, ...seat }) => seat),
    sizes: Object.fromEntries(stage.sizes),
  };
}

start();
