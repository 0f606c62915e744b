// What people hear and see over bad networks, in real browsers behind the relay of
// test/nettest. Every figure is the browser's own (getStats), over a window that begins
// when the call has settled.
import assert from 'node:assert/strict'
import { appendFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { launchChromium, openAll, openChromium, openFirefox, openTab } from './lib/browsers.mjs'
import { enter, idOf, leave, report, sees } from './lib/call.mjs'
import { Helper, concealment, diary, encoded, enterBehind, hears, inbound, received, takeFrames, throughRelay, watchFrames } from './lib/links.mjs'
import { System, until } from './lib/system.mjs'
import { rawMicrophone, writeVoice } from './lib/voice.mjs'

const SETTLE_MS = 6000
const WINDOW_MS = 20_000

/** @type {System} */ let system
/** @type {Helper} */ let relays
let voice
before(async () => {
  system = await System.start()
  relays = Helper.start(system.dir, './test/nettest/cmd')
  voice = join(system.dir, 'voice.wav')
  await writeVoice(voice)
  await mkdir('out/e2e', { recursive: true })
})
after(async () => {
  const code = await relays.stop()
  await system.stop()
  assert.equal(code, 0, 'the relays ended in good order')
})

const sleep = (ms) => new Promise((r) => setTimeout(r, ms))
const percent = (x) => `${(100 * x).toFixed(2)} %`
/** createRoom makes a room for people who publish what is said. */
const createRoom = async (people) => {
  const r = await system.api('POST', '/v1/rooms', {
    empty_timeout_s: 2,
    participants: Object.entries(people).map(([name, publish]) => ({
      identity: name, name, grants: { publish, subscribe: true, chat: true, moderate: false },
    })),
  })
  assert.equal(r.status, 201, JSON.stringify(r.body))
  return r.body
}

test('one voice and one camera over lossy links: concealment, freezes, and who is not concerned', { timeout: 150_000 }, async (t) => {
  const room = await createRoom({ ann: ['mic', 'camera'], bob: ['mic'], good: [], five: [], thirty: [], fox: [] })
  const listeners = await launchChromium()
  t.after(() => listeners.close())
  const size = { width: 480, height: 360 }
  const args = [`--use-file-for-fake-audio-capture=${voice}`] // which only one page of a browser hears
  const [ann, bob, fox, good, five, thirty] = await openAll(t,
    () => openChromium({ ...size, args, init: rawMicrophone }), () => openChromium({ ...size, args, init: [rawMicrophone, throughRelay] }),
    () => openFirefox({ ...size, init: throughRelay }), () => openTab(listeners, { width: 640, height: 480 }),
    () => openTab(listeners, { ...size, init: throughRelay }), () => openTab(listeners, { ...size, init: throughRelay }))
  const camera = `${idOf(room, 'ann')}/camera`
  const [mic, far] = ['ann', 'bob'].map((name) => `${idOf(room, name)}/mic`)
  const pages = [ann, bob, good, five, thirty, fox]
  const behind = (page, name, seed, up, down) => enterBehind(relays, page, room, name, { seed, up: { delay_ms: 20, ...up }, down: { delay_ms: 20, ...down } })
  try {
    // The good viewer alone, for a picture of what it has when nobody has a bad link. It
    // pins the camera, so that its tile does not shrink when others come.
    await Promise.all([enter(ann, room, 'ann'), enter(good, room, 'good'), behind(bob, 'bob', 1, { loss: 0.3 })])
    await until('a tile to pin', 10_000, () => good.evaluate((id) => {
      const pin = document.querySelector(`[data-source="${id}"] .pin`)
      pin?.click()
      return Boolean(pin)
    }, camera))
    await Promise.all([hears(good, mic), hears(good, far)])
    const alone = await until('the good viewer has its layer', 20_000, async () => {
      const s = await inbound(good, camera)
      return s?.frameHeight >= 360 && s.framesPerSecond >= 15 && s
    })
    await Promise.all([
      behind(five, 'five', 2, {}, { loss: 0.05 }), behind(thirty, 'thirty', 3, {}, { loss: 0.3 }), behind(fox, 'fox', 4, {}, { loss: 0.15 }),
    ])
    await Promise.all([five, thirty, fox].map((p) => hears(p, mic)))
    await sees(five, camera)
    await Promise.all([good, five].map(watchFrames))
    await sleep(SETTLE_MS)
    const streams = {
      'clean voice': [good, mic], 'voice, 5 % lost down': [five, mic], 'voice, 30 % lost down': [thirty, mic],
      'Firefox, voice, 15 % lost down': [fox, mic], 'voice, 30 % lost up': [good, far],
      'clean camera': [good, camera], 'camera, 5 % lost down': [five, camera],
    }
    const look = async () => Object.fromEntries(await Promise.all(Object.entries(streams).map(async ([name, of]) => [name, await inbound(...of)])))
    let begin, end, made, still, stillFive, ratio
    // A window in which the machine starves even the clean viewer tells nothing of links.
    const starved = () => ratio['clean voice'] > 0.01 || still.frozen > 500
    for (let tries = 1; tries === 1 || (tries <= 3 && starved()); tries++) {
      await Promise.all([good, five].map(takeFrames))
      begin = await look()
      const first = await encoded(ann)
      await sleep(WINDOW_MS)
      end = await look()
      const last = await encoded(ann)
      made = (height) => (last[height] ?? 0) - (first[height] ?? 0)
      ;[still, stillFive] = (await Promise.all([good, five].map(takeFrames))).map((f) => f[camera])
      ratio = {}
      for (const name of Object.keys(streams)) {
        const grown = (field) => (end[name][field] ?? 0) - (begin[name][field] ?? 0)
        const lost = grown('packetsLost')
        const text = `${name}: ${percent(lost / Math.max(1, lost + grown('packetsReceived')))} of ${lost + grown('packetsReceived')} packets lost`
        if (end[name].kind === 'audio') {
          ratio[name] = concealment(begin[name], end[name])
          t.diagnostic(`${text}, ${percent(ratio[name])} concealed`)
        } else {
          t.diagnostic(`${text}, ${(grown('framesDecoded') * 1000 / WINDOW_MS).toFixed(1)} fps at ${end[name].frameWidth}×${end[name].frameHeight}, ${grown('freezeCount')} freezes`)
        }
      }
      t.diagnostic(`longest without a frame, longest freeze: clean ${still.still.toFixed(0)} and ${still.frozen.toFixed(0)} ms, 5 % ${stillFive.still.toFixed(0)} and ${stillFive.frozen.toFixed(0)} ms`)
    }
    // What a starved machine does to the viewer without a bad link it does to all.
    const own = ratio['clean voice']
    if (own > 0.05 || still.frozen > 1500) {
      // No verdict is no success: scripts/test.sh lists it, and fails on it when CI=true.
      await appendFile('out/skipped.txt', 'bad links in browsers: this machine starves even the viewer without one\n')
      return t.skip('this machine starves even the viewer on a good link')
    }
    const atMost = (name, bound) => assert.ok(ratio[name] - own <= bound, `${name}: ${percent(ratio[name])} concealed, ${percent(own)} of it without loss, at most ${percent(bound)}`)
    atMost('voice, 5 % lost down', 0.01)
    atMost('voice, 30 % lost down', 0.05)
    atMost('Firefox, voice, 15 % lost down', 0.05)
    atMost('voice, 30 % lost up', 0.10)
    assert.ok(stillFive.frozen - still.frozen <= 1000, `no freeze over 1 s at 5 % loss, not ${stillFive.frozen.toFixed(0)} ms`)
    const [before, after] = [begin['clean camera'], end['clean camera']]
    assert.equal(after.packetsLost - before.packetsLost, 0, 'the good link lost nothing')
    assert.deepEqual([after.frameWidth, after.frameHeight], [alone.frameWidth, alone.frameHeight], 'the good viewer keeps its layer')
    // A busy machine encodes fewer pictures than it has time to show.
    const [all, shown] = [made(after.frameHeight), after.framesDecoded - before.framesDecoded]
    assert.ok(all > 100 && shown >= 0.9 * all, `and its frame rate: ${shown} of ${all} pictures`)
    await Promise.all(pages.map(leave))
  } catch (err) {
    for (const p of [good, five]) t.diagnostic(`what ${p.name} saw:\n${await diary(p).catch(() => '')}`)
    await report(t, pages, system)
    throw err
  }
})

test('four videos over 100 kbit/s: the voice stays, the pictures go and come back', { timeout: 120_000 }, async (t) => {
  const names = ['v0', 'v1', 'v2', 'v3']
  const room = await createRoom({ ann: [], ...Object.fromEntries(names.map((n) => [n, ['mic', 'camera']])) })
  const robots = Helper.start(system.dir, './test/robot/cmd')
  t.after(async () => assert.equal(await robots.stop(), 0, 'the robots left in good order'))
  const [ann] = await openAll(t, () => openChromium({ width: 1000, height: 700, init: throughRelay }))
  const cameras = names.map((n) => `${idOf(room, n)}/camera`)
  const mic = `${idOf(room, 'v0')}/mic`
  const fair = { delay_ms: 20 }
  try {
    const tickets = names.map((n) => room.participants.find((p) => p.identity === n).ticket)
    await robots.do({ do: 'join', ws: system.info.ws_url, tickets, layers: 3, dtx: true })
    await robots.do({ do: 'speak', robot: 0, loud: true })
    const link = await enterBehind(relays, ann, room, 'ann', { seed: 5, up: fair, down: fair })
    await hears(ann, mic)
    await Promise.all(cameras.map((c) => sees(ann, c, { audio: false, ms: 30_000 })))
    /** paused is how many of the cameras are, by the room's word. */
    const paused = () => ann.evaluate(() => window.mayfly.call.seating.filter((s) => s.video && s.paused === 'bandwidth').length)
    /** decoded is the frames of every camera. */
    const decoded = async () => {
      const all = await received(ann)
      return cameras.map((c) => all.find((s) => s.source === c)?.framesDecoded ?? 0)
    }
    const before = await inbound(ann, mic)
    await watchFrames(ann)

    await link.set({ down: { ...fair, kbps: 100, queue_ms: 300 } })
    const squeezed = Date.now()
    // What is sent is seen before the link; what the page is told has to pass it. The
    // voice, its repairs and probes stay below 200 kbit/s, a picture does not.
    let shed = 0
    for (let last = (await link.counters()).down.in_bytes, at = squeezed; Date.now() < squeezed + 3000; ) {
      await sleep(200)
      const [bytes, now] = [(await link.counters()).down.in_bytes, Date.now()]
      if (((bytes - last) * 8) / (now - at) > 200) shed = now - squeezed
      ;[last, at] = [bytes, now]
    }
    await until('the page is told that no picture is sent', 5000, async () => (await paused()) === 4)
    const told = Date.now() - squeezed
    await sleep(Math.max(0, squeezed + 3000 - Date.now()))
    const begin = await inbound(ann, mic)
    const at = (await link.counters()).down
    await sleep(WINDOW_MS / 2)
    const end = await inbound(ann, mic)
    const then = (await link.counters()).down
    const frames = await decoded()

    await link.set({ down: fair })
    const freed = Date.now()
    await until('all four pictures are back', 30_000, async () => (await decoded()).every((n, i) => n >= frames[i] + 10))
    const back = Date.now() - freed

    t.diagnostic(`no picture is sent ${shed} ms after the link became narrow, as the page knew after ${told} ms; all are back after ${back} ms`)
    t.diagnostic(`voice over 100 kbit/s: ${percent(concealment(begin, end))} concealed; over the change and 3 s: ${percent(concealment(before, begin))}`)
    t.diagnostic(`link: ${(((then.out_bytes - at.out_bytes) * 8) / (WINDOW_MS / 2)).toFixed(0)} kbit/s passed, ${then.overflow - at.overflow} of ${then.in - at.in} packets found no room`)
    assert.ok(concealment(begin, end) <= 0.02, 'the voice')
    assert.ok(shed <= 2000, `pictures were sent for ${shed} ms`)
    assert.ok(back <= 10_000, `pictures came back after ${back} ms`)
    await leave(ann)
  } catch (err) {
    t.diagnostic(`what ann saw:\n${await diary(ann, 400).catch(() => '')}`)
    await report(t, [ann], system)
    throw err
  }
})
