// What the tests do with the call page: enter, look at what a seat brings, leave.
import { until } from './system.mjs'

export const idOf = (room, name) => room.participants.find((p) => p.identity === name).participant_id
export const urlOf = (room, name) => room.participants.find((p) => p.identity === name).call_url
export const linkOf = (room, name) => urlOf(room, name).replace('#', '?autojoin=1#')

/** joined waits until the page is in the call. */
export const joined = (page, ms = 20_000) =>
  until(`${page.name} has joined (${page.kind})`, ms, () => page.evaluate(() => window.mayfly?.call.state === 'joined'))

/**
 * enter opens the call page and waits until it has joined; since is when the answer
 * came, not when it was noticed. codec is what own videos are sent with.
 */
export async function enter(page, room, name, { codec = '' } = {}) {
  page.name = name
  await page.goto(linkOf(room, name).replace('#', codec ? `&codec=${codec}#` : '#'))
  await joined(page)
  page.since = await page.evaluate(() => window.joinedAt)
}

/** seats is what a page receives: [{seat, source, audio, paused, width, height, framesDecoded, audioEnergy}]. */
export const seats = (page) => page.evaluate(async () => {
  const s = await window.mayfly.call.stats()
  return window.mayfly.call.seating.map((t) => {
    const n = s?.seats.find((x) => x.seat === t.seat)
    return { seat: t.seat, source: t.video ?? '', audio: t.audio ?? '', paused: t.paused ?? '', ...n }
  })
})

export const seatOf = async (page, source) => (await seats(page)).find((s) => s.source === source)

/** sees waits until a page decodes a source's video (rising), and hears audio with energy. */
export async function sees(page, source, { audio = true, ms = 20_000 } = {}) {
  const first = await until(`${page.name} decodes ${source}`, ms, async () => {
    const s = await seatOf(page, source)
    return s && s.framesDecoded > 0 && s.width > 0 && s
  })
  return until(`${page.name} decodes more of ${source}`, ms, async () => {
    const s = await seatOf(page, source)
    return s && s.framesDecoded >= first.framesDecoded + 15 && (!audio || s.audioEnergy > 0) && s
  })
}

/** bytes are the browser's own counters of its transport, without STUN. */
const bytes = (page) => page.evaluate(async () => {
  const s = await window.mayfly.call.stats()
  return { in: s.bytesIn, out: s.bytesOut }
})

/**
 * quiet turns everyone's sources off and waits until nothing but reports flows, so
 * that counters read at slightly different times can be compared.
 */
export async function quiet(pages) {
  await Promise.all(pages.map((p) => p.evaluate(() => {
    for (const kind of ['mic', 'camera', 'screen', 'screen-audio']) {
      window.mayfly.call.local[kind].track?.stop()
      window.mayfly.call.setTrack(kind, null)
    }
  })))
  let before = await Promise.all(pages.map(bytes))
  let rates = []
  await until('media is quiet', 10_000, async () => {
    await new Promise((r) => setTimeout(r, 300))
    const now = await Promise.all(pages.map(bytes))
    rates = now.map((n, i) => ({ in: n.in - before[i].in, out: n.out - before[i].out }))
    before = now
    return rates.every((r) => r.in < 2000 && r.out < 2000)
  }).catch((err) => {
    throw new Error(`${err.message}: bytes in 300 ms: ${JSON.stringify(rates)}`)
  })
}

/** leave reads the browser's counters and presses Leave: {in, out, ms} as the page saw them. */
export async function leave(page) {
  const counted = await bytes(page)
  await page.evaluate(() => document.getElementById('leave').click())
  const ms = Date.now() - page.since
  await until(`${page.name} is out`, 5000, () => page.evaluate(() => window.mayfly.call.state === 'ended'))
  return { ...counted, ms }
}

/** bill waits for the closed ledger of a room. */
export const bill = (system, room) => until('the ledger is closed', 10_000, async () => {
  const u = (await system.api('GET', `/v1/rooms/${room.id}/usage?include=participants,costs`)).body
  return u.status === 'closed' && u
})

/** report adds to a failure what the pages and the system say. */
export async function report(t, pages, system) {
  for (const p of pages) {
    t.diagnostic(`${p.name} (${p.kind}): ${JSON.stringify(await seats(p).catch((e) => e.message))}\n${p.console.slice(-15).join('\n')}`)
    await p.screenshot(`out/e2e/failed-${p.name}.png`).catch(() => {})
  }
  t.diagnostic(system.log.slice(-6000))
}
