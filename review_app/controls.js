// Keys and clicks: which of them are for the card, and what each does.
// Of a key that came before its card was on the screen so many milliseconds, nobody has yet pressed it a second time
// because nothing happened.
const HELD_FOR = 1000

class Controls {
  constructor(card, root) {
    this.card = card
    this.root = root
    this.held = [] // keys that came before the card was on the screen, in their order
    this.use({})
    this.stop = new AbortController()
    const options = { signal: this.stop.signal }
    window.addEventListener("keydown", (event) => this.onKey(event), options)
    for (const kind of ["pointermove", "wheel", "keydown"]) {
      window.addEventListener(kind, () => card.painted && card.stopwatch.touch(), { ...options, passive: true })
    }
    window.addEventListener("resize", () => card.view.layout(), options)
    const section = root.querySelector(".card")
    section.addEventListener("click", (event) => this.onClick(event), options)
    section.addEventListener("focusin", (event) => this.onFocus(event), options)
    section.addEventListener("submit", (event) => event.preventDefault(), options)
  }

  // The keys in force: the table's, or the reviewer's own.
  use(own) {
    const wanted = JSON.stringify(own ?? {})
    if (wanted === this.own) return
    this.own = wanted
    const { keys, actions, faults } = keyMap(own)
    this.keys = keys
    this.actions = actions
    labelButtons(this.root, keys)
    drawSheet(this.root.querySelector(".sheet dl"), keys)
    if (faults.length) this.card.say(`Keys of your own left out: ${faults.join("; ")}`, "bad")
  }

