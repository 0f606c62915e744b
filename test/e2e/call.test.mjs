// The main job on real input: a room made by POST /v1/rooms, real browsers with fake
// cameras and microphones, the real handlers, and a real room task process.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { openChromium, openFirefox } from './lib/browsers.mjs'
import { System, until } from './lib/system.mjs'

/** @type {System} */ let system
before(async () => {
  system = await System.start()
  await mkdir('out/e2e', { recursive: true })
})
after(() => system.stop())

const linkOf = (room, name) => room.participants.find((p) => p.identity === name).call_url.replace('#', '?autojoin=1#')
const idOf = (room, name) => room.participants.find((p) => p.identity === name).participant_id

/** enter opens the call page and waits until it has joined; it notes the time. */
async function enter(page, room, name) {
  await page.goto(linkOf(room, name))
  await until(`${name} has joined (${page.kind})`, 20_000, () => page.evaluate(() => window.mayfly?.call.state === 'joined'))
  page.since = Date.now()
  page.name = name
}

/** seats is what a page receives: [{source, audio, width, height, framesDecoded, audioEnergy}]. */
const seats = (page) => page.evaluate(async () => {
  const s = await window.mayfly.call.stats()
  return window.mayfly.call.seating.map((t) => {
    const n = s?.seats.find((x) => x.seat === t.seat)
    return { source: t.video ?? '', audio: t.audio ?? '', paused: t.paused ?? '', ...n }
  })
})

const seatOf = async (page, source) => (await seats(page)).find((s) => s.source === source)

/** sees waits until a page decodes a source's video (rising), and hears audio with energy. */
async function sees(page, source, { audio = true, ms = 20_000 } = {}) {
  const first = await until(`${page.name} decodes ${source}`, ms, async () => {
    const s = await seatOf(page, source)
    return s && s.framesDecoded > 0 && s.width > 0 && s
  })
  return until(`${page.name} decodes more of ${source}`, ms, async () => {
    const s = await seatOf(page, source)
    return s && s.framesDecoded >= first.framesDecoded + 15 && (!audio || s.audioEnergy > 0) && s
  })
}

async function leave(page) {
  const bytes = await page.evaluate(async () => {
    const s = await window.mayfly.call.stats()
    return { in: s.bytesIn, out: s.bytesOut }
  })
  await page.evaluate(() => document.getElementById('leave').click())
  await until(`${page.name} is out`, 5000, () => page.evaluate(() => window.mayfly.call.state === 'ended'))
  return { ...bytes, ms: Date.now() - page.since }
}

const closed = (room) => until('the ledger is closed', 10_000, async () => {
  const u = (await system.api('GET', `/v1/rooms/${room.id}/usage`)).body
  return u.status === 'closed' && u
})

