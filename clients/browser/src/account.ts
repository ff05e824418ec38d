// What the service offers beside signing in and out, as functions: a page takes along what it uses.

import type { PasswordBody, SessionBody, SessionsAnswer, UserAnswer, UserChangeBody } from "./api.js";
import type { Client, User } from "./index.js";

/** The devices on which the user is signed in, the one used last first. */
export const sessions = async (client: Client): Promise<SessionBody[]> =>
  (await client.call<SessionsAnswer>("GET", "/sessions")).sessions;

/** Signs one of them out. If it is this one, so is the page. */
export async function endSession(client: Client, session: Pick<SessionBody, "id" | "current">): Promise<void> {
  await client.call("DELETE", `/sessions/${encodeURIComponent(session.id)}`);
  // Asking is how the page learns that it was its own.
  if (session.current) await client.user(true);
}

/** Changes the user's own names; everybody who listens is told. */
export async function updateUser(client: Client, change: UserChangeBody): Promise<User> {
  await client.call<UserAnswer>("PATCH", "/user", change);
  return (await client.user(true))!;
}

/** Changes the password; every other device is signed out. */
export const changePassword = (client: Client, passwords: PasswordBody): Promise<void> =>
  client.call("POST", "/password", passwords);
