// The main job on real input: a room made by POST /v1/rooms, real browsers with fake
// cameras and microphones, the real handlers, and a real room task process.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { openAll, openChromium, openFirefox } from './lib/browsers.mjs'
import { bill, enter, idOf, leave, quiet, report, seatOf, sees } from './lib/call.mjs'
import { System, dropsSoFar, until } from './lib/system.mjs'

/** @type {System} */ let system
before(async () => {
  system = await System.start()
  await mkdir('out/e2e', { recursive: true })
})
after(() => system.stop())

test('Chromium and Firefox: call, late joiner, screen share, layouts, leave, bill', { timeout: 180_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob', 'cat'])
  const [ann, bob, cat] = await openAll(t, openChromium, openFirefox, () => openChromium({ width: 420, height: 360 }))
  const camera = (name) => `${idOf(room, name)}/camera`
  const dropsBefore = await dropsSoFar()
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
    const pages = [ann, bob, cat]
    await quiet(pages)
    const out = await Promise.all(pages.map(leave))
    const left = Date.now()
    await until('the room task has ended by itself', 7000, async () => !(await system.taskPid(room.id)))
    t.diagnostic(`the task ended ${Date.now() - left} ms after the last leave (empty_timeout_s 2)`)

    const u = await bill(system, room)
    // What a starved receiver's socket dropped was sent and never received: on a busy
    // machine that is no fault of the count. The kernel says how much it was.
    const dropped = (await dropsSoFar()) - dropsBefore
    t.diagnostic(`datagrams dropped by full sockets during the call: ${dropped}`)
    const near = (what, got, want) => {
      t.diagnostic(`${what}: ledger ${got}, browser ${want} (${(100 * (got / want - 1)).toFixed(3)} %)`)
      assert.ok(Math.abs(got - want) <= 0.01 * want + dropped * 1300, `${what}: ledger ${got}, browser ${want}, ${dropped} dropped`)
    }
    for (const [i, p] of pages.entries()) {
      const of = u.participants.find((x) => x.participant_id === idOf(room, p.name))
      near(`${p.name} (${p.kind}) receives`, of.bytes_out.total, out[i].in)
      near(`${p.name} (${p.kind}) sends`, of.bytes_in.total, out[i].out)
    }
    const sum = (f) => out.reduce((n, o) => n + f(o), 0)
    near('bytes out', u.totals.bytes_out.total, sum((o) => o.in))
    near('bytes in', u.totals.bytes_in.total, sum((o) => o.out))
    const ms = sum((o) => o.ms)
    t.diagnostic(`participant time: ledger ${u.totals.participant_ms} ms, script ${ms} ms`)
    assert.ok(Math.abs(u.totals.participant_ms - ms) <= 1000)
    assert.equal(u.epochs.length, 1)
    assert.equal(u.epochs[0].exit_code, 0)
  } catch (err) {
    await report(t, [ann, bob, cat], system)
    throw err
  }
})

test('kill -9 of the task during a call: both browsers come back without a click', { timeout: 120_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob'])
  const [ann, bob] = await openAll(t, openChromium, openFirefox)
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
    const u = await bill(system, room)
    assert.deepEqual(u.epochs.map((e) => e.exit_code), [137, 0])
  } catch (err) {
    await report(t, [ann, bob], system)
    throw err
  }
})
