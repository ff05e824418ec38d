// A hostile page: it tries what such pages try, and tells the demo how far it came.

const { api, page } = await (await fetch("settings.json")).json();

/** The CSRF token if this page can read one: cookies are kept by host, and a neighbour's port is the same host. */
const stolen = () => document.cookie.match(/(?:^|; )csrftoken=(\w+)/)?.[1];

// The query says which deed it is, for the demo to find again what the service made of it.
const address = (path, deed) => `${api}${path}?deed=${deed}`;

/** What a script gets to know of an answer. */
const outcome = (asking) => asking.then((answer) => `an answer, ${answer.status}`, () => "an error, and no answer");

/** Needs no permission to be sent: forms could always be sent anywhere. */
function form() {
  const form = document.getElementById("form");
  form.action = address("/users/logout", "form");
  const answered = new Promise((resolve) => document.querySelector("iframe").addEventListener("load", resolve, { once: true }));
  form.submit();
  return Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 3_000))]).then(() => "a frame that it cannot look into");
}

/** The same from script; the answer is not to be had, but the deed would be done. */
const blind = () => outcome(fetch(address("/users/refresh_token", "blind"), { method: "POST", mode: "no-cors", credentials: "include" }));

/** With a header of its own, for which the browser asks the service first. */
const token = () =>
  outcome(fetch(address("/users/refresh_token", "token"), {
    method: "POST",
    credentials: "include",
    headers: { "X-CSRFToken": stolen() ?? "a".repeat(32) },
  }));

const read = () => outcome(fetch(address("/users/csrf", "read"), { credentials: "include" }));

const button = document.getElementById("claim");
button.disabled = false;
button.addEventListener("click", async () => {
  const deeds = [];
  for (const [name, method, path, deed] of [
    ["form", "POST", "/users/logout", form],
    ["blind", "POST", "/users/refresh_token", blind],
    ["token", "POST", "/users/refresh_token", token],
    ["read", "GET", "/users/csrf", read],
  ]) {
    deeds.push({ name, method, path, got: await deed() });
  }
  // To the demo's page only.
  parent.postMessage({ deeds }, page);
});
