// Prints how long a join takes in Chromium: from "the page is loaded, join" to the
// first decoded frame of another's camera. A figure, not a test. scripts/bench.sh
// runs it; the first join warms the browser up and is not counted.
import { openChromium } from './lib/browsers.mjs'
import { enter, joined, leave, urlOf } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

const JOINS = 20

/** measure joins once and leaves again; the milliseconds are the page's own. */
async function measure(page, room, name) {
  page.name = name
  await page.goto('about:blank')
  await page.goto(urlOf(room, name))
  await until('the preview plays', 20_000, () => page.evaluate(() => document.getElementById('preview').videoWidth > 0))
  const ms = await page.evaluate(() => new Promise((done) => {
    const { call } = window.mayfly
    const begin = performance.now()
    const watch = async () => {
      const frames = call.peerConnection ? ((await call.stats())?.seats ?? []).some((s) => s.framesDecoded > 0) : false
      if (frames) return done({ media: performance.now() - begin, joined: joinedAt - begin })
      setTimeout(watch, 10)
    }
    let joinedAt = 0
    call.on('joined', () => { joinedAt = performance.now() })
    document.getElementById('join').click()
    watch()
  }))
  await joined(page)
  page.since = Date.now()
  await leave(page)
  return ms
}

function show(what, values) {
  const ms = [...values].sort((a, b) => a - b)
  const at = (q) => ms[Math.min(ms.length - 1, Math.floor(q * ms.length))].toFixed(1).padStart(7)
  console.log(`${what.padEnd(32)} n=${String(ms.length).padEnd(4)} p50 ${at(0.5)} ms   p95 ${at(0.95)} ms   max ${at(1)} ms`)
}

const system = await System.start()
const pages = []
try {
  const names = Array.from({ length: JOINS + 1 }, (_, i) => `guest${i}`)
  const room = await system.createRoom(['host', ...names], { empty_timeout_s: 30 })
  const open = async (size) => { pages.push(await openChromium(size)); return pages.at(-1) }
  const host = await open({ width: 640, height: 480 })
  await enter(host, room, 'host')
  await until('the host sends', 20_000, () => host.evaluate(async () => (await window.mayfly.call.stats()).bytesOut > 50_000))
  const guest = await open()
  const all = []
  for (const name of names) all.push(await measure(guest, room, name))
  all.shift()
  show('Chromium: join to joined', all.map((m) => m.joined))
  show('Chromium: join to decoded frame', all.map((m) => m.media))
} finally {
  for (const p of pages) await p.close()
  await system.stop()
}
