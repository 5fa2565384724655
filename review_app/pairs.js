// Pairs of samples: what differs side by side, what both have once. Decides nothing.
function pairPanel(name, heading, segments) {
  const made = element("div", "panel")
  const text = element("p", "text")
  text.dir = "auto"
  text.append(drawn(segments))
  if (!segments.length) text.append(element("span", "nothing", "nothing"))
  made.append(element("h2", "", heading ? `${name} · ${heading}` : name), text)
  return made
}

function pairArticle(pair, headings) {
  const made = element("article", "pair")
  if (pair.from) made.append(element("p", "from", pair.from))
  for (const part of pair.parts) {
    if (part.both) {
      const panel = pairPanel(part.name, "the same in both", part.both)
      panel.classList.add("both")
      made.append(panel)
    } else made.append(...part.sides.map((segments, place) => pairPanel(part.name, headings[place], segments)))
  }
  return made
}

export default function mount({ parentElement, data }) {
  parentElement.querySelector(".pairs").replaceChildren(...data.pairs.map((pair) => pairArticle(pair, data.headings)))
}
