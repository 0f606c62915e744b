// Bad networks for browsers: pages whose media goes through a relay of test/nettest,
// and what they receive over it.
import { execFileSync, spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { joined, linkOf } from './call.mjs'
import { until } from './system.mjs'

const root = resolve(fileURLToPath(import.meta.url), '../../../..')

/** Helper is a Go program that takes one JSON object a line and answers each with one. */
export class Helper {
  /** @param {string} dir where to build it @param {string} path of its package */
  static start(dir, path) {
    const h = new Helper()
    const binary = join(dir, path.replaceAll(/[./]+/g, '-').slice(1))
    execFileSync('go', ['build', '-o', binary, path], { cwd: root })
    h.process = spawn(binary, { stdio: ['pipe', 'pipe', 'inherit'] })
    h.lines = createInterface({ input: h.process.stdout })[Symbol.asyncIterator]()
    h.exited = new Promise((done) => h.process.once('exit', done))
    h.last = Promise.resolve()
    return h
  }

  /** do carries out one order; several may be given at once and are done in turn. */
  do(order) {
    this.last = this.last.then(async () => {
      this.process.stdin.write(JSON.stringify(order) + '\n')
      const { value, done } = await this.lines.next()
      if (done) throw new Error(`the helper has died over ${JSON.stringify(order)}`)
      return JSON.parse(value)
    })
    return this.last
  }

  /** stop ends it by closing its input; the exit code is returned. */
  async stop() {
    this.process.stdin.end()
    return this.exited
  }
}

/**
 * throughRelay runs in a page before its scripts: an answer is not applied before
 * window.testRelays.open says where its address is reached. TCP candidates are taken
 * out, for they would lead around the relay.
 */
export const throughRelay = () => {
  const relays = { wanted: '', known: {}, waiting: [] }
  relays.open = (target, addr) => {
    relays.known[target] = addr
    for (const go of relays.waiting.splice(0)) go()
  }
  window.testRelays = relays
  const real = RTCPeerConnection.prototype.setRemoteDescription
  RTCPeerConnection.prototype.setRemoteDescription = async function (answer) {
    const lines = []
    for (const line of answer.sdp.split('\r\n')) {
      if (!line.startsWith('a=candidate:')) {
        lines.push(line)
        continue
      }
      const f = line.split(' ')
      if (f[2].toLowerCase() !== 'udp') continue
      const target = `${f[4]}:${f[5]}`
      while (!relays.known[target]) {
        relays.wanted = target
        await new Promise((go) => relays.waiting.push(go))
      }
      [f[4], f[5]] = relays.known[target].split(':')
      lines.push(f.join(' '))
    }
    return real.call(this, { type: answer.type, sdp: lines.join('\r\n') })
  }
}

/**
 * enterBehind opens the call page behind a link of its own, and waits until it has
 * joined. The page must have been opened with throughRelay. up and down are directions
 * as test/nettest/cmd knows them. It returns the link.
 */
export async function enterBehind(relays, page, room, name, { seed = 1, up = {}, down = {} } = {}) {
  page.name = name
  await page.goto(linkOf(room, name))
  const target = await until(`${name} has its answer`, 20_000, () => page.evaluate(() => window.testRelays.wanted))
  const { link, addr } = await relays.do({ do: 'open', target, seed, up, down })
  await page.evaluate(([t, a]) => window.testRelays.open(t, a), [target, addr])
  await joined(page)
  return {
    set: (directions) => relays.do({ do: 'set', link, ...directions }),
    counters: () => relays.do({ do: 'counters', link }),
  }
}

/**
 * received is the browser's own inbound-rtp statistics, with the source that sits in
 * the seat, of every seat that has one.
 */
export const received = (page) => page.evaluate(async () => {
  const call = window.mayfly.call
  const mids = new Map(call.peerConnection.getTransceivers().map((tr) => [tr.receiver.track, tr.mid]))
  const sources = new Map()
  for (const s of call.seating) {
    if (s.video) sources.set(mids.get(s.stream.getVideoTracks()[0]), s.video)
    if (s.audio) sources.set(mids.get(s.stream.getAudioTracks()[0]), s.audio)
  }
  const all = [...(await call.peerConnection.getStats()).values()]
  return all.filter((s) => s.type === 'inbound-rtp' && sources.has(s.mid)).map((s) => ({ ...s, source: sources.get(s.mid) }))
})

export const inbound = async (page, source) => (await received(page)).find((s) => s.source === source)

/** encoded is how many pictures of each height a page has encoded and sent. */
export const encoded = (page) => page.evaluate(async () => {
  const sent = {}
  for (const s of (await window.mayfly.call.peerConnection.getStats()).values()) {
    if (s.type === 'outbound-rtp' && s.kind === 'video' && s.frameHeight) sent[s.frameHeight] = (sent[s.frameHeight] ?? 0) + s.framesSent
  }
  return sent
})

/** hears waits until a page plays a source's sound. */
export const hears = (page, source, ms = 20_000) => until(`${page.name} hears ${source}`, ms, async () => {
  const s = await inbound(page, source)
  return s && s.totalAudioEnergy > 0 && s
})

/**
 * concealment is the share of samples that a receiver had to invent between two reports
 * of one stream. Samples concealed by silence are no speech that was missed (webrtc-stats
 * §RTCInboundRtpStreamStats, silentConcealedSamples): with DTX nothing is sent there.
 */
export function concealment(before, after) {
  const grown = (field) => (after[field] ?? 0) - (before[field] ?? 0)
  return (grown('concealedSamples') - grown('silentConcealedSamples')) / Math.max(1, grown('totalSamplesReceived'))
}

/**
 * watchFrames notes in the page, five times a second until the page is closed, what is
 * decoded of each video source: the longest time without a new frame and the longest
 * freeze (webrtc-stats freezeCount) since takeFrames was called last, and a diary of it.
 */
export const watchFrames = (page) => page.evaluate(() => {
  const call = window.mayfly.call
  const seen = (window.testFrames = new Map())
  const diary = (window.testDiary = [])
  setInterval(async () => {
    const mids = new Map(call.peerConnection.getTransceivers().map((tr) => [tr.mid, tr.receiver.track]))
    const sources = new Map(call.seating.filter((s) => s.video).map((s) => [s.stream.getVideoTracks()[0], s.video]))
    const now = performance.now()
    for (const s of (await call.peerConnection.getStats()).values()) {
      const source = s.type === 'inbound-rtp' && s.kind === 'video' && sources.get(mids.get(s.mid))
      if (!source) continue
      const w = seen.get(source) ?? { at: now, frames: s.framesDecoded, still: 0, frozen: 0, freezes: s.totalFreezesDuration ?? 0 }
      if (s.framesDecoded !== w.frames) [w.at, w.frames] = [now, s.framesDecoded]
      w.still = Math.max(w.still, now - w.at)
      w.frozen = Math.max(w.frozen, ((s.totalFreezesDuration ?? 0) - w.freezes) * 1000)
      w.freezes = s.totalFreezesDuration ?? 0
      seen.set(source, w)
      const paused = call.seating.find((t) => t.video === source)?.paused ?? ''
      const line = [source.slice(-10), `${s.framesDecoded}f`, `${s.frameHeight ?? 0}p`, `lost${s.packetsLost}`, `nack${s.nackCount}`, `pli${s.pliCount}`, `rtx${s.retransmittedPacketsReceived ?? 0}`, paused].join(' ')
      diary.push(`${(now / 1000).toFixed(1)} ${line}`)
    }
  }, 200)
})

/** diary is what watchFrames noted, for the report of a failure: the last n lines. */
export const diary = (page, n = 200) => page.evaluate((k) => (window.testDiary ?? []).slice(-k).join('\n'), n)

/** takeFrames returns {still, frozen} in ms by source, and begins anew. */
export const takeFrames = (page) => page.evaluate(() => {
  const out = {}
  for (const [source, w] of window.testFrames) {
    out[source] = { still: w.still, frozen: w.frozen }
    w.still = w.frozen = 0
  }
  return out
})
