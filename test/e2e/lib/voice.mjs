// A voice for a browser's fake microphone. The browser's own fake sound is short beeps
// with silence between them, in which a lost packet would go unnoticed.
import { writeFile } from 'node:fs/promises'

const RATE = 48_000
const SECONDS = 8

/** formants of the vowels that are spoken, in Hz. */
const VOWELS = [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]]

/**
 * writeVoice writes a WAV file of vowel-like sounds: a falling and rising pitch, its
 * harmonics shaped by formants, four syllables a second that never fall silent. It
 * repeats without a click.
 */
export async function writeVoice(path) {
  const pcm = Buffer.alloc(44 + 2 * RATE * SECONDS)
  pcm.write('RIFF', 0, 'latin1')
  pcm.writeUInt32LE(pcm.length - 8, 4)
  pcm.write('WAVEfmt ', 8, 'latin1')
  pcm.writeUInt32LE(16, 16)
  pcm.writeUInt16LE(1, 20) // PCM
  pcm.writeUInt16LE(1, 22) // mono
  pcm.writeUInt32LE(RATE, 24)
  pcm.writeUInt32LE(2 * RATE, 28)
  pcm.writeUInt16LE(2, 32)
  pcm.writeUInt16LE(16, 34)
  pcm.write('data', 36, 'latin1')
  pcm.writeUInt32LE(pcm.length - 44, 40)
  let phase = 0
  for (let n = 0; n < RATE * SECONDS; n++) {
    const t = n / RATE
    const pitch = 120 + 25 * Math.sin((2 * Math.PI * t) / 2) + 4 * Math.sin(2 * Math.PI * 5 * t)
    phase += (2 * Math.PI * pitch) / RATE
    const formants = VOWELS[Math.floor(t * 4) % VOWELS.length]
    let v = 0
    for (let h = 1; h <= 24; h++) {
      const f = h * pitch
      v += formants.reduce((sum, of, i) => sum + Math.exp(-(((f - of) / 120) ** 2)) / (i + 1), 0.02) * Math.sin(h * phase)
    }
    const syllable = 0.55 + 0.45 * Math.sin(2 * Math.PI * 4 * t)
    pcm.writeInt16LE(Math.round(Math.max(-1, Math.min(1, 0.25 * v * syllable)) * 32_000), 44 + 2 * n)
  }
  await writeFile(path, pcm)
}

/**
 * rawMicrophone runs in a page before its scripts: the voice is sent as it is. Echo
 * cancellation would take it out where another page plays the same file.
 */
export const rawMicrophone = () => {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
  navigator.mediaDevices.getUserMedia = (wish) => real({
    ...wish,
    ...(wish.audio && { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } }),
  })
}
