//! What handlers take from requests: bodies, credentials, the CSRF token. Bounded before any work.

use std::sync::Arc;

use axum::RequestExt as _;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use countersign_core::audit::Caller;
use countersign_core::auth::CurrentUser;
use countersign_core::error::AuthError;
use countersign_core::password::Password;
use countersign_core::user::Email;
use countersign_core::validation::{FieldError, ValidationError};
use countersign_token::json;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use serde_json::{Map, Value};

use crate::body::MAX_BODY_BYTES;
use crate::error::ApiError;
use crate::settings::HttpSettings;
use crate::state::AppState;

const X_CSRFTOKEN: HeaderName = HeaderName::from_static("x-csrftoken");

/// The fields of a request's body, by name; whatever form they came in.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a JSON body.
    ///
    /// # Errors
    /// [`ApiError`] for another media type, a body that is too large or too slow, malformed JSON, a
    /// repeated member, or anything but an object.
    pub(crate) async fn from_json(request: Request) -> Result<Self, ApiError> {
        match media_type(request.headers())? {
            MediaType::Json => Self::parse_json(&read_body(request).await?),
            _ => Err(ApiError::UnsupportedMediaType(
                "Send the body as application/json.",
            )),
        }
    }

    /// Reads a JSON body, or none: some clients name a type even where they send nothing.
    ///
    /// # Errors
    /// As [`Fields::from_json`].
    pub(crate) async fn from_optional_json(request: Request) -> Result<Self, ApiError> {
        if request.body().is_end_stream() || request.body().size_hint().exact() == Some(0) {
            return Ok(Self::default());
        }
        Self::from_json(request).await
    }

    /// Reads a JSON body or one of the two that HTML forms send.
    ///
    /// # Errors
    /// As [`Fields::from_json`], also for repeated fields.
    pub(crate) async fn from_json_or_form(request: Request) -> Result<Self, ApiError> {
        let media_type = media_type(request.headers())?;
        let body = read_body(request).await?;
        match media_type {
            MediaType::Json => Self::parse_json(&body),
            MediaType::Form => Self::parse_form(&body),
            MediaType::Multipart { boundary } => Self::parse_multipart(body, boundary).await,
        }
    }

    fn parse_json(body: &[u8]) -> Result<Self, ApiError> {
        let value =
            json::value_from_slice(body).map_err(|error| ApiError::malformed(error.to_string()))?;
        match value {
            Value::Object(values) => Ok(Self {
                values,
                errors: Vec::new(),
            }),
            _ => Err(ApiError::malformed("Send a JSON object, in braces.")),
        }
    }

    fn parse_form(body: &[u8]) -> Result<Self, ApiError> {
        // The parser replaces what is not UTF-8, and one password would then equal another.
        percent_encoding::percent_decode(body)
            .decode_utf8()
            .map_err(|_| not_utf8())?;
        Self::collect(form_urlencoded::parse(body).into_owned())
    }

    async fn parse_multipart(body: Bytes, boundary: String) -> Result<Self, ApiError> {
        let malformed =
            |_: multer::Error| ApiError::malformed("The body is not valid multipart/form-data.");
        let stream = futures_util::stream::once(async { Ok::<_, std::io::Error>(body) });
        let mut parts = multer::Multipart::new(stream, boundary);
        let mut pairs = Vec::new();
        while let Some(part) = parts.next_field().await.map_err(malformed)? {
            let name = part.name().map(str::to_owned);
            let name =
                name.ok_or_else(|| ApiError::malformed("A part of the body has no name."))?;
            if part.file_name().is_some() {
                return Err(ApiError::malformed("Send fields, not files."));
            }
            let value = part.bytes().await.map_err(malformed)?;
            let value = String::from_utf8(value.into()).map_err(|_| not_utf8())?;
            pairs.push((name, value));
        }
        Self::collect(pairs)
    }

    fn collect(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let mut values = Map::new();
        for (name, value) in pairs {
            if values.insert(name, Value::String(value)).is_some() {
                return Err(ApiError::malformed("A field is given twice."));
            }
        }
        Ok(Self {
            values,
            errors: Vec::new(),
        })
    }

    /// A text that must be there; `None` and an error noted if it is not.
    pub(crate) fn text(&mut self, field: &'static str) -> Option<String> {
        if matches!(self.values.get(field), None | Some(Value::Null)) {
            self.refuse(field, "required", "This field is required.");
            return None;
        }
        self.optional_text(field)
    }

    /// A text, or nothing; `null` is nothing.
    pub(crate) fn optional_text(&mut self, field: &'static str) -> Option<String> {
        match self.values.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.refuse(field, "wrong_type", "Send a text.");
                None
            }
        }
    }

    /// A truth value, or nothing. Forms have only texts: theirs are `true`, `on`, `1` and their
    /// opposites.
    pub(crate) fn optional_flag(&mut self, field: &'static str) -> Option<bool> {
        match self.values.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(Value::String(text)) if matches!(&*text, "true" | "on" | "1") => Some(true),
            Some(Value::String(text)) if matches!(&*text, "false" | "off" | "0" | "") => {
                Some(false)
            }
            Some(_) => {
                self.refuse(field, "wrong_type", "Send true or false.");
                None
            }
        }
    }

    /// A password that must be there.
    pub(crate) fn password(&mut self, field: &'static str) -> Option<Password> {
        let text = self.text(field)?;
        self.checked(Password::new(text).map_err(|refusal| refusal.about(field)))
    }

    /// A new e-mail address that must be there.
    pub(crate) fn email(&mut self, field: &'static str) -> Option<Email> {
        self.address(field, Email::parse)
    }

    /// An e-mail address that somebody may have, which must be there.
    pub(crate) fn known_email(&mut self, field: &'static str) -> Option<Email> {
        self.address(field, Email::parse_known)
    }

    fn address(
        &mut self,
        field: &'static str,
        parse: fn(&str) -> Result<Email, ValidationError>,
    ) -> Option<Email> {
        let text = self.text(field)?;
        let email = self.checked(parse(&text).map_err(|refusal| refusal.about(field)))?;
        if email.as_str().is_empty() {
            self.refuse(field, "required", "Enter an e-mail address.");
            return None;
        }
        Some(email)
    }

    /// Notes what is wrong with a field.
    pub(crate) fn refuse(&mut self, field: &'static str, code: &'static str, detail: &'static str) {
        self.errors.push(FieldError::new(field, code, detail));
    }

    /// What a check of a field gave, or `None` and the error noted.
    pub(crate) fn checked<T>(&mut self, outcome: Result<T, ValidationError>) -> Option<T> {
        outcome.map_err(|error| self.errors.extend(error.0)).ok()
    }

    /// Ends the reading: what was read, if nothing was wrong with any field.
    ///
    /// # Errors
    /// All the fields' errors at once.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, ValidationError> {
        match read {
            Some(read) if self.errors.is_empty() => Ok(read),
            _ => Err(ValidationError(self.errors)),
        }
    }
}

