const TAGS = { term: "mark", del: "del", ins: "ins" } // what is none of these is a hidden character

// Drawing: every text goes in through textContent, segment by segment.
function element(tag, className = "", text = "") {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text) made.textContent = text
  return made
}

function drawn(segments) {
  const fragment = document.createDocumentFragment()
  for (const [text, kind] of segments) {
    if (kind === "") fragment.append(text)
    else fragment.append(element(TAGS[kind.split(" ")[0]] ?? "code", kind, text))
  }
  return fragment
}

function keyed(key, label) {
  const fragment = document.createDocumentFragment()
  fragment.append(element("kbd", "", key), label)
  return fragment
}

function panel(className, passage, head) {
  const made = element("article", `panel ${className}`)
  const text = element("div", "text")
  text.dir = "auto"
  text.segments = passage.body
  if (passage.title.length) {
    const title = element("h3", "title")
    title.dir = "auto"
    title.append(drawn(passage.title))
    made.append(head, title, text)
  } else made.append(head, text)
  return made
}

function suggestedLines(scores) {
  return (scores?.suggested ?? []).map((each) => element("p", "suggested", each))
}

function positivePanel(passage, index, count, { scores, score }) {
  const head = element("div", "head")
  head.append(element("h2", "", count > 1 ? `Positive ${index + 1} of ${count}` : "Positive"))
  if (count === 1 && score != null) head.append(cosineBar(score, score))
  const made = panel("positive", passage, head)
  made.append(...suggestedLines(scores))
  return made
}

// A negative with its number, what the reviewer says of it, the buttons to say so, and, if they are shown, its scores.
function negativePanel(negative, index, { grade, scores, keys }) {
  const head = element("div", "head")
  head.append(element("span", "place", String(index + 1)))
  const entry = KEYS.find((each) => "grade" in each && each.grade === grade)
  const said = element("span", "grade", entry?.said ?? "")
  head.append(said)
  if (scores) head.append(...scoredHead(scores))
  const made = panel("negative", negative, head)
  made.dataset.negative = index
  made.dataset.grade = grade ?? ""
  made.tabIndex = 0
  made.setAttribute("aria-label", [`Negative ${index + 1}`, entry?.said].filter(Boolean).join(", "))
  const line = foundLine(scores ?? {})
  if (line.hasChildNodes()) head.after(line)
  head.after(gradeButtons(index, grade, keys)) // always in the same place, however long the text
  made.append(...suggestedLines(scores))
  return made
}

// What people labelled has no rank, and no score before it is mined too.
function scoredHead(scores) {
  const rank = scores.rank === null ? "" : `rank ${scores.rank}`
  const made = [element("span", "made", [rank, scores.origin].filter(Boolean).join(" · "))]
  if (scores.score !== null && scores.positive_score !== null) {
    made.push(cosineBar(scores.score, scores.positive_score))
  }
  return made
}

function gradeButtons(index, grade, keys) {
  const group = element("div", "grades")
  group.setAttribute("role", "group")
  group.setAttribute("aria-label", `Grade of negative ${index + 1}`)
  for (const entry of KEYS.filter((each) => "grade" in each)) {
    const button = element("button")
    button.type = "button"
    button.dataset.grade = entry.grade
    button.dataset.of = index
    button.setAttribute("aria-pressed", entry.grade === grade)
    button.title = entry.help
    button.append(element("kbd", "", keyName(keys.get(entry.action))), element("span", "label", entry.label))
    group.append(button)
  }
  return group
}

// Why it is flagged, then by which miners it was found and what was given up for it.
function foundLine({ flagged = [], found = [] }) {
  const line = element("p", "found")
  line.append(...flagged.map((why) => element("span", "flagged", why)), ...found.map((each) => element("span", "", each)))
  return line
}

function cosineBar(score, positiveScore) {
  const nearer = score > positiveScore
  const made = element("span", nearer ? "cosine nearer" : "cosine")
  const bar = element("span", "bar")
  const fill = element("i")
  const tick = element("b")
  fill.style.width = percent(score)
  tick.style.left = percent(positiveScore)
  bar.append(fill, tick)
  made.append(bar, element("span", "number", score.toFixed(2)))
  made.title = `cosine ${score.toFixed(3)}; the positive's is ${positiveScore.toFixed(3)}`
  made.setAttribute("role", "img")
  made.setAttribute("aria-label", made.title + (nearer ? ": nearer than the positive" : ""))
  return made
}

function percent(score) {
  return `${100 * Math.min(1, Math.max(0, score))}%`
}

// Fill a text's box: the whole if it fits or `whole` is asked for, else the window that shares most with the query.
function fit(box, whole) {
  box.replaceChildren(drawn(box.segments))
  box.classList.remove("clipped")
  if (whole || box.scrollHeight <= box.clientHeight + 1) return
  const length = box.segments.reduce((sum, [text]) => sum + text.length, 0)
  const room = Math.floor((length * box.clientHeight) / box.scrollHeight)
  const start = bestStart(box.segments, room, length)
  if (start > 0) box.replaceChildren(element("span", "cut", "… "), drawn(from(box.segments, start)))
  box.classList.toggle("clipped", box.scrollHeight > box.clientHeight + 1)
}

// Where a window of `room` characters holds the most different shared terms; the earliest of equals.
function bestStart(segments, room, length) {
  const terms = []
  let offset = 0
  for (const [text, kind] of segments) {
    if (kind === "term") terms.push({ start: offset, end: offset + text.length, term: text.toLowerCase() })
    offset += text.length
  }
  let best = { begin: 0, term: 0, count: count(terms, 0, room) }
  for (const { start } of terms) {
    const begin = Math.min(Math.max(0, start - Math.floor(room / 5)), length - room)
    const found = count(terms, begin, begin + room)
    if (found > best.count) best = { begin, term: start, count: found }
  }
  return best.begin === 0 ? 0 : cleanStart(segments.map(([text]) => text).join(""), best)
}

function count(terms, from, to) {
  return new Set(terms.filter(({ start, end }) => start >= from && end <= to).map(({ term }) => term)).size
}

// The start of the sentence that holds the window's first term if it is near, else of the word that the window cuts.
function cleanStart(text, { begin, term }) {
  const first = Math.max(0, begin - 60)
  const ends = [...text.slice(first, term).matchAll(/[.?!]\s+|[。？！；\n]/g)]
  if (ends.length) return first + ends.at(-1).index + ends.at(-1)[0].length
  const space = text.slice(first, begin).lastIndexOf(" ")
  return space >= 0 ? first + space + 1 : begin
}

function from(segments, start) {
  const rest = []
  let offset = 0
  for (const [text, kind] of segments) {
    if (offset + text.length > start) rest.push([text.slice(Math.max(0, start - offset)), kind])
    offset += text.length
  }
  return rest
}
