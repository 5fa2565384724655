// What the card shows of a sample, by its task. `state`: judgement, scores (null while they are hidden), keys, full.
function shownNegatives(card, full) {
  const all = card.negatives.map((_, index) => index)
  if (full) return all
  const contested = all.filter((index) => card.negatives[index].is_contested)
  return contested.length ? contested : all.slice(0, 2)
}

function drawContent(card, state) {
  const draw = { retrieval: retrievalParts, sts: pairParts, classification: labelledParts }[card.task]
  return [...besideParts(card, state), ...draw(card, state)]
}

// Above all tasks: what others said, and why triage shows it.
function besideParts(card, { scores }) {
  const words = (card.words ?? []).map((word) => wordLine(word))
  const why = scores?.parts?.length ? [element("p", "why", `Suspicious: ${scores.parts.join(" · ")}`)] : []
  if (!words.length && !why.length) return []
  const made = element("section", "beside")
  made.setAttribute("aria-label", "What others said")
  made.append(...words, ...why)
  return [made]
}

function wordLine(word) {
  const line = element("p", `word said-${word.verdict}`)
  line.dir = "auto"
  const grades = word.grades.map(([index, grade]) => `negative ${index + 1} ${GRADE_NAMES[grade] ?? grade}`)
  const details = [...word.reasons.map(spoken), ...grades]
  if (word.own_score !== null) details.push(`own score ${word.own_score}`)
  if (word.difficulty !== null) details.push(`difficulty ${word.difficulty} of 4`)
  line.append(element("strong", "", word.reviewer), ": ", element("span", "said", VERDICT_NAMES[word.verdict] ?? word.verdict))
  if (details.length) line.append(` · ${details.join(" · ")}`)
  if (word.note) line.append(" · ", element("q", "", word.note))
  return line
}

const GRADE_NAMES = ["irrelevant", "topical", "answers in part", "answers"]

function textPanel(className, heading, segments, side = "") {
  const made = element("div", `panel ${className}`)
  const head = element("div", "head")
  head.append(element("h2", "", heading))
  if (side) head.append(element("span", "side", side))
  const text = element("p", "text")
  text.dir = "auto"
  text.append(drawn(segments))
  made.append(head, text)
  return made
}

function originPanel(card) {
  if (!card.origin) return []
  const { what, text, ratio } = card.origin
  return [textPanel("origin", `${what} before the rewrite`, text, `now ${ratio.toFixed(2)} times as long`)]
}

function instructionPanel(card) {
  return card.instruction.length ? [textPanel("instruction", "Instruction", card.instruction)] : []
}

function retrievalParts(card, state) {
  const { positives, negatives } = card
  const { scores } = state
  const asked = element("div", "asked")
  const box = element("div", "positives")
  const score = scores && Object.values(scores.negatives).find((each) => each.positive_score !== null)?.positive_score
  box.append(
    ...positives.map((each, i) => positivePanel(each, i, positives.length, { scores: scores?.positives[i], score })),
  )
  const origin = originPanel(card)
  asked.append(...instructionPanel(card), ...(card.origin?.what === "Query" ? origin : []))
  asked.append(textPanel("query", "Query", card.query), ...(card.origin?.what === "Query" ? [] : origin), box)
  const shown = shownNegatives(card, state.full)
  const made = element("div", state.full ? "negatives" : "negatives contested")
  const panels = shown.map((index) => drawNegative(card, index, state))
  if (!negatives.length) panels.push(element("p", "missing", "No negatives yet: synth mine finds them."))
  made.append(...panels)
  made.classList.toggle("single", panels.length === 1)
  made.classList.toggle("many", panels.length > 2)
  return [asked, made]
}

function drawNegative(card, index, { judgement, scores, keys }) {
  const negative = card.negatives[index]
  const known = scores?.negatives[negative.negative_id]
  return negativePanel(negative, index, { grade: judgement.grades.get(index), scores: known, keys })
}

const STEP_NAMES = ["unrelated", "same subject", "some details shared", "roughly the same", "nearly the same", "the same"]

function pairParts(card, { judgement, scores, keys }) {
  const made = element("div", "pair")
  made.append(...instructionPanel(card), ...originPanel(card))
  made.append(...card.texts.map((text, i) => textPanel("side-text", `Text ${i + 1}`, text)))
  const scale = element("div", "scale")
  scale.setAttribute("role", "group")
  scale.setAttribute("aria-label", "Your own score")
  for (const [step, name] of STEP_NAMES.entries()) scale.append(choice("step", step, step, name, judgement.step === step))
  made.append(element("h2", "question", "How alike in meaning? Your own score first"), scale, storedLine(card, judgement, scores, keys))
  return [made]
}

// What can be said of a pair whose score is far from the reviewer's own.
function farChoices(keys) {
  const [keep, own, reject] = ["approve", "edit", "reject"].map((action) => keyName(keys.get(action)))
  return `${keep} keeps the stored score, ${own} takes yours, ${reject} rejects the pair`
}

function storedLine(card, judgement, scores, keys) {
  const line = element("p", "stored-score")
  line.setAttribute("role", "status")
  if (judgement.isFar) {
    const far = `Yours is ${judgement.ownScore}, the stored score is ${card.stored}: ${judgement.distance.toFixed(1)} of ${STEPS} apart. `
    line.append(element("strong", "", far), `${farChoices(keys)}.`)
  } else if (scores) line.append(`The stored score is ${card.stored}.`)
  return line
}

function labelledParts(card) {
  const made = element("div", "labelled")
  const texts = element("div", "texts")
  texts.append(...instructionPanel(card), ...originPanel(card), textPanel("side-text", "Text", card.text))
  const labels = element("div", "labels")
  labels.setAttribute("role", "group")
  labels.setAttribute("aria-label", "Label")
  labels.append(element("h2", "", "Which label?"))
  for (const [i, label] of card.labels.entries()) {
    const button = choice("label", i, i + 1, "", false)
    const name = element("span", "label-text")
    name.dir = "auto"
    name.append(drawn(label))
    button.append(name)
    if (i === card.given) button.append(element("span", "given", "given"))
    labels.append(button)
  }
  made.append(texts, labels)
  return [made]
}

function choice(kind, value, key, label, pressed) {
  const button = element("button", `choice ${kind}`)
  button.type = "button"
  button.dataset[kind] = value
  button.setAttribute("aria-pressed", pressed)
  button.append(keyed(String(key), label))
  return button
}
