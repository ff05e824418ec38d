// Generated from the description of the API by `npm run types`; a test keeps it so.

/** The service's words for what went wrong. */
export type ErrorCode =
  | "malformed_request"
  | "validation_failed"
  | "mailed_token_invalid"
  | "mailed_token_expired"
  | "credentials_missing"
  | "invalid_credentials"
  | "token_malformed"
  | "token_invalid"
  | "token_expired"
  | "refresh_missing"
  | "refresh_invalid"
  | "refresh_expired"
  | "refresh_reused"
  | "session_ended"
  | "csrf_missing"
  | "csrf_invalid"
  | "origin_denied"
  | "https_required"
  | "user_inactive"
  | "registration_closed"
  | "not_found"
  | "method_not_allowed"
  | "request_timeout"
  | "username_taken"
  | "email_taken"
  | "payload_too_large"
  | "unsupported_media_type"
  | "misdirected_request"
  | "throttled"
  | "internal_error"
  | "overloaded"
  | "storage_unavailable";

/** Which sessions to end. */
export type LogoutScope = NonNullable<LogoutBody["scope"]>;

/** An address that a letter is to be sent to. */
export type AddressBody = {
  /** The e-mail address. */
  email: string;
};

/** The CSRF token. */
export type CsrfAnswer = {
  /** For `X-CSRFToken` on every unsafe request. */
  csrf_token: string;
};

/** The address that the user wants, and the password in force. */
export type EmailBody = {
  /** The password in force. */
  current_password: string;
  /** The address. */
  email: string;
};

/** One field and what is wrong with it. */
export type FieldProblem = {
  /** A stable word for programs. */
  code: string;
  /** A sentence for people. */
  detail: string;
  /** The field's name as it was sent. */
  field: string;
};

/** What a login answers, beside the two cookies. */
export type LoginAnswer = TokensBody & {
  /** Who signed in. */
  user: UserBody;
};

/** What a login sends. */
export type LoginBody = {
  /** The password, exactly as typed; at most 4,096 bytes. */
  password: string;
  /** Whether the cookies outlive the browser. Left out: they do. */
  remember?: boolean | null;
  /** The username, or an e-mail address that the user has proven. */
  username: string;
};

/** Which sessions to end. */
export type LogoutBody = {
  /**
   * `local`: this session. `others`: every other session of the user. `global`: every one. Left
   * out: `local`.
   */
  scope?: "local" | "others" | "global" | null;
};

/** What the service is, for clients that configure themselves (RFC 8414). */
export type Metadata = {
  /** The algorithms that access tokens are signed with: one, or two while one follows the other. */
  access_token_signing_alg_values_supported: Array<string>;
  /** The grant types it has: none of OAuth's. */
  grant_types_supported: Array<string>;
  /** The `iss` of its tokens. */
  issuer: string;
  /** Where its public keys are. */
  jwks_uri: string;
  /** The response types it has: none of OAuth's. */
  response_types_supported: Array<string>;
  /** Where the list of what has been revoked is. */
  revocations_uri: string;
  /** Where people read how to use it. */
  service_documentation: string;
};

/** The password in force and the one that takes its place. */
export type PasswordBody = {
  /** The password in force. */
  current_password: string;
  /** The new one: at least 8 characters, 15 for staff; at most 4,096 bytes. */
  new_password: string;
};

/** What is answered when the address must be proven first; the same, whoever has the address already. */
export type PendingAnswer = {
  /** Where the letter goes. */
  email: string;
  /** The name that is reserved meanwhile. */
  username: string;
  /** `mailed`: a letter is on its way, and the account is made when its link is followed. */
  verification: string;
};

/** The body of every refusal and failure, `application/problem+json` (RFC 9457). */
export type Problem = {
  /** A stable word for programs. */
  code: string;
  /** A sentence for people. */
  detail: string;
  /** With `session_ended`: why the session ended. */
  end_reason?: string | null;
  /** With `validation_failed`: the fields and what is wrong with them. */
  errors?: Array<FieldProblem>;
  /** The HTTP status. */
  status: number;
  /** What happened, in a few words; the same for every occurrence of the code. */
  title: string;
  /** Where the code is explained. */
  type: string;
};

/** What a registration answers. */
export type RegisterAnswer = PendingAnswer | UserAnswer;

/** What somebody gives who makes an account. Whatever else is sent is ignored. */
export type RegisterBody = {
  /** The e-mail address. */
  email: string;
  /** The given name; at most 150 characters. */
  first_name?: string | null;
  /** The family name; at most 150 characters. */
  last_name?: string | null;
  /** The password: at least 8 characters, at most 4,096 bytes. */
  password: string;
  /** The name to sign in with: at most 150 letters, digits and `@ . + - _`. Left out: the address. */
  username?: string | null;
};

/** A mailed token, and the password that takes the place of the one in force. */
export type ResetBody = {
  /** The new password: at least 8 characters, 15 for staff; at most 4,096 bytes. */
  new_password: string;
  /** The token from the link, behind `#token=`. */
  token: string;
};

/** One login on one device, as its user sees it. */
export type SessionBody = {
  /** When the user signed in, RFC 3339. */
  created_at: string;
  /** Whether it is the session that asks. */
  current: boolean;
  /** The session's name; not a secret. */
  id: string;
  /** Where the sign-in came from, if that is known. */
  ip?: string | null;
  /** When the session was last refreshed, RFC 3339. */
  last_seen_at: string;
  /** What the browser called itself at sign-in, if anything. */
  user_agent?: string | null;
};

/** The answer that holds sessions. */
export type SessionsAnswer = {
  /** The sessions, the one used last first. */
  sessions: Array<SessionBody>;
};

/** A mailed token. */
export type TokenBody = {
  /** The password that was chosen at the registration, if the token is of one. */
  password?: string | null;
  /** The token from the link, behind `#token=`. */
  token: string;
};

/** An access token and what goes with it. */
export type TokensBody = {
  /** The signed JWT for `Authorization: Bearer`. Keep it in memory. */
  access_token: string;
  /** For `X-CSRFToken` on every unsafe request. */
  csrf_token: string;
  /** How many seconds the access token lives, from now on. */
  expires_in: number;
  /** Always `Bearer`. */
  token_type: string;
};

/** The answer that holds a user. */
export type UserAnswer = {
  /** The user. */
  user: UserBody;
};

/** A user, as clients see one. */
export type UserBody = {
  /** When the user was made, RFC 3339. */
  date_joined: string;
  /** The e-mail address; may be empty. */
  email: string;
  /** Whether the user has proven to read what is mailed there. */
  email_verified: boolean;
  /** The given name; may be empty. */
  first_name: string;
  /** The number; never given to a second user. */
  id: number;
  /** Whether the user may sign in. */
  is_active: boolean;
  /** Whether the user may enter the admin site. */
  is_staff: boolean;
  /** The last sign-in, RFC 3339. */
  last_login?: string | null;
  /** The family name; may be empty. */
  last_name: string;
  /** The name to sign in with. */
  username: string;
};

/** What a user may change of themselves. What is left out stays. */
export type UserChangeBody = {
  /** The given name; at most 150 characters. */
  first_name?: string | null;
  /** The family name; at most 150 characters. */
  last_name?: string | null;
};
