import { useEffect, useState, useSyncExternalStore } from "react";

import type { Client, CountersignError, Known } from "./index.js";

/**
 * Who is signed in: `user` is `undefined` until that is known, and `null` if it is nobody. `error` says why it
 * cannot be found out; it is tried again when the device is back on the network.
 */
export function useUser(client: Client): { user: Known; error?: CountersignError } {
  const user = useSyncExternalStore(client.onChange, client.known, () => undefined);
  const [error, setError] = useState<CountersignError>();
  useEffect(() => {
    let isMounted = true;
    const ask = () => {
      client.user().then(
        () => isMounted && setError(undefined),
        (why) => isMounted && setError(why),
      );
    };
    ask();
    addEventListener("online", ask);
    return () => {
      isMounted = false;
      removeEventListener("online", ask);
    };
  }, [client]);
  return { user, error: user === undefined ? error : undefined };
}
