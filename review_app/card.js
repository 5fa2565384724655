// The review card: shows one sample after the other without waiting for Python, and never judges one that was not
// painted. Python is told through `outbox`, again and again until it says that an event is stored.
const FEW_CARDS = 12 // ask for more when no more are left
const RESEND_AFTER = 4000 // milliseconds without an answer; Python gives up a busy store after half of that
const DIFFICULTY_KEYS = { q: 1, w: 2, g: 3, h: 4 }
const VERDICT_NAMES = { approve: "Approved", reject: "Rejected", skip: "Skipped" }

class ReviewCard {
  constructor(root, name) {
    this.root = root
    this.name = name
    this.outbox = new Outbox(name)
    this.history = new History(name)
    this.queue = []
    this.current = null
    this.judged = new Set(this.history.entries.map(({ card }) => card.revision_id))
    this.progress = null // until Python could read the store
    this.stopwatch = new Stopwatch()
    this.pace = { verdicts: 0, seconds: 0 }
    this.sentAt = 0
    this.heldSince = Date.now() // not performance.now(), which stands still while the machine sleeps
    this.heldFor = Infinity // milliseconds that nobody else is shown these cards
    this.sent = 0
    this.trouble = ""
    // Streamlit fades what a slow run has not drawn again yet; the card is never out of date.
    root.host?.closest("[data-testid='stElementContainer']")?.style.setProperty("opacity", "1", "important")
    // When the queue changes, the old card stays mounted for a moment beside the new one: keys go to the new one alone.
    window.skiffReviewCard = this
    this.listen()
  }

  find(selector) {
    return this.root.querySelector(selector)
  }

  listen() {
    this.stop = new AbortController()
    const options = { signal: this.stop.signal }
    window.addEventListener("keydown", (event) => this.onKey(event), options)
    for (const kind of ["pointermove", "wheel", "keydown"]) {
      window.addEventListener(kind, () => this.painted && this.stopwatch.touch(), { ...options, passive: true })
    }
    window.addEventListener("resize", () => this.layout(), options)
    this.find(".card").addEventListener("click", (event) => this.onClick(event), options)
    this.timer = setInterval(() => this.retry(), 1000)
  }

  unmount() {
    this.stop.abort()
    clearInterval(this.timer)
  }

