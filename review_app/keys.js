// Every key of the card, in one table: which action, with which key unless the reviewer has one of their own, what its
// button says and what the sheet says. R and C are Streamlit's own: it reruns the app and clears caches with them.
const KEYS = [
  { action: "approve", key: "a", label: "Approve", help: "Approve: the positive answers the query, the negatives do not; the score or the label is right" },
  { action: "reject", key: "x", label: "Reject", help: "Reject, then a digit for the reason; the same key or Enter for none; Esc to go back" },
  { action: "skip", key: "s", label: "Skip", help: "Skip: decide nothing, do not show it to me again" },
  { action: "unsure", key: "u", label: "Can’t tell", help: "Skip, because it cannot be told" },
  { action: "flag", key: "f", label: "Flag", help: "Leave it to an adjudicator; nobody else is shown it" },
  { action: "easy", key: "q", label: "easy", help: "Difficulty, before the verdict: easy", difficulty: 1 },
  { action: "medium", key: "w", label: "medium", help: "Difficulty: medium", difficulty: 2 },
  { action: "hard", key: "g", label: "hard", help: "Difficulty: hard", difficulty: 3 },
  { action: "very_hard", key: "h", label: "very hard", help: "Difficulty: very hard", difficulty: 4 },
  { action: "irrelevant", key: "0", label: "Irrelevant", said: "irrelevant", help: "Passage in focus: it has nothing to do with the query", grade: 0 },
  { action: "topical", key: "t", label: "Topical", said: "topical", help: "Passage in focus: on the subject, no answer: a good hard negative", grade: 1 },
  { action: "partial", key: "i", label: "In part", said: "answers in part", help: "Passage in focus: it answers in part, and is dropped", grade: 2 },
  { action: "promote", key: "p", label: "Promote", said: "promoted", help: "Passage in focus: it answers, and becomes a positive", grade: 3 },
  { action: "drop", key: "d", label: "Drop", said: "dropped", help: "Passage in focus: drop it for another reason", grade: "drop" },
  { action: "edit", key: "e", label: "Edit", help: "Edit the texts; Ctrl+Enter approves them so, Esc goes back" },
  { action: "note", key: "n", label: "Note", help: "A note, kept with the verdict; Ctrl+Enter or Esc goes back" },
  { action: "undo", key: "z", label: "Undo", help: "Undo the last verdict and show its card; any number back" },
  { action: "previous", key: "j", label: "Look back", help: "Look at the card before, without undoing anything; Esc goes back" },
  { action: "next", key: "k", label: "Forward", help: "Forward again to the current card" },
  { action: "mode", key: "b", label: "All negatives", help: "All negatives, or the contested ones alone" },
  { action: "expand", key: " ", label: "Expand", help: "The passages whole, or clipped around what they share with the query" },
  { action: "scores", key: "v", label: "Scores", help: "Show scores and what judges suggest, here and on the next cards, or hide them again" },
  { action: "like", key: "m", label: "More like this", help: "Samples like this one, in a new tab" },
  { action: "keys", key: "?", label: "Keys", help: "This sheet" },
]
const DIGITS_HELP = "Put that negative in focus; give a scored pair 0 to 5; choose a label; after Reject, the reason"
const RESERVED = new Set(["r", "c", "1", "2", "3", "4", "5", "6", "7", "8", "9"])

// The keys in force, and why some of the reviewer's own are not: unknown, no single key, reserved, or another's too.
function keyMap(own) {
  const keys = new Map(KEYS.map(({ action, key }) => [action, key]))
  const faults = []
  const wanted = new Map()
  for (const [action, value] of Object.entries(own ?? {})) {
    const key = typeof value === "string" ? value.toLowerCase() : ""
    if (!keys.has(action)) faults.push(`there is no action ${action}`)
    else if ([...key].length !== 1) faults.push(`${action} needs a single key`)
    else if (RESERVED.has(key)) faults.push(`${key.toUpperCase()} is taken, not for ${action}`)
    else wanted.set(action, key)
  }
  // All of them together, so that two may change places; whoever collides goes back to its own, until nobody does.
  for (let collided = true; collided; ) {
    const used = new Map()
    for (const [action, key] of keys) {
      const found = wanted.get(action) ?? key
      used.set(found, [...(used.get(found) ?? []), action])
    }
    const clash = [...used.values()].find((actions) => actions.length > 1)
    collided = Boolean(clash)
    for (const action of clash ?? []) if (wanted.delete(action)) faults.push(`the key of ${action} is another's too`)
  }
  for (const [action, key] of wanted) keys.set(action, key)
  return { keys, actions: new Map([...keys].map(([action, key]) => [key, action])), faults }
}

function keyName(key) {
  return key === " " ? "Space" : key.toUpperCase()
}

// The <kbd> and the label of every button that carries an action.
function labelButtons(root, keys) {
  for (const button of root.querySelectorAll("button[data-act]")) {
    const entry = KEYS.find(({ action }) => action === button.dataset.act)
    if (entry) button.replaceChildren(keyed(keyName(keys.get(entry.action)), button.dataset.label ?? entry.label))
  }
}

function drawSheet(list, keys) {
  const rows = KEYS.map(({ action, help }) => [keyName(keys.get(action)), help])
  rows.unshift(["0–9", DIGITS_HELP])
  list.replaceChildren(
    ...rows.map(([key, help]) => {
      const row = element("div")
      const term = element("dt")
      term.append(element("kbd", "", key))
      row.append(term, element("dd", "", help))
      return row
    }),
  )
}
