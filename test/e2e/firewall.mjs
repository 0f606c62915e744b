// Browsers behind networks that spoil calls: test/firewall lays the networks and runs
// this in the client's namespace, with FIREWALL as {browser, origin, router, nss, rows:
// [{name, rules, relay, mtu, url}]}. For each row it sets the router's rules, joins, waits
// for sound and picture, and prints a line {name, connected, media, transport} or {name,
// error}; milliseconds are from the sending of the join. With {browser, origin, router,
// live: {url}} it joins alone, and prints what it has, as a robot of test/firewall does,
// until its input ends.
import { execFileSync } from 'node:child_process'
import { launchChromium, openFirefox, openTab } from './lib/browsers.mjs'
import { until } from './lib/system.mjs'

const plan = JSON.parse(process.env.FIREWALL)

/** marks runs in the page before its scripts: when the join went out, and when its connection was up. */
const marks = () => {
  const Socket = window.WebSocket
  const note = (...x) => (window.diary ??= []).push(`${new Date().toISOString().slice(17, 23)} ${x.join(' ')}`)
  addEventListener('online', () => note('online')); addEventListener('offline', () => note('offline'))
  navigator.connection?.addEventListener('change', () => note('netinfo change'))
  window.WebSocket = class extends Socket {
    constructor(...a) {
      super(...a)
      note('ws new')
      this.addEventListener('open', () => note('ws open'))
      this.addEventListener('close', () => note('ws close'))
      this.addEventListener('message', (m) => note('ws <', String(m.data).slice(0, 30)))
    }
    send(data) {
      note('ws >', String(data).slice(0, 30), this.bufferedAmount)
      if (!window.askedAt && String(data).includes('"type":"join"')) window.askedAt = performance.now()
      super.send(data)
    }
  }
  const Real = window.RTCPeerConnection
  window.RTCPeerConnection = class extends Real {
    async getStats() {
      const at = performance.now()
      const r = await super.getStats()
      let b = ''
      for (const x of r.values()) {
        if (x.type === 'transport' || (x.type === 'candidate-pair' && x.bytesReceived)) b += ` ${x.type[0]}${x.bytesReceived}`
        if (x.type === 'inbound-rtp' && x.kind === 'video' && x.packetsReceived) b += ` v${x.packetsReceived} frames ${x.framesReceived}/${x.framesDecoded} key ${x.keyFramesDecoded} pli ${x.pliCount} nack ${x.nackCount}`
      }
      note('stats', Math.round(performance.now() - at), b)
      return r
    }
    constructor(config) {
      super(config)
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') window.upAt ??= performance.now()
        note('pc', this.connectionState)
      })
      this.addEventListener('iceconnectionstatechange', () => note('ice', this.iceConnectionState))
      this.addEventListener('icecandidate', (e) => note('candidate', e.candidate?.candidate))
    }
  }
}

/** relayAlone runs there too: the browser may use nothing but the relay. */
const relayAlone = () => {
  const Real = window.RTCPeerConnection
  window.RTCPeerConnection = class extends Real {
    constructor(config) { super({ ...config, iceTransportPolicy: 'relay' }) }
    setConfiguration(config) { super.setConfiguration({ ...config, iceTransportPolicy: 'relay' }) }
  }
}

const router = (args, input) => execFileSync('ip', ['netns', 'exec', plan.router, ...args], { input, stdio: ['pipe', 'ignore', 'inherit'] })

async function open(row) {
  const init = row.relay ? [marks, relayAlone] : [marks]
  if (plan.browser === 'firefox') return openFirefox({ init, certificates: process.env.FIREWALL_CERTIFICATES, prefs: { 'media.devices.insecure.enabled': true, 'media.getusermedia.insecure.enabled': true } })
  const browser = await launchChromium([`--unsafely-treat-insecure-origin-as-secure=${plan.origin}`])
  const page = await openTab(browser, { init })
  page.closeAll = () => browser.close()
  return page
}

/**
 * Opens a page. A new network's last address may still come then, and Chromium stops a load for that: it
 * says so, or loads the page again by itself, which takes the place of a load that was asked for.
 */
