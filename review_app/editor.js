// The fields of a sample's content, and the note: where the reviewer types, and the card's keys are letters.
class Editor {
  constructor(root) {
    this.form = root.querySelector(".editor")
    this.noting = root.querySelector(".noting")
    this.others = [root.querySelector("main"), root.querySelector("footer")]
  }

  // What is behind a form does nothing: an approval beside an edit would lose the edit.
  cover(covered) {
    for (const each of this.others) each.inert = covered
  }

  get isOpen() {
    return !this.form.hidden || !this.noting.hidden
  }

  // False if a text is cut on the card: what cannot be read whole is not rewritten.
  open(judgement) {
    const fields = fieldsOf(judgement)
    if (fields.some(({ value }) => value === null)) return false
    this.judgement = judgement
    this.fields = fields.map((field, i) => this.made(field, judgement.drafts?.[i]))
    this.form.querySelector(".fields").replaceChildren(...this.fields.map(({ label }) => label))
    this.blame("")
    this.form.hidden = false
    this.cover(true)
    this.fields[0].input.focus()
    return true
  }

  made(field, draft) {
    const label = element("label", "field", field.label)
    const input = element(field.short ? "input" : "textarea")
    input.dir = "auto"
    if (!field.short) input.rows = Math.min(10, 2 + Math.floor(field.value.length / 90))
    input.value = named(field.value)
    const before = input.value // as the browser writes it
    if (draft !== undefined) input.value = draft
    label.append(input)
    return { ...field, label, input, before }
  }

  note(judgement) {
    this.judgement = judgement
    this.noting.hidden = false
    this.cover(true)
    const input = this.noting.querySelector("textarea")
    input.value = judgement.note
    input.focus()
  }

  // What was typed is kept for when it is opened again.
  close() {
    if (!this.noting.hidden) this.judgement.note = this.noting.querySelector("textarea").value.trim()
    if (!this.form.hidden) this.judgement.drafts = this.fields.map(({ input }) => input.value)
    this.form.hidden = this.noting.hidden = true
    this.cover(false)
  }

  blame(fault) {
    this.form.querySelector(".fault").textContent = fault
  }

  // The sample as it should be, or null, saying what is missing.
  content() {
    const values = {}
    for (const { name, value, input, before, many } of this.fields) {
      const typed = input.value === before ? value : unnamed(input.value, value)
      if (many) (values[name] ??= []).push(typed)
      else values[name] = typed
    }
    const { card, promoted } = this.judgement
    const edit = { task: card.task, ...values }
    if (card.task === "retrieval") {
      edit.positives = edit.positives.filter((each) => each.trim())
      edit.positives.push(...promoted.map((index) => wholePassage(card.negatives[index])))
      if (!edit.positives.length) return this.blame("A positive is needed"), null
      if (edit.positives.includes(null)) return this.blame("A promoted passage is too long to be edited here"), null
    }
    if (card.task === "sts") {
      edit.score = values.score.trim() === "" ? card.stored : Number(values.score)
      const [least, greatest] = card.range
      if (!(edit.score >= least && edit.score <= greatest)) return this.blame(`The score is none from ${least} to ${greatest}`), null
    }
    const empty = Object.entries(edit).find(([name, each]) => name !== "instruction" && typeof each === "string" && !each.trim())
    if (empty) return this.blame(`The ${empty[0]} is empty`), null
    return edit
  }
}

// What an edit of the sample has fields for; null where the card has not the whole text.
function fieldsOf(judgement) {
  const { card } = judgement
  const fields = {
    retrieval: () => [
      { name: "query", label: "Query", value: plain(card.query) },
      ...card.positives.map((each, i) => ({
        name: "positives",
        many: true,
        label: card.positives.length > 1 ? `Positive ${i + 1} (emptied, it goes)` : "Positive",
        value: wholePassage(each),
      })),
    ],
    sts: () => [
      ...card.texts.map((each, i) => ({ name: `text${i + 1}`, label: `Text ${i + 1}`, value: plain(each) })),
      { name: "score", label: `Score, ${card.range.join(" to ")} (left empty, it stays)`, value: `${judgement.ownScore ?? ""}`, short: true },
    ],
    classification: () => [
      { name: "text", label: "Text", value: plain(card.text) },
      { name: "label", label: "Label", value: plain(card.labels[card.given]), short: true },
    ],
  }[card.task]()
  return [...fields, { name: "instruction", label: "Instruction", value: plain(card.instruction), short: true }]
}

// Hidden characters are written out while a text is edited, and become themselves again.
function named(text) {
  return text.replace(HIDDEN, (each) => `⟨U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`)
}

function unnamed(text, original) {
  return text.replace(/⟨U\+([0-9A-F]{4,6})⟩/g, (name, code) => {
    const character = String.fromCodePoint(Math.min(parseInt(code, 16), 0x10ffff))
    return original.includes(character) ? character : name
  })
}

const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u2800\u3164\uffa0\u{e0100}-\u{e01ef}]/gu
