// The pages that letters lead to: one form uses the link's token, the other asks for another letter.

const status = document.getElementById("status");
const use = document.getElementById("use");
const ask = document.getElementById("ask");

// The token is taken out of the address at once: it stays in no history, and goes to nobody but the service.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
history.replaceState(null, "", location.pathname);

function tell(text) {
  status.textContent = text;
  status.hidden = false;
  status.focus();
}

function showErrors(form, errors) {
  let first = null;
  for (const input of form.querySelectorAll("input")) {
    const place = document.getElementById(`${input.id}-error`);
    const texts = errors.filter((error) => error.field === input.name).map((error) => error.detail);
    place.textContent = texts.join(" ");
    place.hidden = texts.length === 0;
    input.toggleAttribute("aria-invalid", false);
    if (texts.length > 0) {
      input.setAttribute("aria-invalid", "true");
      first ??= input;
    }
  }
  first?.focus();
  return first !== null;
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { detail: "The service did not answer as expected. Try again later." };
  }
}

async function send(form) {
  const body = Object.fromEntries(new FormData(form));
  if (form === use) body.token = token;
  const response = await fetch(`../users/${form.dataset.route}`, {
    method: "POST",
    credentials: "omit",
    referrerPolicy: "no-referrer",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (response.ok) {
    form.hidden = true;
    form.reset();
    tell(form.dataset.done);
    return;
  }
  const problem = await problemOf(response);
  const chosen = document.getElementById("chosen");
  if (chosen && (problem.errors ?? []).some((error) => error.field === "password")) {
    chosen.disabled = false;
    chosen.hidden = false;
  }
  if (showErrors(form, problem.errors ?? [])) {
    status.hidden = true;
    return;
  }
  tell(problem.detail ?? "That did not work. Try again later.");
  if (problem.code === "mailed_token_invalid" || problem.code === "mailed_token_expired") {
    use.hidden = true;
    ask.hidden = false;
  }
}

for (const form of [use, ask]) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await send(form);
    } catch {
      tell("The service cannot be reached. Try again.");
    } finally {
      button.disabled = false;
    }
  });
}

if (token) {
  use.hidden = false;
  use.querySelector("input, button").focus();
} else {
  tell("This link is not whole. Open it from the letter once more, or have another sent.");
  ask.hidden = false;
}
