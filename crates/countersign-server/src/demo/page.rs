//! The single-page app, on an origin of its own.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::witness::Witness;
use super::{assets, host};

/// What the page is told.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Where it is itself.
    pub(crate) origin: String,
    pub(crate) port: u16,
    /// Where the service is.
    pub(crate) api: String,
    /// Whose pages forge requests.
    pub(crate) strangers: [String; 2],
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Page {
    /// The page's files, what they are told, and what `witness` has seen.
    pub(crate) fn router(self, witness: Witness) -> Router {
        let settings = self.settings();
        let page = Arc::new(self);
        assets::routes(&assets::PAGE)
            .route("/settings.json", get(async move || json_answer(&settings)))
            .route("/seen", get(async move || json_answer(&witness.told())))
            .layer(middleware::from_fn_with_state(page, around))
    }

    fn settings(&self) -> Value {
        json!({
            "api": self.api,
            "username": self.username,
            "password": self.password,
            "strangers": self.strangers,
        })
    }

    /// Scripts and styles of its own, the service to be asked, the stranger to be framed, nothing else.
    fn policy(&self) -> String {
        let api = &self.api;
        let strangers = self.strangers.join(" ");
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {api}; \
             img-src data:; frame-src {strangers}; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'"
        )
    }
}

pub(super) fn json_answer(value: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, value.to_string()).into_response()
}

/// The host is looked at before, and the headers that keep the page to itself are put on after.
async fn around(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let asked = host::of(&request).map(str::to_owned);
    match asked {
        Some(asked) if page.origin == format!("http://{asked}") => {
            let mut response = next.run(request).await;
            protect(&mut response, &page.policy());
            let no_referrer = HeaderValue::from_static("no-referrer");
            response
                .headers_mut()
                .insert(header::REFERRER_POLICY, no_referrer);
            response
        }
        // The service lists the one origin, and keeps cookies for the one host.
        Some(asked) if host::is_this_machine(&asked, page.port) => host::lead(&page.origin),
        _ => host::misdirected(),
    }
}

/// Headers that keep a page's answers from being framed, sniffed or embedded.
pub(super) fn protect(response: &mut Response, policy: &str) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        let value = HeaderValue::from_str(value).expect("a policy is made of origins and words");
        headers.insert(name, value);
    }
}
