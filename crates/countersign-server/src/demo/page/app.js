// A small app on Countersign: sign in, who am I, where am I signed in, sign out.
//
// `account.js` has the client, `explain.js` what only the demo shows. There is no framework here, so that
// nothing stands between you and the calls; in one, only the drawing differs.

import { account, settings } from "./account.js";
import { explain } from "./explain.js";
import { draw, find, lookAgain, say } from "./page.js";

// ---------------------------------------------------------------- who is signed in

// Told at once when somebody signs in or out, in this tab or another. `why` is there when it was not done
// here and on purpose: the session was ended from elsewhere, say.
account.onChange(show);

// After a reload nobody is known yet. `user()` finds out, by one refresh if there is a cookie for it.
// What is wrong then is that the service is away: nobody is signed out by that.
account.user().then(show, tellProblem);

function show(user, why) {
  if (user === undefined) return; // somebody else has signed in, and is being asked for
  const isSignedIn = user !== null;
  find("signed-out").hidden = isSignedIn;
  for (const id of ["signed-in", "chapters", "top-session"]) find(id).hidden = !isSignedIn;
  tell(why && reason(why));
  if (!isSignedIn) return;
  const name = user.first_name || user.username;
  find("greeting").textContent = `Hello, ${name}.`;
  find("top-name").textContent = user.username;
  find("avatar").textContent = name.slice(0, 1).toUpperCase();
  look();
}

function reason(why) {
  const words = {
    revoked_by_user: "You were signed out from another device.",
    revoked_by_admin: "You were signed out by whoever runs this service.",
    expired: "You were away for long: please sign in again.",
    password_changed: "Your password was changed: please sign in with the new one.",
    reuse_detected: "You were signed out, because somebody else may have held a copy of your sign-in.",
  };
  return words[why.endReason] ?? why.message;
}

// ---------------------------------------------------------------- signing in and out

find("username").defaultValue = settings.username ?? "";
find("password").defaultValue = settings.password ?? "";
find("known-password").hidden = !settings.password;
find("known-password-text").textContent = settings.password ?? "";

find("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = find("sign-in-problem");
  problem.hidden = true;
  try {
    await account.login(Object.fromEntries(new FormData(event.target)));
    event.target.reset(); // a password has no business in the page any more
    find("main").focus();
    scrollTo(0, 0);
  } catch (error) {
    // `message` is for people. A program looks at `error.code`: invalid_credentials, throttled, …
    problem.textContent = error.message;
    problem.hidden = false;
  }
});

for (const button of document.querySelectorAll("[data-sign-out]")) {
  button.addEventListener("click", async () => {
    try {
      await account.logout(button.dataset.signOut); // "local", "others" or "global"
      if (button.dataset.signOut === "others") say("Signed out on all other devices.");
      await look();
    } catch (error) {
      tellProblem(error); // nobody was signed out
    }
  });
}

// ---------------------------------------------------------------- the sessions

async function look() {
  if (!account.known()) return;
  try {
    // `call` is for the service's own routes. For your API it is `account.fetch(address)`, which is `fetch`
    // and adds the token and, where something is changed, the CSRF token.
    const { sessions } = await account.call("GET", "/sessions");
    draw(find("sessions"), sessions.map(sessionRow));
    tellPassed();
  } catch (error) {
    tellProblem(error);
  }
}

function sessionRow({ id, current, created_at, last_seen_at, ip, user_agent }) {
  const facts = `signed in ${clock(created_at)}, last seen ${clock(last_seen_at)}, from ${ip}`;
  const end = async () => {
    await account.call("DELETE", `/sessions/${id}`).catch(tellProblem);
    say("That session has ended.");
    await look();
  };
  return ["li", {},
    ["strong", {}, nameOf(id, user_agent)],
    ["span", { class: "facts" }, facts],
    current
      ? ["span", { class: "here" }, "this browser"]
      : ["button", { type: "button", class: "button quiet small", onclick: end, "aria-label": `End ${nameOf(id, user_agent)}` }, "End"],
  ];
}

const clock = (time) => new Date(time).toLocaleTimeString();

function nameOf(id, userAgent) {
  if (extra.isSecondDevice(id)) return "A second device";
  const browser = /Firefox|Edg|OPR|Chrome|Safari/.exec(userAgent)?.[0] ?? "A program";
  const system = /Android|iPhone|iPad|Windows|Mac|Linux/.exec(userAgent)?.[0];
  const known = { Edg: "Edge", OPR: "Opera" }[browser] ?? browser;
  return system ? `${known} on ${system}` : known;
}

// ---------------------------------------------------------------- what went wrong

function tell(words) {
  find("notice").textContent = words ?? "";
  find("notice").hidden = !words;
}

let isTroubled = false;

function tellProblem(error) {
  if (error.isEnd) return; // onChange has told that
  isTroubled = true;
  tell(error.code === "unreachable" ? `The service at ${settings.api} does not answer. You are still signed in, and this goes on when it does.` : error.message);
}

function tellPassed() {
  if (isTroubled) tell();
  isTroubled = false;
}

const extra = explain({ account, settings, look, tellProblem });

// What is shown grows old: other tabs and devices come and go. Each look needs a token, so this is also what
// has the client refresh in time.
lookAgain(5_000, look);