async function load(page, url) {
  for (let left = 3; ; left--) {
    try {
      return await page.goto(url)
    } catch (err) {
      if (left === 0 || !/ERR_NETWORK_CHANGED|interrupted by another navigation/.test(String(err))) throw err
      await page.waitForLoadState('load')
      if (await page.evaluate((href) => location.href === href, url)) return
    }
  }
}

async function tried(row) {
  router(['nft', '-f', '-'], `flush ruleset\n${row.rules}\n`)
  if (row.mtu) {
    execFileSync('ip', ['link', 'set', 'c0', 'mtu', String(row.mtu)])
    router(['ip', 'link', 'set', 'rc', 'mtu', String(row.mtu)])
  }
  const page = await open(row)
  try {
    await load(page, row.url.replace('#', '?autojoin=1#'))
    const got = await until('sound and picture', 20_000, () => page.evaluate(async () => {
      const call = window.mayfly?.call
      if (!call) return false
      if (!window.heard) {
        window.heard = true
        call.on('quality', (q) => { window.way = q.transport }) // the room knows; to Chromium the relay looks like any translation
      }
      const s = await call.stats()
      const seen = s?.seats.some((x) => x.framesDecoded > 5) && s.seats.some((x) => x.audioEnergy > 0)
      if (seen) window.mediaAt ??= performance.now()
      return seen && window.way && { transport: window.way, connected: Math.round(window.upAt - window.askedAt), media: Math.round(window.mediaAt - window.askedAt) }
    }))
    await until('own media goes out', 10_000, () => page.evaluate(async () => (await window.mayfly.call.stats()).bytesOut > 30_000))
    return { name: row.name, ...got }
  } catch (err) {
    const ice = await page.evaluate(() => window.mayfly?.call.peerConnection?.iceConnectionState).catch(() => '')
    return { name: row.name, error: `${err.message} (ICE: ${ice}) ${page.console.slice(-3).join(' / ')}` }
  } finally {
    await page.close()
    if (row.mtu) {
      execFileSync('ip', ['link', 'set', 'c0', 'mtu', '1500'])
      router(['ip', 'link', 'set', 'rc', 'mtu', '1500'])
    }
  }
}

/** has runs in the page: what has come so far, over all its connections. */
const has = async () => {
  const call = window.mayfly?.call
  const pc = call?.peerConnection
  if (!pc) return null
  if (!window.heard) {
    window.heard = { counts: new Map() }
    call.on('quality', (q) => { window.way = q.transport })
  }
  let audio = 0, video = 0
  for (const s of (await pc.getStats()).values()) {
    if (s.type !== 'inbound-rtp') continue
    if (s.kind === 'audio') audio += s.packetsReceived ?? 0
    else video += s.framesDecoded ?? 0
  }
  const { counts } = window.heard
  counts.set(pc, { audio, video })
  const all = [...counts.values()]
  const sum = (key) => all.reduce((n, c) => n + c[key], 0)
  return {
    ConnectedMS: Math.round((window.upAt ?? 0) - (window.askedAt ?? 0)), Audio: sum('audio'), Video: sum('video'),
    Transport: window.way ?? '', Way: `${call.state} ${pc.connectionState} ${pc.iceConnectionState}, connection ${counts.size}`,
  }
}

async function live({ url }) {
  const page = await open({})
  let over = false
  process.stdin.on('data', () => {}).on('end', () => { over = true })
  try {
    await load(page, url.replace('#', '?autojoin=1#'))
    while (!over) {
      const status = await page.evaluate(has)
      if (status) console.log(JSON.stringify(status))
      await new Promise((r) => setTimeout(r, 40))
    }
  } catch (err) {
    console.log(JSON.stringify({ Error: err.message }))
  }
  if (process.env.FIREWALL_DEBUG) console.error((await page.evaluate(() => window.diary ?? [])).join('\n'))
  if (process.env.FIREWALL_DEBUG) console.error(page.console.join('\n'))
  await page.close()
}

if (plan.live) await live(plan.live)
else for (const row of plan.rows) console.log(JSON.stringify(await tried(row)))
process.exit(0)
