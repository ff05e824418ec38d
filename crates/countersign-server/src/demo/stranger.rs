//! A hostile page, on two origins: another site than the page's (`127.0.0.1` against `localhost`), and a
//! neighbour on the same host, to whom the browser shows the cookies.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::{assets, host, page};

/// What the stranger is told.
#[derive(Debug, Clone)]
pub(crate) struct Stranger {
    pub(crate) port: u16,
    /// Whom it would like to deceive.
    pub(crate) api: String,
    /// Who frames it, and hears how far it came.
    pub(crate) page: String,
}

impl Stranger {
    /// Its origins: of another site, and of the page's.
    pub(crate) fn origins(&self) -> [String; 2] {
        ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{}", self.port))
    }

    pub(crate) fn router(self) -> Router {
        let settings = json!({ "api": self.api, "page": self.page });
        let stranger = Arc::new(self);
        assets::routes(&assets::STRANGER)
            .route(
                "/settings.json",
                get(async move || page::json_answer(&settings)),
            )
            .layer(middleware::from_fn_with_state(stranger, around))
    }

    /// It may do to the service what it likes; only the demo's page frames it.
    fn policy(&self) -> String {
        let Self { api, page, .. } = self;
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {api}; \
             img-src data:; frame-src {api}; form-action {api}; base-uri 'none'; \
             frame-ancestors {page}"
        )
    }
}

async fn around(State(stranger): State<Arc<Stranger>>, request: Request, next: Next) -> Response {
    let is_ours =
        host::of(&request).is_some_and(|asked| host::is_this_machine(asked, stranger.port));
    if !is_ours {
        return host::misdirected();
    }
    let mut response = next.run(request).await;
    page::protect(&mut response, &stranger.policy());
    response
}
