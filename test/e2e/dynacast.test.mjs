// What nobody looks at is not sent: a camera's layers stop at their publisher and come
// back, as the publisher's own browser counts them.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { openAll, openChromium } from './lib/browsers.mjs'
import { enter, idOf, report, seatOf, sees } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

let system
before(async () => {
  await mkdir('out/e2e', { recursive: true })
  system = await System.start()
})
after(() => system.stop())

/** sentBy is the packets that a page has sent of its camera, by rid. */
const sentBy = (page) => page.evaluate(async () => {
  const out = {}
  for (const s of (await window.mayfly.call.peerConnection.getStats()).values()) {
    if (s.type === 'outbound-rtp' && s.kind === 'video' && s.rid) out[s.rid] = s.packetsSent
  }
  return out
})

/** flowing names the layers that a page sends, by what it counts in 700 ms. */
async function flowing(page) {
  const first = await sentBy(page)
  await new Promise((r) => setTimeout(r, 700))
  const next = await sentBy(page)
  return Object.keys(next).filter((rid) => next[rid] > (first[rid] ?? 0) + 2).sort().join('')
}

/** publishes waits until a page sends exactly these layers, and tells how long that took. */
async function publishes(page, rids, ms) {
  const begin = Date.now()
  await until(`${page.name} sends ${rids || 'nothing'}`, ms, async () => (await flowing(page)) === rids)
  return Date.now() - begin
}

/** show hides a page or shows it, as another tab in front of it would. */
const show = (page, visible) => page.evaluate((state) => {
  Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state })
  document.dispatchEvent(new Event('visibilitychange'))
}, visible ? 'visible' : 'hidden')

test('layers that nobody looks at rest', { timeout: 120_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob'])
  const [ann, bob] = await openAll(t, () => openChromium({ width: 700, height: 500 }), () => openChromium({ width: 1280, height: 800 }))
  const camera = `${idOf(room, 'ann')}/camera`
  try {
    await enter(ann, room, 'ann')
    await publishes(ann, '', 15_000)
    t.diagnostic('alone: the camera rests')

    await enter(bob, room, 'bob')
    await sees(bob, camera)
    t.diagnostic(`looked at: decoded ${Date.now() - bob.since} ms after joining`)
    await bob.evaluate(() => document.getElementById('layout').click()) // ann is large
    await publishes(ann, 'fhq', 20_000)

    await bob.page.setViewportSize({ width: 300, height: 420 })
    t.diagnostic(`a thumbnail: only the lowest layer after ${await publishes(ann, 'q', 10_000)} ms`)
    const small = await until('in a small picture', 5000, async () => {
      const s = await seatOf(bob, camera)
      return s.width > 0 && s.width <= 400 && s
    })
    await bob.page.setViewportSize({ width: 1280, height: 800 })
    t.diagnostic(`large again: all layers after ${await publishes(ann, 'fhq', 10_000)} ms`)
    await until('and the viewer has it', 15_000, async () => {
      const s = await seatOf(bob, camera)
      return s.width > small.width && s.framesDecoded > small.framesDecoded
    })

    await show(bob, false)
    const hidden = Date.now()
    await publishes(ann, '', 12_000)
    assert.ok(Date.now() - hidden >= 4500, 'not before five seconds')
    const { framesDecoded } = await seatOf(bob, camera)
    await show(bob, true)
    const shown = Date.now()
    await until('frames again', 5000, async () => (await seatOf(bob, camera)).framesDecoded > framesDecoded)
    const back = Date.now() - shown
    t.diagnostic(`shown again: decoded after ${back} ms`)
    assert.ok(back <= 2000, `${back} ms`)
  } catch (err) {
    await report(t, [ann, bob], system)
    throw err
  }
})