fn not_utf8() -> ApiError {
    ApiError::malformed("Send the body in UTF-8.")
}

enum MediaType {
    Json,
    Form,
    Multipart { boundary: String },
}

/// The body's media type, parsed as one (RFC 9110, section 8.3): no substring of anything.
fn media_type(headers: &HeaderMap) -> Result<MediaType, ApiError> {
    let refuse = |detail| Err(ApiError::UnsupportedMediaType(detail));
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return refuse("Send the body without compression.");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let text = types
        .next()
        .map(HeaderValue::to_str)
        .and_then(Result::ok)
        .unwrap_or_default();
    if types.next().is_some() {
        return refuse("Send one Content-Type.");
    }
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_utf8 = || {
        let parameters = parameters.trim().to_ascii_lowercase();
        matches!(&*parameters, "" | "charset=utf-8" | "charset=\"utf-8\"")
    };
    match &*essence.trim().to_ascii_lowercase() {
        "application/json" if is_utf8() => Ok(MediaType::Json),
        "application/x-www-form-urlencoded" if is_utf8() => Ok(MediaType::Form),
        "multipart/form-data" => match multer::parse_boundary(text) {
            Ok(boundary) => Ok(MediaType::Multipart { boundary }),
            Err(_) => refuse("multipart/form-data needs a boundary."),
        },
        _ => refuse("Send the body as application/json in UTF-8."),
    }
}

/// The body, which [`body::receive`](crate::body::receive) has put into memory.
async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES)
        .await
        .map_err(|_| ApiError::PayloadTooLarge)
}

/// The access token of the one `Authorization` header; `None` if there is no such header.
///
/// # Errors
/// [`ApiError::Malformed`] for two headers, or for one that is no scheme and token.
pub(crate) fn bearer<'h>(
    settings: &HttpSettings,
    headers: &'h HeaderMap,
) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::malformed("Send one Authorization header."));
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| ApiError::malformed("Send Authorization: Bearer, a space and the token."))?;
    let accepted = settings
        .header_schemes
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme));
    // Another scheme's credentials are none of ours.
    Ok(accepted.then(|| token.trim_matches(' ')))
}

/// The CSRF token that a request shows; two of them show none.
pub(crate) fn csrf_shown(headers: &HeaderMap) -> Option<&str> {
    let mut shown = headers.get_all(X_CSRFTOKEN).iter();
    let first = shown.next()?.to_str().ok()?;
    shown.next().is_none().then_some(first)
}

/// The user that a request speaks for, proven: the access token, and on unsafe methods the CSRF
/// token of the same session.
pub(crate) struct Authenticated(pub(crate) CurrentUser);

impl FromRequestParts<Arc<AppState>> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<AppState>,
    ) -> Result<Self, ApiError> {
        let settings = &state.settings;
        let token = bearer(settings, &parts.headers)?.ok_or(AuthError::CredentialsMissing)?;
        let nobody = Caller::default();
        let caller = parts.extensions.get::<Caller>().unwrap_or(&nobody);
        let authenticated = state.auth.authenticate(token, caller).await;
        let current =
            authenticated.map_err(|refusal| state.auth.count_refused(refusal, caller.address))?;
        let unsafe_method = !matches!(parts.method, Method::GET | Method::HEAD);
        if unsafe_method && settings.csrf_for_bearer {
            let shown = csrf_shown(&parts.headers);
            state.auth.check_csrf(current.session(), shown, caller)?;
        }
        Ok(Self(current))
    }
}

/// A user, proven, and the fields of the JSON body that came along; the proof comes first.
pub(crate) struct AuthenticatedFields(pub(crate) CurrentUser, pub(crate) Fields);

impl FromRequest<Arc<AppState>> for AuthenticatedFields {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &Arc<AppState>) -> Result<Self, ApiError> {
        let Authenticated(current) = request.extract_parts_with_state(state).await?;
        Ok(Self(current, Fields::from_json(request).await?))
    }
}
