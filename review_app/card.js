// The review card: shows one sample after the other without waiting for Python, and never judges one that was not
// painted. Python is told through `outbox`, again and again until it says that an event is stored.
const FEW_CARDS = 12 // ask for more when no more are left
const LATE_AFTER = 4000 // milliseconds without an answer after which the card shows that it waits for one
const RESEND_AFTER = 12000 // and sends again: later than Python gives up a busy store, or its answer would never come
const OF_QUERIES = ["unclear-query", "wrong-positive", "false-negative"]
const VERDICT_NAMES = { approve: "Approved", reject: "Rejected", skip: "Skipped", flag: "Flagged" }

class ReviewCard {
  constructor(root, name) {
    this.root = root
    this.name = name
    this.outbox = new Outbox(name)
    this.history = new History(name)
    this.queue = []
    this.current = null
    this.judged = new Set(this.history.entries.map(({ card }) => card.revision_id))
    this.repeated = new Set()
    this.unscored = new Set() // samples whose scores were asked for
    this.progress = null // until Python could read the store
    this.stopwatch = new Stopwatch()
    this.pace = { verdicts: 0, seconds: 0 }
    this.sentAt = 0
    this.unansweredSince = 0
    this.heldSince = Date.now() // not performance.now(), which stands still while the machine sleeps
    this.heldFor = Infinity // milliseconds that nobody else is shown these cards
    this.sent = 0
    this.trouble = ""
    this.reveal = false
    this.full = null // all negatives: as the queue has it, until the reviewer chooses
    this.view = new CardView(root)
    this.controls = new Controls(this, root)
    // Streamlit fades what a slow run has not drawn again yet; the card is never out of date.
    root.host?.closest("[data-testid='stElementContainer']")?.style.setProperty("opacity", "1", "important")
    // When the queue changes, the old card stays mounted for a moment beside the new one: keys go to the new one alone.
    window.skiffReviewCard = this
    this.timer = setInterval(() => this.retry(), 1000)
  }

  unmount() {
    this.controls.stop.abort()
    clearInterval(this.timer)
  }

