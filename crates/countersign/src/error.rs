//! The one mapping from what went wrong to what clients are told: `application/problem+json`
//! (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use countersign_core::error::{AuthError, StoreError};
use countersign_core::session::EndReason;
use countersign_core::validation::{FieldError, ValidationError};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// How long a client waits before it tries again what the store could not do.
const STORAGE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a request was refused or failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A use case refused.
    Auth(AuthError),
    /// The request could not be understood.
    Malformed(Cow<'static, str>),
    /// No token for the revocation feed, or a wrong one, where one is needed.
    FeedTokenMissing,
    /// No refresh cookie where one is needed.
    RefreshMissing,
    /// A browser asks on behalf of a page that is neither ours nor listed.
    OriginDenied,
    /// The request came over plain http to a service that is reached by https.
    HttpsRequired,
    /// The request is for a host that is not ours.
    MisdirectedRequest,
    /// No such path.
    NotFound,
    /// No such method on this path.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is larger than [`MAX_BODY_BYTES`](crate::body::MAX_BODY_BYTES).
    PayloadTooLarge,
    /// The body is of a type or an encoding that the route does not read.
    UnsupportedMediaType(&'static str),
    /// There is no memory for its body: those of others take all that they may.
    TooManyBodies,
    /// The request took too long to answer.
    TookTooLong,
    /// A bug of ours.
    Internal,
}

impl ApiError {
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(detail.into())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Auth(AuthError::Store(error))
    }
}

impl From<ValidationError> for ApiError {
    fn from(error: ValidationError) -> Self {
        Self::Auth(AuthError::Validation(error))
    }
}