  // Python's news: new cards, what is stored, how far the reviewer is.
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue
    this.reasons = data.reasons
    if (data.held_for != null) {
      this.heldSince = this.sent ? this.askedAt : Date.now()
      this.heldFor = 1000 * data.held_for
    }
    this.outbox.settle(data.stored)
    const refusals = Object.entries(data.refused).filter(([id]) => this.outbox.events.has(id))
    this.outbox.settle(refusals.map(([id]) => id))
    if (data.trouble) this.say(`Trying again: ${data.trouble}`, "bad")
    else if (this.trouble) this.say("The store answers again")
    this.trouble = data.trouble
    if (data.progress) this.progress = data.progress
    const waiting = new Set([...this.outbox.events.values()].map((event) => event.revision_id))
    const known = new Set([this.current, ...this.queue].map((card) => card?.revision_id))
    for (const card of data.cards ?? []) {
      const id = card.revision_id
      if (!known.has(id) && !this.judged.has(id) && !waiting.has(id)) this.queue.push(card)
    }
    this.answered = true
    if (refusals.length) this.say(`${refusals.length} not stored: ${refusals[0][1]}`, "bad")
    if (!this.current) this.next()
    else this.drawStatus()
    if (this.outbox.events.size && !data.trouble) this.send()
  }

  next() {
    this.show(this.queue.shift() ?? null)
  }

  // Whoever was away too long gets other cards: somebody else may have been given theirs.
  lapse() {
    if (Date.now() - this.heldSince < this.heldFor) return false
    this.heldSince = Date.now()
    if (this.current) this.say("You were away for long: here are other cards")
    this.queue = []
    this.show(null)
    this.send()
    return true
  }

  show(card, { dropped = [], difficulty = null } = {}) {
    this.current = card
    this.dropped = new Set(dropped)
    this.difficulty = difficulty
    this.asking = false
    this.painted = false
    this.draw()
    // After the next frame the card is on the screen; until then no key and no click counts.
    requestAnimationFrame(() =>
      setTimeout(() => {
        if (this.current !== card || this.painted) return
        this.painted = card !== null
        this.stopwatch.start()
      }),
    )
  }

  decide(verdict, reasons = []) {
    const seconds = this.stopwatch.seconds
    const card = this.current
    const events = [
      this.event(card, { verdict, reasons, difficulty: this.difficulty, seconds }),
      ...[...this.dropped].map((index) =>
        this.event(card, { verdict: "reject", negative_id: card.negatives[index].negative_id, seconds }),
      ),
    ]
    const differing = verdict === "approve" ? this.differing(card) : ""
    this.history.push({ card, events, dropped: [...this.dropped], difficulty: this.difficulty })
    this.judged.add(card.revision_id)
    this.outbox.add(events)
    this.pace.verdicts += 1
    this.pace.seconds += seconds
    this.say(VERDICT_NAMES[verdict] + (reasons.length ? `: ${spoken(reasons[0])}` : "") + differing, verdict)
    this.next()
    this.send()
  }

  // What a judge suggests otherwise, once the reviewer has approved without having seen it.
  differing(card) {
    if (this.showsSuggested) return ""
    const places = card.positives.flatMap((each) => (each.suggested?.length ? ["the positive"] : []))
    card.negatives.forEach((each, i) => {
      if (each.suggested?.length && !this.dropped.has(i)) places.push(`negative ${i + 1}`)
    })
    return places.length ? `; a judge differs on ${[...new Set(places)].join(", ")}: Z, then V, shows why` : ""
  }

  undo() {
    const last = this.history.pop()
    if (!last) return this.say("Nothing to undo")
    const seconds = this.painted ? this.stopwatch.seconds : null
    const undone = last.events.map((event) =>
      this.event(last.card, { verdict: "skip", negative_id: event.negative_id, undoes: event.review_id, seconds }),
    )
    this.outbox.add(undone)
    this.judged.delete(last.card.revision_id)
    if (this.current) this.queue.unshift(this.current)
    this.pace.verdicts = Math.max(0, this.pace.verdicts - 1)
    this.say("Undone: judge it again")
    this.show(last.card, last)
    this.send()
  }

  event(card, fields) {
    const { sample_id, revision_id } = card
    return { review_id: newId(), sample_id, revision_id, negative_id: null, reasons: [], ...fields }
  }

  // At most one message is under way; what comes meanwhile goes with the next.
  send() {
    if (!this.answered && performance.now() - this.sentAt < RESEND_AFTER) return
    this.answered = false
    this.sentAt = performance.now()
    this.askedAt = Date.now()
    this.sent += 1
    this.setStateValue("outbox", {
      events: [...this.outbox.events.values()],
      holding: [this.current, ...this.queue].filter(Boolean).map((card) => card.sample_id),
      sent: this.sent, // so that the same events again are a change
    })
  }

  retry() {
    if (this.lapse()) return
    const late = performance.now() - this.sentAt > RESEND_AFTER
    const held = this.queue.length + (this.current ? 1 : 0)
    const starving = held < FEW_CARDS && (!this.progress || held < this.left())
    if (late && (this.outbox.events.size || starving)) this.send()
    this.drawStatus()
  }

  // Standing verdicts that Python has not counted yet.
  pending() {
    const undone = new Set([...this.outbox.events.values()].map((event) => event.undoes))
    let sum = 0
    for (const event of this.outbox.events.values()) {
      if (event.negative_id) continue
      if (event.undoes) sum -= this.outbox.events.has(event.undoes) ? 0 : 1
      else if (!undone.has(event.review_id)) sum += 1
    }
    return sum
  }

  left() {
    return Math.max(0, (this.progress?.left ?? 0) - this.pending())
  }

  onKey(event) {
    if (window.skiffReviewCard !== this) return
    const target = event.composedPath()[0]
    const typing = target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
    if (typing || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return
    const ownButton = target.tagName === "BUTTON" && this.root.contains(target)
    if (event.repeat) {
      if (ownButton || event.key === " ") event.preventDefault() // a held Enter would click a focused button again
      return
    }
    if (this.find("dialog").open || document.querySelector('[role="dialog"], [role="listbox"], [role="menu"]')) return
    if (target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return // it clicks the button
    if (this.lapse()) return
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (this.press(key)) event.preventDefault()
  }

  press(key) {
    if (key === "?") return this.act("keys")
    if (key === "z") return this.asking ? this.ask(false) : this.act("undo")
    if (!this.painted) return false
    if (this.asking) return this.pressReason(key)
    if (key in DIFFICULTY_KEYS) return this.setDifficulty(DIFFICULTY_KEYS[key])
    if (/^[1-9]$/.test(key)) return this.toggleDrop(Number(key) - 1)
    const acts = { a: "approve", x: "reject", s: "skip", v: "suggested", " ": "expand" }
    return key in acts ? this.act(acts[key]) : false
  }

  pressReason(key) {
    if (key === "Escape") return this.ask(false)
    if (key === "x" || key === "Enter") this.decide("reject")
    else if (/^[1-9]$/.test(key) && this.reasons[Number(key) - 1]) this.decide("reject", [this.reasons[Number(key) - 1]])
    else this.say("Why? A digit; X or Enter for no reason; Esc to go back")
    return true
  }

  onClick(event) {
    const button = event.target.closest("button")
    if (!button || this.lapse()) return
    if (event.detail > 0) button.blur() // by pointer: else the next Space would click it again
    const { act, difficulty, negative, reason } = button.dataset
    if (act === "close") this.find("dialog").close()
    else if (act === "keys" || act === "undo") this.act(act)
    else if (!this.painted) return
    else if (act === "reject" && this.asking) this.decide("reject")
    else if (act === "back") this.ask(false)
    else if (act) this.act(act)
    else if (difficulty) this.setDifficulty(Number(difficulty))
    else if (negative) this.toggleDrop(Number(negative))
    else if (reason) this.decide("reject", [this.reasons[Number(reason)]])
  }

  act(name) {
    if (name === "keys") this.find("dialog").showModal()
    else if (name === "undo") this.undo()
    else if (name === "reject") this.ask(true)
    else if (name === "expand") this.expand(!this.expanded)
    else if (name === "suggested") this.showSuggested(!this.showsSuggested)
    else this.decide(name)
    return true
  }

  ask(asking) {
    this.asking = asking
    this.drawFooter()
    this.layout() // a narrow window needs a second row for the reasons
    return true
  }

  setDifficulty(value) {
    this.difficulty = this.difficulty === value ? null : value
    this.drawFooter()
    return true
  }

  toggleDrop(index) {
    if (!this.current.negatives[index]) return false
    if (!this.dropped.delete(index)) this.dropped.add(index)
    const panels = this.root.querySelectorAll(".negative")
    const drawnPanel = negativePanel(this.current.negatives[index], index, this.dropped.has(index))
    const focused = this.root.activeElement === panels[index].querySelector(".drop")
    panels[index].replaceWith(drawnPanel)
    if (focused) drawnPanel.querySelector(".drop").focus()
    fit(drawnPanel.querySelector(".text"), this.expanded)
    this.say(this.dropped.has(index) ? `Negative ${index + 1} will be dropped` : `Negative ${index + 1} stays`)
    return true
  }

  expand(expanded) {
    this.expanded = expanded
    this.find(".card").classList.toggle("expanded", expanded)
    this.find('[data-act="expand"]').setAttribute("aria-pressed", expanded)
    this.layout()
  }

  // Hidden until asked for: who has read what a judge says finds it hard to judge for themselves.
  showSuggested(shown) {
    this.showsSuggested = shown
    this.find(".card").classList.toggle("judged", shown)
    this.find('[data-act="suggested"]').setAttribute("aria-pressed", shown)
    const passages = [...this.current.positives, ...this.current.negatives]
    if (shown && !passages.some((each) => each.suggested?.length)) this.say("No judge suggests anything here")
    this.layout()
  }

  draw() {
    const card = this.current
    this.find(".card").classList.toggle("empty", !card)
    this.find("main").hidden = !card
    this.find(".none").hidden = Boolean(card)
    if (card) this.drawCard(card)
    else this.drawNone()
    this.drawFooter()
    this.drawStatus()
    this.layout()
  }

  drawCard(card) {
    const chips = [card.source, [card.operation, card.method].filter(Boolean).join(" · ")]
    if (card.decided_by) chips.push(`${card.status} by ${card.decided_by}`)
    this.find(".chips").replaceChildren(...chips.map((text) => element("span", "chip", text)))
    this.find(".query .text").replaceChildren(drawn(card.query))
    const { positives, negatives } = card
    const score = negatives.find((each) => each.positive_score !== null)?.positive_score
    const drawnPositives = positives.map((each, i) => positivePanel(each, i, positives.length, score))
    this.find(".positives").replaceChildren(...drawnPositives)
    const panels = negatives.map((each, i) => negativePanel(each, i, this.dropped.has(i)))
    if (!panels.length) panels.push(element("p", "missing", "No negatives yet: synth mine finds them."))
    const box = this.find(".negatives")
    box.replaceChildren(...panels)
    box.classList.toggle("single", panels.length === 1)
    this.find("main").scrollTop = 0
  }

  drawNone() {
    const starving = !this.progress || this.left() > 0
    this.find(".none h2").textContent = starving ? "Waiting for the next cards …" : "Nothing left in this queue"
    const undo = this.history.entries.length ? " Z takes back your last verdict." : ""
    const claimed = this.progress?.claimed
    const rest = claimed
      ? `Others have the last ${claimed} before them; what they leave comes here within a quarter of an hour.`
      : "Every sample here has your verdict, or somebody else's."
    this.find(".none p").textContent = starving ? "" : rest + undo
    this.find(".chips").replaceChildren()
  }

  drawFooter() {
    this.find(".verdicts").classList.toggle("asking", this.asking)
    this.find(".difficulty").hidden = this.asking
    const reasons = this.find(".reasons")
    reasons.hidden = !this.asking
    if (this.asking) reasons.replaceChildren(...this.reasonButtons())
    for (const button of this.root.querySelectorAll("[data-difficulty]")) {
      button.setAttribute("aria-pressed", Number(button.dataset.difficulty) === this.difficulty)
    }
    for (const button of this.root.querySelectorAll(".verdicts button, .difficulty button")) {
      button.disabled = !this.current
    }
  }

  reasonButtons() {
    const buttons = this.reasons.map((reason, index) => {
      const button = element("button")
      button.dataset.reason = index
      button.append(keyed(String(index + 1), spoken(reason)))
      return button
    })
    const back = element("button")
    back.dataset.act = "back"
    back.append(keyed("Esc", "back"))
    for (const button of [...buttons, back]) button.type = "button"
    return [...buttons, back]
  }

  say(text, kind = "") {
    const status = this.find(".status")
    status.textContent = text
    status.className = `status ${kind}`
  }

  drawStatus() {
    const waiting = this.outbox.events.size
    const pace = this.find(".pace")
    const parts = []
    if (this.progress) {
      const done = element("strong", "", `${this.progress.done + this.pending()}`)
      parts.push(done, " done · ", element("strong", "", `${this.left()}`), " left")
    }
    if (this.pace.verdicts >= 3 && this.pace.seconds > 0) {
      const rate = Math.round((3600 * this.pace.verdicts) / this.pace.seconds)
      parts.push(" · ", element("strong", "", `${Math.min(rate, 9999)}`), " per hour")
    }
    const late = this.trouble || (waiting && performance.now() - this.sentAt > RESEND_AFTER)
    const stored = element("span", waiting ? (late ? "stored late" : "stored wait") : "stored", "")
    stored.title = this.trouble || (waiting ? "On the way to the store; kept in this browser until then" : "All stored")
    stored.textContent = waiting ? `${waiting} on the way` : "stored"
    pace.replaceChildren(...parts, stored)
  }

  // The card fills what is left of the window, so that nothing jumps; then the texts fill their boxes.
  layout() {
    const card = this.find(".card")
    card.style.setProperty("--top", `${Math.max(0, card.getBoundingClientRect().top + scrolled(card))}px`)
    for (const box of this.root.querySelectorAll("article .text")) fit(box, this.expanded)
  }
}

function spoken(code) {
  return code.replaceAll("-", " ")
}

function scrolled(node) {
  const host = node.getRootNode().host ?? node
  return host.closest("[data-testid='stMain']")?.scrollTop ?? 0
}

const mounted = new WeakMap()

export default function mount(component) {
  const root = component.parentElement
  let card = mounted.get(root)
  if (card?.name !== component.data.outbox_name) {
    card?.unmount()
    card = new ReviewCard(root, component.data.outbox_name)
    mounted.set(root, card)
  }
  card.update(component)
  return () => {
    card.unmount()
    mounted.delete(root)
  }
}
