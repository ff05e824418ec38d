import type { ErrorCode, FieldProblem } from "./api.js";

/** The service's codes, and the client's own: no answer, and an address that leads elsewhere. */
export type Code = ErrorCode | "unreachable" | "redirected" | "unknown";

/** Why something was refused, or did not come about; `message` is for people, `code` for programs. */
export class CountersignError extends Error {
  override name = "CountersignError";
  code!: Code;
  /** The HTTP status; none if there was no answer. */
  status?: number;
  /** With `session_ended`: why. */
  endReason?: string;
  /** With `validation_failed`: what is wrong where. */
  errors?: FieldProblem[];
  /** How many seconds to wait before it is tried again. */
  retryAfter?: number;
  /** By which the service's log knows the request. */
  requestId?: string;

  constructor({ detail, ...rest }: Partial<CountersignError> & { detail?: string }) {
    super(rest.message ?? detail ?? rest.code);
    Object.assign(this, rest, { code: rest.code ?? "unknown" });
  }

  /** Whether it says that nobody is signed in any more. */
  get isEnd() {
    return /^(refresh_|session_ended|user_inactive)/.test(this.code);
  }

  /** Whether the same may succeed in a while. */
  get isPassing() {
    return !this.status || this.status >= 500 || /^4(08|29)$/.test(`${this.status}`);
  }
}

/** What a refusal says, if it is in our form. */
export async function problemIn(response: Response): Promise<Partial<CountersignError> & { detail?: string }> {
  const { headers, status } = response;
  const { code, detail, errors, end_reason: endReason } = await response.json().catch(() => ({}));
  return {
    code,
    detail,
    errors,
    endReason,
    status,
    retryAfter: +headers.get("Retry-After")! || undefined,
    requestId: headers.get("X-Request-Id") ?? undefined,
  };
}
