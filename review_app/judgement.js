// What a reviewer says of one card before it goes: grades of passages, difficulty, note, own score; and the events of it.
const GRADED = {
  0: { verdict: "keep", grade: 0 },
  1: { verdict: "keep", grade: 1 },
  2: { verdict: "partial", grade: 2 },
  3: { verdict: "promote", grade: 3 },
  drop: { verdict: "reject" },
}
const STEPS = 5 // a scored pair is given 0 to 5, whatever its source's own scale
const CLOSE = 1.5 // of these: nearer to the score that it has, the reviewer's own confirms it

class Judgement {
  constructor(card, kept = {}) {
    this.card = card
    this.grades = new Map(kept.grades ?? [])
    this.difficulty = kept.difficulty ?? null
    this.note = kept.note ?? ""
    this.step = null // of a scored pair, 0 to 5: given anew whenever the card comes back
    this.drafts = null // what is in the editor
    this.sawScores = kept.sawScores ?? false
    this.numShown = 0
  }

  get kept() {
    const { grades, difficulty, note, sawScores } = this
    return { grades: [...grades], difficulty, note, sawScores }
  }

  // The same grade again takes it back.
  grade(index, grade) {
    if (this.grades.get(index) === grade) this.grades.delete(index)
    else this.grades.set(index, grade)
  }

  get ownScore() {
    if (this.step === null) return null
    const [least, greatest] = this.card.range
    return Number((least + (this.step / STEPS) * (greatest - least)).toFixed(4))
  }

  // How far the reviewer's own score is from the one that the pair has, in steps.
  get distance() {
    const [least, greatest] = this.card.range
    return (Math.abs(this.ownScore - this.card.stored) * STEPS) / (greatest - least)
  }

  get isFar() {
    return this.step !== null && this.distance >= CLOSE - 1e-9
  }

  get promoted() {
    return [...this.grades].filter(([, grade]) => grade === 3).map(([index]) => index)
  }

  // All in one batch, the promotions first: each makes a revision, which the next one and the verdict are of.
  events(verdict, { reasons = [], edit = null, seconds, adjudicates = false }) {
    const { card, sawScores } = this
    const seen = { seconds, saw_scores: sawScores, guideline: card.guideline ?? null }
    let head = card.revision_id
    const ofNegative = (index, fields) =>
      newEvent(card, { ...seen, ...GRADED[this.grades.get(index)], negative_id: card.negatives[index].negative_id, ...fields })
    const promotions = this.promoted.map((index) => {
      const event = ofNegative(index, { revision_id: head, edited_id: newId() })
      head = event.edited_id
      return event
    })
    const settles = adjudicates && (verdict === "approve" || verdict === "reject")
    const said = newEvent(card, {
      ...seen,
      revision_id: head,
      verdict,
      reasons,
      difficulty: this.difficulty,
      note: this.note,
      own_score: this.ownScore,
      num_shown: this.numShown,
      adjudicates: settles,
      ...(edit ? { edit, edited_id: newId() } : {}),
    })
    const others = [...this.grades].filter(([, grade]) => grade !== 3).map(([index]) => ofNegative(index, {}))
    return [...promotions, said, ...others]
  }
}

function newEvent(card, fields) {
  const { sample_id, revision_id } = card
  return { review_id: newId(), sample_id, revision_id, negative_id: null, reasons: [], ...fields }
}

// Last first: the verdict before the promotions whose revision it is of.
function undoing({ card, events }, seconds) {
  return events
    .toReversed()
    .map(({ negative_id, review_id }) => newEvent(card, { verdict: "skip", negative_id, undoes: review_id, seconds }))
}

// The text that segments were made of, or null if they are not the whole of it.
function plain(segments) {
  let text = ""
  for (const [part, kind] of segments) {
    if (kind !== "hidden") text += part
    else if (CODE_POINT.test(part)) text += String.fromCodePoint(parseInt(part.slice(2), 16))
    else return null
  }
  return text
}

const CODE_POINT = /^U\+[0-9A-F]{4,6}$/

function wholePassage({ title, body }) {
  const [first, rest] = [plain(title), plain(body)]
  return rest === null ? null : title.length ? `${first}\n${rest}` : rest
}
