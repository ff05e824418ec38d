// An Express service for Countersign's users: `COUNTERSIGN_URL=https://… npm start`.

import express from "express";

import { requireUser, Verifier } from "./countersign.js";

const { env } = process;
const verifier = await Verifier.start(env.COUNTERSIGN_URL ?? "http://localhost:8000", {
  audience: env.COUNTERSIGN_AUDIENCE,
  feedToken: env.COUNTERSIGN_FEED_TOKEN,
  unreachableAfter: Number(env.COUNTERSIGN_UNREACHABLE_AFTER ?? 30),
  whenUnreachable: env.COUNTERSIGN_WHEN_UNREACHABLE === "keep_until_expiry" ? "keepUntilExpiry" : "refuse",
});

const app = express();
app.use(requireUser(verifier));

app.get("/me", (_, response) => {
  response.json({ id: response.locals.user.user_id });
});

app.post("/orders", (_, response) => {
  response.status(201).json({ ordered_by: response.locals.user.user_id });
});

const server = app.listen(Number(env.PORT ?? 3001), "127.0.0.1");

process.once("SIGTERM", () => {
  verifier.close();
  server.close();
  server.closeIdleConnections();
});