/// One line of the reference of error codes: code, status, title, and what a client does.
macro_rules! error_codes {
    ($($name:ident $code:literal $status:ident $title:literal $remedy:literal;)*) => {
        /// A stable word for programs, with all that goes with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode { $(#[doc = $title] $name),* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// What happened, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What a client does about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

error_codes! {
    MalformedRequest "malformed_request" BAD_REQUEST "The request could not be understood"
        "Stop: repair the request; sending it again will not help.";
    ValidationFailed "validation_failed" BAD_REQUEST "Some fields cannot be accepted"
        "Show `errors` beside their fields and let the person correct them.";
    MailedTokenInvalid "mailed_token_invalid" BAD_REQUEST "The link is not valid any more"
        "Let the person ask for another letter: the link has been used, or the account was changed since.";
    MailedTokenExpired "mailed_token_expired" BAD_REQUEST "The link has expired"
        "Let the person ask for another letter.";
    CredentialsMissing "credentials_missing" UNAUTHORIZED "An access token is needed"
        "Send `Authorization: Bearer` with the access token; without one, refresh or sign in. For the revocation feed: with its own token.";
    InvalidCredentials "invalid_credentials" UNAUTHORIZED "The credentials are wrong"
        "Let the person try again; `detail` says what was wrong.";
    TokenMalformed "token_malformed" UNAUTHORIZED "The access token is not a token"
        "Stop: what was sent is no access token; look at how the client stores it.";
    TokenInvalid "token_invalid" UNAUTHORIZED "The access token is not valid here"
        "Refresh once; if that fails, sign in again.";
    TokenExpired "token_expired" UNAUTHORIZED "The access token has expired"
        "Refresh, then repeat the request.";
    RefreshMissing "refresh_missing" UNAUTHORIZED "There is no refresh token"
        "Sign in. Browsers: send the request with credentials.";
    RefreshInvalid "refresh_invalid" UNAUTHORIZED "The refresh token is not valid"
        "Sign in again.";
    RefreshExpired "refresh_expired" UNAUTHORIZED "The refresh token has expired"
        "Sign in again.";
    RefreshReused "refresh_reused" UNAUTHORIZED "The refresh token had been used before"
        "Sign in again, and tell the person: someone else may have held a copy, so the session was ended.";
    SessionEnded "session_ended" UNAUTHORIZED "The session has ended"
        "Sign in again; `end_reason` says why it ended.";
    CsrfMissing "csrf_missing" FORBIDDEN "The CSRF token is missing"
        "Send the last `csrf_token` in `X-CSRFToken`; after a reload ask `GET /users/csrf` for it.";
    CsrfInvalid "csrf_invalid" FORBIDDEN "The CSRF token is not the one of this session"
        "Ask `GET /users/csrf` for the token of this session, then repeat the request once.";
    OriginDenied "origin_denied" FORBIDDEN "This page may not call the service"
        "Stop: the page's origin is not in `cors.origins`; its operator can add it.";
    HttpsRequired "https_required" FORBIDDEN "The service is reached by https only"
        "Stop: use the https address. Behind a proxy: it must be trusted and send `X-Forwarded-Proto`.";
    UserInactive "user_inactive" FORBIDDEN "The account is switched off"
        "Stop: tell the person to ask whoever runs the site.";
    RegistrationClosed "registration_closed" FORBIDDEN "Nobody makes an account for themselves here"
        "Stop: show no registration form; whoever runs the site makes the accounts.";
    NotFound "not_found" NOT_FOUND "There is nothing here"
        "Stop: look at the address.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This address does not take this method"
        "Stop: `Allow` lists the methods it takes.";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request did not arrive in time"
        "Retry on a better connection.";
    UsernameTaken "username_taken" CONFLICT "The username belongs to someone else"
        "Let the person choose another.";
    EmailTaken "email_taken" CONFLICT "Someone else has proven this e-mail address"
        "Let the person use another address, or sign in to the account that has it.";
    PayloadTooLarge "payload_too_large" PAYLOAD_TOO_LARGE "The request is too large"
        "Stop: no request here needs more than 64 KiB.";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body is of a type that is not read here"
        "Stop: send `Content-Type: application/json`, not compressed.";
    MisdirectedRequest "misdirected_request" MISDIRECTED_REQUEST "The request is for another host"
        "Stop: use the service's public URL.";
    Throttled "throttled" TOO_MANY_REQUESTS "That was tried too often"
        "Wait `Retry-After` seconds, then try again; trying sooner is refused and does not make it longer.";
    InternalError "internal_error" INTERNAL_SERVER_ERROR "Something went wrong on our side"
        "Retry once; if it stays, give the operator the `X-Request-Id` of the answer.";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much is going on"
        "Retry after `Retry-After` seconds.";
    StorageUnavailable "storage_unavailable" SERVICE_UNAVAILABLE "The storage does not answer"
        "Retry after `Retry-After` seconds; nobody has been signed out.";
}

/// The reference of error codes, as a table in Markdown.
pub(crate) fn error_reference() -> String {
    let rows = ErrorCode::ALL.iter().map(|code| {
        let status = code.status().as_u16();
        format!(
            "| {status} | `{}` | {}. {} |\n",
            code.as_str(),
            code.title(),
            code.remedy()
        )
    });
    let head = "| status | code | what it means, and what a client does |\n|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// The reference of end reasons, as a table in Markdown.
pub(crate) fn end_reason_reference() -> String {
    let rows = EndReason::ALL.iter().map(|reason| {
        format!(
            "| `{reason}` | {} | {} |\n",
            reason.meaning(),
            reason.remedy()
        )
    });
    let head = "| `end_reason` | when | what a client does |\n|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// The body of every refusal and failure, `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[schema(example = "/docs#error-token_expired")]
    pub r#type: String,
    /// What happened, in a few words; the same for every occurrence of the code.
    #[schema(example = "The access token has expired")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 401)]
    pub status: u16,
    /// A sentence for people.
    #[schema(example = "The access token has expired. Refresh it.")]
    pub detail: Cow<'static, str>,
    /// A stable word for programs.
    #[schema(example = "token_expired")]
    pub code: &'static str,
    /// With `session_ended`: why the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "logout")]
    pub end_reason: Option<&'static str>,
    /// With `validation_failed`: the fields and what is wrong with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// One field and what is wrong with it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field's name as it was sent.
    #[schema(example = "first_name")]
    pub field: &'static str,
    /// A stable word for programs.
    #[schema(example = "too_long")]
    pub code: &'static str,
    /// A sentence for people.
    #[schema(example = "Use at most 150 characters.")]
    pub detail: Cow<'static, str>,
}

impl From<&FieldError> for FieldProblem {
    fn from(error: &FieldError) -> Self {
        Self {
            field: error.field,
            code: error.code,
            detail: error.detail.clone(),
        }
    }
}

/// An answer, before it has a response's form.
struct Answer {
    code: ErrorCode,
    detail: Cow<'static, str>,
    end_reason: Option<EndReason>,
    errors: Vec<FieldProblem>,
    retry_after: Option<Duration>,
}

impl Answer {
    fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            end_reason: None,
            errors: Vec::new(),
            retry_after: None,
        }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }
}

/// The one match.
fn answer(error: &ApiError) -> Answer {
    use ErrorCode as Code;
    match error {
        ApiError::Malformed(detail) => Answer::new(Code::MalformedRequest, detail.clone()),
        ApiError::FeedTokenMissing => Answer::new(
            Code::CredentialsMissing,
            "The revocation feed is not for everybody here: show its token as Authorization: Bearer.",
        ),
        ApiError::RefreshMissing => Answer::new(
            Code::RefreshMissing,
            "You are not signed in. Sign in first.",
        ),
        ApiError::OriginDenied => Answer::new(
            Code::OriginDenied,
            "Requests from this page's origin are not accepted.",
        ),
        ApiError::HttpsRequired => Answer::new(
            Code::HttpsRequired,
            "Use https: this service does not answer over http.",
        ),
        ApiError::MisdirectedRequest => Answer::new(
            Code::MisdirectedRequest,
            "This service does not answer for that host.",
        ),
        ApiError::NotFound => Answer::new(Code::NotFound, "There is nothing at this address."),
        ApiError::MethodNotAllowed => Answer::new(
            Code::MethodNotAllowed,
            "This address does not take this method.",
        ),
        ApiError::RequestTimeout => {
            Answer::new(Code::RequestTimeout, "The request did not arrive in time.")
        }
        ApiError::PayloadTooLarge => Answer::new(Code::PayloadTooLarge, "Send at most 64 KiB."),
        ApiError::UnsupportedMediaType(detail) => Answer::new(Code::UnsupportedMediaType, *detail),
        ApiError::TooManyBodies | ApiError::TookTooLong => {
            Answer::new(Code::Overloaded, "The service is busy. Try again shortly.")
                .retry_after(STORAGE_RETRY_AFTER)
        }
        ApiError::Internal => Answer::new(
            Code::InternalError,
            "Something went wrong on our side. Nothing is known to have been changed.",
        ),
        ApiError::Auth(error) => auth_answer(error),
    }
}

fn auth_answer(error: &AuthError) -> Answer {
    use ErrorCode as Code;
    use countersign_token::VerifyError;
    match error {
        AuthError::Validation(invalid) => Answer {
            errors: invalid.0.iter().map(FieldProblem::from).collect(),
            ..Answer::new(Code::ValidationFailed, invalid.to_string())
        },
        AuthError::InvalidCredentials => {
            Answer::new(Code::InvalidCredentials, "Username or password is wrong.")
        }
        AuthError::WrongRegistrationPassword => Answer::new(
            Code::InvalidCredentials,
            "This is not the password that was chosen at the registration.",
        ),
        AuthError::WrongCurrentPassword => {
            Answer::new(Code::InvalidCredentials, "The current password is wrong.")
        }
        AuthError::CredentialsMissing => Answer::new(
            Code::CredentialsMissing,
            "Authentication credentials were not provided.",
        ),
        AuthError::UserInactive => Answer::new(Code::UserInactive, "This account is switched off."),
        AuthError::AccessToken(VerifyError::Malformed(_)) => {
            Answer::new(Code::TokenMalformed, "The access token is not a token.")
        }
        AuthError::AccessToken(VerifyError::Expired) => Answer::new(
            Code::TokenExpired,
            "The access token has expired. Refresh it.",
        ),
        AuthError::AccessToken(_) => {
            Answer::new(Code::TokenInvalid, "The access token is not valid here.")
        }
        AuthError::RefreshInvalid => Answer::new(
            Code::RefreshInvalid,
            "The refresh token is not valid. Sign in again.",
        ),
        AuthError::RefreshExpired => Answer::new(
            Code::RefreshExpired,
            "You have been away for long. Sign in again.",
        ),
        AuthError::RefreshReused => {
            Answer::new(Code::RefreshReused, EndReason::ReuseDetected.sentence())
        }
        AuthError::SessionEnded(reason) => Answer {
            end_reason: Some(*reason),
            ..Answer::new(Code::SessionEnded, reason.sentence())
        },
        AuthError::CsrfMissing => Answer::new(
            Code::CsrfMissing,
            "CSRF Failed: send the CSRF token in X-CSRFToken.",
        ),
        AuthError::CsrfInvalid => Answer::new(
            Code::CsrfInvalid,
            "CSRF Failed: the CSRF token is not of this session.",
        ),
        AuthError::EmailTaken => Answer::new(
            Code::EmailTaken,
            "Someone else has proven to have this e-mail address.",
        ),
        AuthError::RegistrationClosed => Answer::new(
            Code::RegistrationClosed,
            "Accounts are made by whoever runs this site.",
        ),
        AuthError::MailedTokenInvalid => Answer::new(
            Code::MailedTokenInvalid,
            "This link is not valid any more. Ask for another.",
        ),
        AuthError::MailedTokenExpired => Answer::new(
            Code::MailedTokenExpired,
            "This link has expired. Ask for another.",
        ),
        AuthError::UsernameTaken => Answer::new(
            Code::UsernameTaken,
            "Someone else has this username, or one that looks like it, or it waits to be confirmed: choose \
             another one, or ask for the letter again.",
        ),
        AuthError::NoSuchUser => Answer::new(Code::NotFound, "There is no such user."),
        AuthError::NoSuchSession => Answer::new(Code::NotFound, "You have no such session."),
        AuthError::NoSuchKey => Answer::new(Code::NotFound, "There is no such signing key."),
        AuthError::Throttled { retry_after } => Answer::new(
            Code::Throttled,
            "That was tried too often. Wait a while, then try again.",
        )
        .retry_after(*retry_after),
        AuthError::Overloaded { retry_after } => {
            Answer::new(Code::Overloaded, "The service is busy. Try again shortly.")
                .retry_after(*retry_after)
        }
        AuthError::Store(StoreError::Unavailable(_)) => Answer::new(
            Code::StorageUnavailable,
            "The storage does not answer. Try again shortly.",
        )
        .retry_after(STORAGE_RETRY_AFTER),
        AuthError::Store(StoreError::Corrupt(_)) => answer(&ApiError::Internal),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // A failure is logged once, here, where it is handled.
        match &self {
            Self::Auth(AuthError::Store(error)) => {
                tracing::error!(event = "storage_failed", cause = %error);
            }
            Self::TookTooLong => tracing::error!(event = "request_took_too_long"),
            _ => {}
        }
        let answer = answer(&self);
        let problem = Problem {
            r#type: format!("/docs#error-{}", answer.code.as_str()),
            title: answer.code.title(),
            status: answer.code.status().as_u16(),
            detail: answer.detail,
            code: answer.code.as_str(),
            end_reason: answer.end_reason.map(EndReason::code),
            errors: answer.errors,
        };
        let mut response = (answer.code.status(), Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(challenge) = challenge(answer.code) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(wait) = answer.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

/// Whoever comes after these has waited long enough.
fn whole_seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(begun).max(1)
}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What a 401 asks for, as in RFC 6750, section 3: no `error` where no token was shown.
fn challenge(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::TokenMalformed
        | ErrorCode::TokenInvalid
        | ErrorCode::TokenExpired
        | ErrorCode::SessionEnded => Some(r#"Bearer error="invalid_token""#),
        _ if code.status() == StatusCode::UNAUTHORIZED => Some("Bearer"),
        _ => None,
    }
}

pub(crate) async fn not_found() -> ApiError {
    ApiError::NotFound
}

pub(crate) async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_different_words() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        let all = words.len();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn every_code_says_what_a_client_does() {
        for code in ErrorCode::ALL {
            assert!(
                code.remedy().ends_with('.') && code.remedy().len() > 10,
                "{code:?}"
            );
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn the_reference_in_the_docs_is_this_list() {
        let reference = include_str!("../../../docs/api.md");
        let table = error_reference();
        assert!(
            reference.ends_with(&table),
            "docs/api.md should end with:\n{table}"
        );
    }

    #[test]
    fn every_end_reason_is_explained_in_the_docs() {
        let reference = include_str!("../../../docs/api.md");
        let table = end_reason_reference();
        assert!(
            reference.contains(&table),
            "docs/api.md should contain:\n{table}"
        );
    }
}