  // Python's news: new cards, what is stored, how far the reviewer is.
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue
    this.reasons = data.reasons
    this.adjudicates = Boolean(data.adjudicates)
    this.full ??= this.adjudicates
    this.controls.use(data.keys)
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
    this.queue.push(...this.unknown(data.cards ?? []))
    this.answered = true
    this.learnScores(data.scores ?? {})
    this.tellDiffering(data.differing ?? {})
    if (refusals.length) this.say(`${refusals.length} not stored: ${refusals[0][1]}`, "bad")
    if (!this.current) this.next()
    else this.drawStatus()
    if ((this.outbox.events.size && !data.trouble) || this.lacksScores) this.send()
  }

  // Cards that are neither here nor judged; one that is shown again on purpose comes once.
  unknown(cards) {
    const waiting = new Set([...this.outbox.events.values()].map((event) => event.revision_id))
    const known = new Set([this.current, ...this.queue].map((card) => card?.revision_id))
    return cards.filter(({ revision_id: id, is_repeat }) => {
      if (known.has(id) || waiting.has(id) || (this.judged.has(id) && !is_repeat) || this.repeated.has(id)) return false
      return known.add(id)
    })
  }

  learnScores(scores) {
    const cards = [this.current, ...this.queue, ...this.history.entries.map(({ card }) => card)]
    for (const card of cards) if (card && scores[card.revision_id]) card.scores = scores[card.revision_id]
    if (this.current && this.reveal && scores[this.current.revision_id]) this.redraw()
  }

  get lacksScores() {
    return this.reveal && [this.current, ...this.queue].some((card) => card && !card.scores && !this.unscored.has(card.sample_id))
  }

  // What a judge suggests otherwise, told to whoever approved without having seen it.
  tellDiffering(differing) {
    const last = this.history.entries.at(-1)?.events.find((event) => event.review_id in differing)
    if (!last || this.toldOf === last.review_id) return
    this.toldOf = last.review_id
    const [undo, show] = ["undo", "scores"].map((action) => keyName(this.controls.keys.get(action)))
    this.say(`Approved; a judge differs on ${differing[last.review_id].join(", ")}: ${undo}, then ${show}, shows why`, "approve")
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

  show(card, kept = {}) {
    if (this.view.editor.isOpen) this.closeEditor()
    if (!card) this.controls.held = []
    this.current = card
    this.judgement = card && new Judgement(card, kept)
    this.looking = null
    this.focused = null
    this.asking = false
    this.begun = false
    this.redraw()
    this.awaitPaint()
  }

  // After the next frame the card is on the screen; until then no click counts, and keys wait.
  awaitPaint() {
    const card = this.current
    this.painted = false
    requestAnimationFrame(() =>
      setTimeout(() => {
        if (this.current !== card || this.painted || this.looking !== null) return
        this.painted = card !== null
        if (this.begun) this.stopwatch.resume()
        else this.stopwatch.start()
        this.begun = true
        this.controls.release()
      }),
    )
  }

  decide(verdict, { reasons = [], edit = null } = {}) {
    const seconds = this.stopwatch.seconds
    const { current: card, judgement } = this
    const events = judgement.events(verdict, { reasons, edit, seconds, adjudicates: this.adjudicates })
    this.history.push({ card, events, ...judgement.kept })
    this.judged.add(card.revision_id)
    if (card.is_repeat) this.repeated.add(card.revision_id)
    this.outbox.add(events)
    this.pace.verdicts += 1
    this.pace.seconds += seconds
    this.say(verdictSaid(verdict, { reasons, edit, judgement }), verdict)
    this.next()
    this.send()
  }

  undo() {
    const last = this.history.pop()
    if (!last) return this.say("Nothing to undo")
    this.outbox.add(undoing(last, this.painted ? this.stopwatch.seconds : null))
    this.judged.delete(last.card.revision_id)
    this.repeated.delete(last.card.revision_id)
    if (this.current) this.queue.unshift(this.current)
    this.pace.verdicts = Math.max(0, this.pace.verdicts - 1)
    this.say("Undone: judge it again")
    this.show(last.card, last)
    this.send()
  }

  // Cards before this one, to look at: nothing can be said of them, and nothing is undone.
  look(step) {
    const count = this.history.entries.length
    const place = (this.looking ?? count) + step
    if (place < 0 || (this.looking === null && step > 0)) return this.say(place < 0 ? "No card before this one" : "This is the current card")
    if (this.asking) this.ask(false)
    if (this.looking === null) this.stopwatch.pause()
    this.looking = place < count ? place : null
    this.redraw()
    if (this.looking !== null) return this.say(`Looking back: ${count - place} before. ${saidOf(this.history.entries[place])}`)
    this.say("Back at the current card")
    this.awaitPaint()
  }

  // At most one message is under way; what comes meanwhile goes with the next.
  send() {
    if (!this.answered && performance.now() - this.sentAt < RESEND_AFTER) return
    this.sentAt = performance.now()
    if (this.answered) this.unansweredSince = this.sentAt
    this.answered = false
    this.askedAt = Date.now()
    this.sent += 1
    const held = [this.current, ...this.queue].filter(Boolean)
    const unscored = this.reveal ? held.filter(({ scores }) => !scores).map((card) => card.sample_id) : []
    for (const id of unscored) this.unscored.add(id)
    this.setStateValue("outbox", {
      events: [...this.outbox.events.values()],
      holding: held.map((card) => card.sample_id),
      reveal: this.reveal,
      unscored,
      sent: this.sent, // so that the same events again are a change
    })
  }

  retry() {
    if (this.lapse()) return
    // Whoever writes keeps the cards: nothing is sent meanwhile that would say that somebody is there.
    const writes = this.view.editor.isOpen && this.stopwatch.idle < 5 * Stopwatch.IDLE
    if (writes && Date.now() - this.heldSince > this.heldFor / 2) this.send()
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

  ask(asking) {
    this.asking = asking
    this.redrawFooter()
    this.view.layout() // a narrow window needs a second row for the reasons
    return true
  }

  setDifficulty(value) {
    this.judgement.difficulty = this.judgement.difficulty === value ? null : value
    this.redrawFooter()
    return true
  }

  // Put a negative in focus; null leaves it.
  focus(index) {
    if (index !== null && !this.shown.includes(index)) return false
    this.focused = index
    this.view.focus(index)
    return true
  }

  // Of the passage in focus, or of the only one on the card. Then the next one without a grade is in focus.
  grade(grade, index = this.focused ?? (this.shown.length === 1 ? this.shown[0] : null)) {
    if (index === null) return this.shown.length > 0 && (this.say("Which passage? A digit puts it in focus"), true)
    this.judgement.grade(index, grade)
    this.view.redrawNegative(this.current, index, this.state)
    const given = this.judgement.grades.has(index)
    this.say(given ? `Negative ${index + 1}: ${KEYS.find((each) => each.grade === grade).said}` : `Negative ${index + 1}: no grade`)
    if (this.shown.length === 1 && this.focused === null) return true
    const after = [...this.shown.filter((each) => each > index), ...this.shown]
    return this.focus(given ? (after.find((each) => !this.judgement.grades.has(each)) ?? null) : index)
  }

  // Of a scored pair: near to the score that it has, one's own approves it; else the reviewer is asked.
  give(step) {
    const { judgement } = this
    if (judgement.isFar) return this.say(farChoices(this.controls.keys)), true
    judgement.step = step
    if (judgement.isFar) {
      this.redraw()
      this.say(`Yours is ${judgement.ownScore}, the stored score is ${this.current.stored}`)
    } else this.decide("approve")
    return true
  }

  // The reasons to reject the card, each at its digit; null where one is of queries and passages, and the card has none.
  get offered() {
    const isRetrieval = this.current?.task === "retrieval"
    return this.reasons.map((reason) => (isRetrieval || !OF_QUERIES.includes(reason) ? reason : null))
  }

  choose(index) {
    const { current: card } = this
    if (!card.labels[index]) return false
    if (index === card.given) this.decide("approve")
    else this.decide("approve", { edit: editOf(card, { label: plain(card.labels[index]) }) })
    return true
  }

  edit() {
    if (this.judgement.isFar) return this.decide("approve", { edit: editOf(this.current, { score: this.judgement.ownScore }) })
    if (!this.view.editor.open(this.judgement)) this.say("Too long to be edited here: the card has only a part of it")
  }

  save() {
    const edit = this.view.editor.content()
    if (!edit) return
    this.closeEditor()
    this.decide("approve", { edit })
  }

  closeEditor() {
    this.view.closeEditor()
    this.redrawFooter()
  }

  setMode(full) {
    this.full = full
    this.focused = null
    this.redraw()
  }

  // Hidden until asked for: who has read what a judge says finds it hard to judge for themselves.
  setReveal(reveal) {
    this.reveal = reveal
    this.unscored.clear()
    this.redraw()
    this.send()
  }

  get shown() {
    return this.current?.task === "retrieval" ? shownNegatives(this.current, this.full) : []
  }

  // What is drawn: the card at hand, or one that is looked back at.
  get state() {
    const past = this.looking === null ? null : this.history.entries[this.looking]
    const card = past?.card ?? this.current
    const judgement = past ? new Judgement(card, past) : this.judgement
    return { card, judgement, scores: (this.reveal && card?.scores) || null, keys: this.controls.keys, full: this.full }
  }

  redraw() {
    const { state } = this
    if (this.current && this.looking === null) {
      this.judgement.sawScores ||= state.scores !== null
      this.judgement.numShown = Math.max(this.judgement.numShown, this.shown.length)
    }
    this.view.draw(state, this)
    this.redrawFooter()
    this.drawStatus()
    this.view.layout()
  }

  redrawFooter() {
    this.view.drawFooter(this)
  }

  say(text, kind = "") {
    this.view.say(text, kind)
  }

  drawStatus() {
    this.view.drawStatus(this, !this.answered && performance.now() - this.unansweredSince > LATE_AFTER)
  }
}

// The sample with some of its fields otherwise, as an edit says it.
function editOf(card, fields) {
  const instruction = plain(card.instruction)
  const same =
    card.task === "sts"
      ? { text1: plain(card.texts[0]), text2: plain(card.texts[1]), score: card.stored }
      : { text: plain(card.text), label: plain(card.labels[card.given]) }
  return { task: card.task, ...same, instruction, ...fields }
}

function verdictSaid(verdict, { reasons, edit, judgement }) {
  const why = reasons.length ? `: ${spoken(reasons[0])}` : ""
  const own = judgement.step === null ? "" : `; yours ${judgement.ownScore}, stored ${judgement.card.stored}`
  const remade = edit?.query !== undefined && edit.query !== plain(judgement.card.query) && judgement.card.negatives.length
  const gone = remade ? "; another query has other negatives: synth mine finds them" : ""
  return `${VERDICT_NAMES[verdict]}${edit ? " as edited" : ""}${why}${own}${gone}`
}

function saidOf({ events }) {
  const said = events.find((event) => !event.negative_id)
  return VERDICT_NAMES[said?.verdict] ?? ""
}

function spoken(code) {
  return code.replaceAll("-", " ")
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
