// The one client of this app. Every other file that wants to know who is signed in, or calls an API, imports it.

import { createClient } from "./countersign.js";

/** Where the service is. In an app of your own this is a constant, or comes from your build. */
export const settings = await (await fetch("settings.json")).json();

// The client keeps the access token in memory, refreshes it before it expires (one tab for all), and shows
// it and the CSRF token to the service and nobody else. List your own API to have it shown there, too:
// createClient({ url: settings.api, apis: ["https://api.example.org"] }).
export const account = createClient({ url: settings.api });
