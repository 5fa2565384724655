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
    else fragment.append(element(kind === "term" ? "mark" : "code", kind, text))
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
  text.tabIndex = -1
  text.segments = passage.body
  if (passage.title.length) {
    const title = element("h3", "title")
    title.dir = "auto"
    title.append(drawn(passage.title))
    made.append(head, title, text)
  } else made.append(head, text)
  for (const suggestion of passage.suggested ?? []) made.append(element("p", "suggested", suggestion))
  return made
}

function positivePanel(passage, index, count, score) {
  const head = element("div", "head")
  head.append(element("h2", "", count > 1 ? `Positive ${index + 1} of ${count}` : "Positive"))
  if (count === 1 && score != null) head.append(cosineBar(score, score))
  return panel("positive", passage, head)
}

function negativePanel(negative, index, dropped) {
  const head = element("div", "head")
  const button = element("button", "drop")
  button.type = "button"
  button.dataset.negative = index
  button.setAttribute("aria-pressed", dropped)
  const label = dropped ? "Dropped" : "Drop"
  button.append(index < 9 ? keyed(String(index + 1), label) : label) // there are nine digits
  // What people labelled has no rank, and no score before it is mined too.
  const rank = negative.rank === null ? "" : `rank ${negative.rank}`
  button.setAttribute("aria-label", [`Drop negative ${index + 1}`, rank || negative.origin].join(", "))
  head.append(button, element("span", "made", [rank, negative.origin].filter(Boolean).join(" · ")))
  if (negative.score !== null && negative.positive_score !== null) {
    head.append(cosineBar(negative.score, negative.positive_score))
  }
  const drawnPanel = panel("negative", negative, head)
  const line = foundLine(negative)
  if (line.hasChildNodes()) head.after(line)
  drawnPanel.classList.toggle("dropped", dropped)
  return drawnPanel
}

// Why it is flagged, then by which miners it was found and what was given up for it. Cards of the history of a browser
// that was open before there were flags have neither.
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
