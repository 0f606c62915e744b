// Debian's Chromium (driven by playwright-core) and Firefox ESR (by puppeteer-core),
// with fake cameras and microphones, behind one small interface: Page.
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import puppeteer from 'puppeteer-core'

/** Page is one browser with one tab. */
export class Page {
  constructor(kind, page, close) {
    this.kind = kind
    this.page = page
    this.closeAll = close
    this.console = []
  }

  goto(url) { return this.page.goto(url, { waitUntil: 'load' }) }
  evaluate(fn, arg) { return this.page.evaluate(fn, arg) }
  reload() { return this.page.reload({ waitUntil: 'load' }) }
  press(key) { return this.page.keyboard.press(key) }
  type(text) { return this.page.keyboard.type(text) }
  screenshot(path) { return this.page.screenshot({ path }) }
  async close() { await this.closeAll() }
}

/** noteJoin runs in every page before its own scripts: window.joinedAt is when its join was answered. */
function noteJoin() {
  const Real = window.WebSocket
  window.WebSocket = class extends Real {
    constructor(...args) {
      super(...args)
      this.addEventListener('message', (m) => {
        if (!window.joinedAt && String(m.data).includes('"type":"joined"')) window.joinedAt = Date.now()
      })
    }
  }
}

/** @param init functions that run in the page before its own scripts */
export async function openChromium({ width = 1280, height = 800, init = [], args = [] } = {}) {
  const browser = await launchChromium(args)
  const p = await openTab(browser, { width, height, init })
  p.closeAll = () => browser.close()
  return p
}

/** launchChromium starts a browser without a page; openTab opens pages in it, which share its processes. */
export function launchChromium(args = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: [
      ...args,
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-features=WebRtcHideLocalIpsWithMdns',
      '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
      '--auto-select-desktop-capture-source=Entire screen', '--autoplay-policy=no-user-gesture-required',
    ],
  })
}

/** openTab opens a page for another person: it shares nothing with the browser's other pages but processes. */
export async function openTab(browser, { width = 1280, height = 800, init = [] } = {}) {
  const context = await browser.newContext({ viewport: { width, height } })
  await context.grantPermissions(['camera', 'microphone'])
  await context.addInitScript(noteJoin)
  for (const fn of [init].flat()) await context.addInitScript(fn)
  const page = await context.newPage()
  const p = new Page('chromium', page, () => context.close())
  page.on('console', (m) => p.console.push(`${m.type()}: ${m.text()}`))
  page.on('pageerror', (e) => p.console.push(`pageerror: ${e.message}`))
  return p
}

/** openAll opens browsers side by side; they close with the test, also when one does not open. */
export async function openAll(t, ...opens) {
  const results = await Promise.allSettled(opens.map((open) => open()))
  const pages = results.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []))
  t.after(() => Promise.all(pages.map((p) => p.close())))
  for (const r of results) if (r.status === 'rejected') throw r.reason
  return pages
}

/** @param prefs more of about:config */
export async function openFirefox({ width = 1280, height = 800, init = [], prefs = {}, certificates = '' } = {}) {
  const profile = certificates && await mkdtemp(join(tmpdir(), 'firefox-'))
  if (profile) await cp(certificates, profile, { recursive: true }) // a folder with cert9.db, of who is trusted
  const browser = await puppeteer.launch({
    browser: 'firefox',
    ...(profile && { userDataDir: profile }),
    timeout: 60_000, // to start, on a busy machine
    executablePath: process.env.FIREFOX || '/usr/bin/firefox-esr',
    headless: true,
    defaultViewport: { width, height },
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'app.update.enabled': false,
      'datareporting.policy.dataSubmissionEnabled': false,
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
      ...prefs,
    },
  })
  const page = await browser.newPage()
  await page.evaluateOnNewDocument(noteJoin)
  for (const fn of [init].flat()) await page.evaluateOnNewDocument(fn)
  const p = new Page('firefox', page, async () => {
    await browser.close()
    if (profile) await rm(profile, { recursive: true, force: true })
  })
  page.on('console', (m) => p.console.push(`${m.type()}: ${m.text()}`))
  page.on('pageerror', (e) => p.console.push(`pageerror: ${e.message}`))
  return p
}
