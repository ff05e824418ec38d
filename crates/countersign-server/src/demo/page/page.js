// The few lines of drawing that this app needs.

export const find = (id) => document.getElementById(id);

/** Makes an element of `[name, attributes, ...children]`. Text is text: nothing is read as markup. */
export function make(what) {
  if (typeof what === "string") return what;
  const [name, attributes, ...children] = what;
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.map(make));
  return element;
}

/** Shows these and nothing else, unless that is what is there: the focus stays where it was. */
export function draw(place, whats) {
  const shape = JSON.stringify(whats);
  if (place.shape === shape) return;
  place.shape = shape;
  const focused = place.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  place.replaceChildren(...whats.map(make));
  if (focused) [...place.querySelectorAll("[aria-label]")].find((each) => each.getAttribute("aria-label") === focused)?.focus();
}

/** Tells those who listen to the page rather than see it. */
export function say(words) {
  find("announcer").textContent = words;
}

/** Calls `look` every so many milliseconds while the page is seen, and when it is seen again. */
export function lookAgain(milliseconds, look) {
  const lookIfSeen = () => document.hidden || look();
  document.addEventListener("visibilitychange", lookIfSeen);
  setInterval(lookIfSeen, milliseconds);
}
