// Events on their way to the store. Each is an entry of localStorage of its own, so that two tabs of one reviewer do not
// overwrite each other, and stays there until Python says that it is stored: also over a reload or a dead server.
class Outbox {
  constructor(name) {
    this.prefix = `${name}/`
    this.events = new Map()
    // Ids are ordered by time: an undo stays behind what it undoes.
    for (const key of storageKeys(localStorage, this.prefix).sort()) {
      const event = parsed(localStorage.getItem(key))
      if (typeof event?.review_id === "string" && this.prefix + event.review_id === key) this.events.set(event.review_id, event)
      else localStorage.removeItem(key) // not of our making, and nothing could acknowledge it
    }
  }

  add(events) {
    for (const event of events) {
      this.events.set(event.review_id, event)
      keep(localStorage, this.prefix + event.review_id, event)
    }
  }

  settle(reviewIds) {
    for (const id of reviewIds) {
      this.events.delete(id)
      localStorage.removeItem(this.prefix + id)
    }
  }
}

// What the reviewer did in this tab, so that Z still works after a reload: the last verdicts with their cards.
class History {
  static KEPT = 30

  constructor(name) {
    this.name = `${name}/history`
    this.entries = parsed(sessionStorage.getItem(this.name)) ?? []
  }

  push(entry) {
    this.entries.push(entry)
    keep(sessionStorage, this.name, this.entries.slice(-History.KEPT))
  }

  pop() {
    const entry = this.entries.pop()
    keep(sessionStorage, this.name, this.entries.slice(-History.KEPT))
    return entry
  }
}

function storageKeys(storage, prefix) {
  const keys = []
  for (let index = 0; index < storage.length; index++) keys.push(storage.key(index))
  return keys.filter((key) => key.startsWith(prefix))
}

function keep(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value))
  } catch (error) {
    // Full: memory still has it, and it is sent at once; only a reload before that would lose it.
    if (error.name !== "QuotaExceededError") throw error
    storage.removeItem(key) // better nothing than what was true before
  }
}

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return null
  }
}

// A time-ordered id (UUID version 7, RFC 9562), as the rest of Skiff makes them.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  let time = Date.now()
  for (let index = 5; index >= 0; index--, time = Math.floor(time / 256)) bytes[index] = time % 256
  bytes[6] = (bytes[6] & 0x0f) | 0x70
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-")
}

// Seconds that somebody looked at a card: the time since it was painted, gaps without any sign of life cut to a minute.
class Stopwatch {
  static IDLE = 60_000

  start() {
    this.elapsed = 0
    this.resume()
  }

  touch() {
    if (this.paused) return
    const now = performance.now()
    this.elapsed += Math.min(now - this.last, Stopwatch.IDLE)
    this.last = now
  }

  // While the reviewer looks at another card.
  pause() {
    this.touch()
    this.paused = true
  }

  resume() {
    this.paused = false
    this.last = performance.now()
  }

  // Milliseconds without any sign of life.
  get idle() {
    return performance.now() - this.last
  }

  get seconds() {
    this.touch()
    return Math.round(this.elapsed) / 1000
  }
}