test('Chromium and Firefox: call, late joiner, screen share, layouts, leave, bill', { timeout: 180_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob', 'cat'])
  const [ann, bob, cat] = await Promise.all([openChromium(), openFirefox(), openChromium({ width: 420, height: 360 })])
  t.after(() => Promise.all([ann, bob, cat].map((p) => p.close())))
  const camera = (name) => `${idOf(room, name)}/camera`
  const tell = async (err) => {
    for (const p of [ann, bob, cat]) {
      t.diagnostic(`${p.name} (${p.kind}): ${JSON.stringify(await seats(p).catch((e) => e.message))}\n${p.console.slice(-15).join('\n')}`)
      await p.screenshot(`out/e2e/failed-${p.name}.png`).catch(() => {})
    }
    t.diagnostic(system.log.slice(-6000))
    throw err
  }

  try {
    await Promise.all([enter(ann, room, 'ann'), enter(bob, room, 'bob')])
    const [atAnn, atBob] = await Promise.all([sees(ann, camera('bob')), sees(bob, camera('ann'))])
    t.diagnostic(`ann receives bob at ${atAnn.width}×${atAnn.height}, bob receives ann at ${atBob.width}×${atBob.height}`)
    for (const s of [atAnn, atBob]) assert.ok(s.width >= 160 && s.height >= 90 && s.width <= 1920, `size ${s.width}×${s.height}`)

    await enter(cat, room, 'cat') // late
    await Promise.all([sees(cat, camera('ann')), sees(cat, camera('bob')), sees(ann, camera('cat')), sees(bob, camera('cat'))])

    // Ann's camera in a large tile for bob (speaker layout, pinned), in a small one for cat.
    await bob.evaluate((id) => document.querySelector(`[data-source^="${id}"] .pin`).click(), idOf(room, 'ann'))
    await bob.evaluate(() => document.getElementById('layout').click())
    const [large, small] = await until('two layouts receive two sizes of one camera', 20_000, async () => {
      const [b, c] = await Promise.all([seatOf(bob, camera('ann')), seatOf(cat, camera('ann'))])
      return b?.width > 0 && c?.width > 0 && b.width > c.width && [b, c]
    })
    t.diagnostic(`one camera, two layouts: ${large.width}×${large.height} and ${small.width}×${small.height}`)

    await ann.evaluate(() => document.getElementById('share').click())
    const screen = `${idOf(room, 'ann')}/screen`
    const shared = await Promise.all([sees(bob, screen, { audio: false }), sees(cat, screen, { audio: false })])
    t.diagnostic(`screen received at ${shared.map((s) => `${s.width}×${s.height}`).join(' and ')}`)
    await Promise.all([ann, bob, cat].map((p) => p.screenshot(`out/e2e/call-${p.name}.png`)))
    await ann.evaluate(() => document.getElementById('share').click())

    await ann.evaluate(() => window.mayfly.call.chat('<b>hello</b>'))
    await until('the chat arrives as text', 5000, () => bob.evaluate(() => document.getElementById('messages').textContent.includes('<b>hello</b>')))

    await new Promise((r) => setTimeout(r, 3000)) // enough bytes for a percentage
    const out = await Promise.all([ann, bob, cat].map(leave))
    const left = Date.now()
    await until('the room task has ended by itself', 7000, async () => !(await system.taskPid(room.id)))
    t.diagnostic(`the task ended ${Date.now() - left} ms after the last leave (empty_timeout_s 2)`)

    const u = await closed(room)
    const sum = (f) => out.reduce((n, o) => n + f(o), 0)
    const near = (what, got, want, limit) => {
      t.diagnostic(`${what}: ledger ${got}, browsers ${want} (${(100 * (got / want - 1)).toFixed(3)} %)`)
      assert.ok(Math.abs(got / want - 1) <= limit, `${what}: ledger ${got}, browsers ${want}`)
    }
    near('bytes out', u.totals.bytes_out.total, sum((o) => o.in), 0.01)
    near('bytes in', u.totals.bytes_in.total, sum((o) => o.out), 0.01)
    const ms = sum((o) => o.ms)
    t.diagnostic(`participant time: ledger ${u.totals.participant_ms} ms, script ${ms} ms`)
    assert.ok(Math.abs(u.totals.participant_ms - ms) <= 1000)
    assert.equal(u.epochs.length, 1)
    assert.equal(u.epochs[0].exit_code, 0)
  } catch (err) {
    await tell(err)
  }
})

test('kill -9 of the task during a call: both browsers come back without a click', { timeout: 120_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob'])
  const [ann, bob] = await Promise.all([openChromium(), openFirefox()])
  t.after(() => Promise.all([ann, bob].map((p) => p.close())))
  const camera = (name) => `${idOf(room, name)}/camera`
  try {
    await Promise.all([enter(ann, room, 'ann'), enter(bob, room, 'bob')])
    await Promise.all([sees(ann, camera('bob')), sees(bob, camera('ann'))])
    const pid = await system.taskPid(room.id)
    assert.ok(pid > 0)
    const at = Date.now()
    process.kill(pid, 'SIGKILL')
    await until('a new task serves the room', 5000, async () => { const p = await system.taskPid(room.id); return p && p !== pid })
    const decodes = async (page, source) => {
      await until(`${page.name} is in the new epoch`, 5000, () => page.evaluate(() => window.mayfly.call.state === 'joined' && window.mayfly.call.room.epoch === 2))
      return until(`${page.name} decodes again`, 5000, async () => (await seatOf(page, source))?.framesDecoded > 3)
    }
    await Promise.all([decodes(ann, camera('bob')), decodes(bob, camera('ann'))])
    const ms = Date.now() - at
    t.diagnostic(`both decode again ${ms} ms after kill -9`)
    assert.ok(ms <= 5000, `${ms} ms`)
    await Promise.all([leave(ann), leave(bob)])
    const u = await closed(room)
    assert.deepEqual(u.epochs.map((e) => e.exit_code), [137, 0])
  } catch (err) {
    for (const p of [ann, bob]) t.diagnostic(`${p.name}: ${p.console.slice(-15).join('\n')}`)
    t.diagnostic(system.log.slice(-6000))
    throw err
  }
})