  onKey(event) {
    const { card } = this
    if (window.skiffReviewCard !== card) return
    const target = event.composedPath()[0]
    if (card.view.editor.isOpen && target instanceof Node && this.root.contains(target)) return this.onFormKey(event)
    const typing = target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)
    if (typing || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return
    const ownButton = target.tagName === "BUTTON" && this.root.contains(target)
    if (event.repeat) {
      if (ownButton || event.key === " ") event.preventDefault() // a held Enter would click a focused button again
      return
    }
    if (card.view.find("dialog").open || document.querySelector('[role="dialog"], [role="listbox"], [role="menu"]')) return
    if (target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return // it clicks the button
    if (card.lapse()) return
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (this.press(key)) event.preventDefault()
  }

  // While a form is open, only what closes it is ours.
  onFormKey(event) {
    if (event.isComposing || event.repeat) return
    const saves = event.key === "Enter" && (event.ctrlKey || event.metaKey)
    if (!saves && event.key !== "Escape") return
    event.preventDefault()
    event.stopPropagation()
    if (saves && !this.card.view.editor.form.hidden) this.card.save()
    else this.card.closeEditor()
  }

  press(key) {
    const { card } = this
    if (card.view.editor.isOpen) return key === "Escape" && (card.closeEditor(), true)
    const action = this.actions.get(key)
    if (card.looking !== null) return this.pressLooking(key, action)
    if (action === "keys") return this.act(action)
    if (this.held.length) return this.hold(key)
    if (action === "undo") return card.asking ? card.ask(false) : this.act(action)
    if (action === "previous" || action === "next") return this.act(action)
    if (!card.painted) return card.current !== null && this.hold(key)
    if (card.asking) return this.pressReason(key, action)
    if (key === "Escape") return card.focused !== null && card.focus(null)
    if (/^[0-9]$/.test(key) && this.pressDigit(Number(key))) return true
    return action ? this.act(action) : false
  }

  // A burst of keys is not to lose any, and none is to count before its card was seen.
  hold(key) {
    this.held.push({ key, since: performance.now() })
    return true
  }

  // The card is on the screen: the keys that waited for it, until one of them brings the next card.
  release() {
    const waiting = this.held
    this.held = []
    const fresh = ({ since }) => performance.now() - since < HELD_FOR
    while (waiting.length && this.card.painted) {
      const next = waiting.shift()
      if (fresh(next)) this.press(next.key)
    }
    this.held = waiting.filter(fresh)
  }

  pressDigit(digit) {
    const { card } = this
    if (card.current.task === "sts") return digit <= STEPS && card.give(digit)
    if (digit === 0) return false // a grade
    return card.current.task === "classification" ? card.choose(digit - 1) : card.focus(digit - 1)
  }

  // No verdict there; other keys say so, so that nobody thinks they judged.
  pressLooking(key, action) {
    if (key === "Escape") this.card.look(this.card.history.entries.length - this.card.looking)
    else if (["previous", "next", "expand", "scores", "mode", "like", "keys"].includes(action)) this.act(action)
    else if (action || /^[0-9]$/.test(key)) this.card.say("You look back: Esc goes to the current card")
    else return false
    return true
  }

  pressReason(key, action) {
    const { card } = this
    if (key === "Escape") return card.ask(false)
    const reason = /^[1-9]$/.test(key) ? card.offered[Number(key) - 1] : null
    if (action === "reject" || key === "Enter") card.decide("reject")
    else if (reason) card.decide("reject", { reasons: [reason] })
    else card.say(`Why? A digit; ${keyName(this.keys.get("reject"))} or Enter for no reason; Esc to go back`)
    return true
  }

  onClick(event) {
    const { card } = this
    const button = event.target.closest("button")
    const passage = event.target.closest("article.negative")
    if (card.lapse()) return
    if (!button) return passage && card.painted && card.focus(Number(passage.dataset.negative))
    if (event.detail > 0) button.blur() // by pointer: else the next Space would click it again
    const { act, form, grade, of, reason, step, label } = button.dataset
    if (act === "close") card.view.find("dialog").close()
    else if (form === "save") card.save()
    else if (form === "close") card.closeEditor()
    else if (["keys", "undo", "previous", "next"].includes(act)) this.act(act)
    else if (card.looking !== null) this.press(this.keys.get(act) ?? "0")
    else if (!card.painted) return
    else if (act === "reject" && card.asking) card.decide("reject")
    else if (act === "back") card.ask(false)
    else if (act) this.act(act)
    else if (grade !== undefined) card.grade(grade === "drop" ? grade : Number(grade), Number(of))
    else if (reason) card.decide("reject", { reasons: [card.offered[Number(reason)]] })
    else if (step) card.give(Number(step))
    else if (label) card.choose(Number(label))
  }

  // Whoever comes to a passage by Tab has it in focus.
  onFocus(event) {
    const passage = event.target.closest("article.negative")
    if (passage && this.card.painted && this.card.looking === null) this.card.focused = Number(passage.dataset.negative)
  }

  act(name) {
    const { card } = this
    const entry = KEYS.find(({ action }) => action === name)
    if ("difficulty" in entry) return card.setDifficulty(entry.difficulty)
    if ("grade" in entry) return card.grade(entry.grade)
    const acts = {
      approve: () => this.approve(),
      reject: () => card.ask(true),
      skip: () => card.decide("skip"),
      unsure: () => card.decide("skip", { reasons: ["cannot-tell"] }),
      flag: () => card.decide("flag"),
      edit: () => card.edit(),
      note: () => card.view.editor.note(card.judgement),
      undo: () => card.undo(),
      previous: () => card.look(-1),
      next: () => card.look(1),
      mode: () => card.setMode(!card.full),
      expand: () => card.view.expand(!card.view.expanded),
      scores: () => card.setReveal(!card.reveal),
      like: () => this.openAlike(),
      keys: () => card.view.find("dialog").showModal(),
    }
    acts[name]()
    return true
  }

  approve() {
    const { card } = this
    const unscored = card.current.task === "sts" && card.judgement.step === null
    if (unscored) card.say("Your own score first: 0 to 5")
    else card.decide("approve")
  }

  openAlike() {
    const { card } = this.card.state
    const asked = new URLSearchParams({ like: card.sample_id })
    const reviewer = new URLSearchParams(location.search).get("reviewer")
    if (reviewer) asked.set("reviewer", reviewer)
    window.open(new URL(`explore?${asked}`, location.href), "_blank", "noopener")
  }
}
