import type { AxiosInstance } from "axios";

import type { Client } from "./index.js";

/**
 * Has an axios instance send everything through the client; returns how to undo that.
 *
 * By axios's fetch adapter: `XMLHttpRequest` follows redirects with our headers on, to whomever, and no
 * interceptor can keep it from that.
 */
export function useClient(axios: AxiosInstance, client: Client): () => void {
  const id = axios.interceptors.request.use((config) => {
    config.adapter = "fetch";
    config.env = { ...config.env, fetch: client.fetch } as typeof config.env;
    return config;
  });
  return () => axios.interceptors.request.eject(id);
}
