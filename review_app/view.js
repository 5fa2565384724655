// The card on the screen: draws what it is given, and decides nothing.
class CardView {
  constructor(root) {
    this.root = root
    this.editor = new Editor(root)
    this.expanded = false
  }

  find(selector) {
    return this.root.querySelector(selector)
  }

  draw(state, { reveal, looking }) {
    const { card } = state
    const section = this.find(".card")
    section.classList.toggle("empty", !card)
    section.classList.toggle("looking", looking !== null)
    this.find(".body").hidden = !card
    this.find(".none").hidden = Boolean(card)
    this.find("[data-act='scores']").setAttribute("aria-pressed", reveal)
    this.find("[data-act='mode']").setAttribute("aria-pressed", Boolean(state.full))
    this.find("[data-act='mode']").disabled = card?.task !== "retrieval"
    if (!card) return
    this.find(".chips").replaceChildren(...chips(card, state.scores).map((text) => element("span", "chip", text)))
    const main = this.find("main")
    main.className = card.task
    main.replaceChildren(...drawContent(card, state))
    main.scrollTop = 0
  }

  drawNone({ progress, history, left }) {
    const starving = !progress || left > 0
    this.find(".none h2").textContent = starving ? "Waiting for the next cards …" : "Nothing left in this queue"
    const undo = history.entries.length ? " Z takes back your last verdict." : ""
    const claimed = progress?.claimed
    const rest = claimed
      ? `Others have the last ${claimed} before them; what they leave comes here within a quarter of an hour.`
      : "Every sample here has your verdict, or somebody else's."
    this.find(".none p").textContent = starving ? "" : rest + undo
    this.find(".chips").replaceChildren()
  }

  redrawNegative(card, index, state) {
    const made = drawNegative(card, index, state)
    const before = this.find(`[data-negative="${index}"]`)
    const inside = before.contains(this.root.activeElement)
    before.replaceWith(made)
    if (inside) made.focus({ preventScroll: true })
    fit(made.querySelector(".text"), this.expanded)
  }

  focus(index) {
    const passage = index === null ? null : this.find(`article[data-negative="${index}"]`)
    if (passage) passage.focus()
    else this.find(".card").focus({ preventScroll: true })
  }

  closeEditor() {
    this.editor.close()
    this.find(".card").focus({ preventScroll: true }) // so that keys are the card's again
  }

  drawFooter({ current, asking, looking, judgement, offered, history, state }) {
    this.find(".verdicts").classList.toggle("asking", asking)
    this.find(".difficulty").hidden = asking
    const box = this.find(".reasons")
    box.hidden = !asking
    if (asking) box.replaceChildren(...this.reasonButtons(offered))
    for (const { action, difficulty } of KEYS.filter((each) => each.difficulty)) {
      const chosen = looking === null ? judgement : state.judgement
      this.find(`[data-act="${action}"]`).setAttribute("aria-pressed", chosen?.difficulty === difficulty)
    }
    const away = !current || looking !== null
    for (const button of this.root.querySelectorAll(".verdicts button, .difficulty button")) button.disabled = away
    for (const act of ["edit", "note"]) this.find(`[data-act="${act}"]`).disabled = away
    this.find("[data-act='note']").setAttribute("aria-pressed", Boolean(judgement?.note))
    this.find("[data-act='previous']").disabled = !history.entries.length || looking === 0
    this.find("[data-act='next']").disabled = looking === null
    this.find("[data-act='like']").disabled = !current
  }

  reasonButtons(offered) {
    const buttons = offered.flatMap((reason, index) => {
      if (!reason) return []
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

  say(text, kind) {
    const status = this.find(".status")
    status.textContent = text
    status.title = text
    status.className = `status ${kind}`
  }

  drawStatus(card, isLate) {
    if (!card.current) this.drawNone({ progress: card.progress, history: card.history, left: card.left() })
    const waiting = card.outbox.events.size
    const parts = []
    if (card.progress) {
      const done = element("strong", "", `${card.progress.done + card.pending()}`)
      parts.push(done, " done · ", element("strong", "", `${card.left()}`), " left")
    }
    if (card.pace.verdicts >= 3 && card.pace.seconds > 0) {
      const rate = Math.round((3600 * card.pace.verdicts) / card.pace.seconds)
      parts.push(" · ", element("strong", "", `${Math.min(rate, 9999)}`), " per hour")
    }
    const late = card.trouble || (waiting && isLate)
    const stored = element("span", waiting ? (late ? "stored late" : "stored wait") : "stored", "")
    stored.title = card.trouble || (waiting ? "On the way to the store; kept in this browser until then" : "All stored")
    stored.textContent = waiting ? `${waiting} on the way` : "stored"
    this.find(".pace").replaceChildren(...parts, stored)
  }

  expand(expanded) {
    this.expanded = expanded
    this.find(".card").classList.toggle("expanded", expanded)
    this.find('[data-act="expand"]').setAttribute("aria-pressed", expanded)
    this.layout()
  }

  // The card fills what is left of the window, so that nothing jumps; then the texts fill their boxes.
  layout() {
    const card = this.find(".card")
    card.style.setProperty("--top", `${Math.max(0, card.getBoundingClientRect().top + scrolled(card))}px`)
    for (const box of this.root.querySelectorAll("article .text")) fit(box, this.expanded)
  }
}

function chips(card, scores) {
  const made = [card.source, [card.operation, card.method].filter(Boolean).join(" · ")]
  if (scores?.decided_by) made.push(`${scores.status} by ${scores.decided_by}`)
  return made.filter(Boolean)
}

function scrolled(node) {
  const host = node.getRootNode().host ?? node
  return host.closest("[data-testid='stMain']")?.scrollTop ?? 0
}
