//! Visits a running service as a browser would: asks, and has the answers looked at.

use countersign::{CookieSettings, Origin};
use countersign_core::clock::{Clock, Randomness};
use serde_json::json;

use super::answer::Answer;
use super::client::{Client, NoAnswer, Question};
use super::finding::{Finding, Outcome};
use super::{api, cookies, cors, journey, passage, service};

/// A page that nobody lists: the name can belong to nobody (RFC 6761, 6.4).
const UNLISTED: &str = "https://unlisted.invalid";

/// What is to be looked at.
pub(crate) struct Visit<'a> {
    /// Where browsers find the service.
    pub(crate) service: Origin,
    /// A page that is to be listed.
    pub(crate) page: Option<Origin>,
    /// Further ones.
    pub(crate) other_pages: Vec<Origin>,
    /// Whether the first is on another site.
    pub(crate) is_crossing: bool,
    /// The settings in force, if they are known here.
    pub(crate) cookies: Option<CookieSettings>,
    pub(crate) issuer: Option<String>,
    pub(crate) client: Client,
    /// The same host in plain http, if that is another address.
    pub(crate) plain: Option<Client>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) randomness: &'a dyn Randomness,
}

/// An API of the page's that verifies the tokens.
pub(crate) struct ApiVisit {
    pub(crate) api: Origin,
    /// What is asked for there; it should want a token.
    pub(crate) path: String,
    pub(crate) page: Option<Origin>,
    pub(crate) client: Client,
}

/// Who signs in, for the whole journey. No `Debug`: it holds a password.
pub(crate) struct Traveller {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Visit<'_> {
    /// Looks at everything; with a traveller also at what only somebody who signs in gets to see.
    pub(crate) async fn run(&self, traveller: Option<&Traveller>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.service.is_https() {
            match self.client.certificate_end().await {
                Ok(end) => findings.push(service::certificate(self.clock.now(), end)),
                Err(failure) => return vec![self.gone(&failure)],
            }
        }
        let sent = self.clock.now();
        let first = match self
            .ask(self.as_the_page(Question::new("GET", "/users/csrf")))
            .await
        {
            Ok(first) => first,
            Err(failure) => return vec![self.gone(&failure)],
        };
        let came = self.clock.now();
        let way_in = passage::way_in(&self.service, &first);
        let is_in = way_in.remedy.is_none();
        findings.push(way_in);
        if !is_in {
            // Whoever else answers: nothing that it says is about the service.
            return findings;
        }
        let asked = async {
            self.look_at_answers(&first, &mut findings).await?;
            self.look_at_requests(&first, &mut findings).await?;
            let keys = self
                .look_at_service(&first, (sent, came), &mut findings)
                .await?;
            if let Some(traveller) = traveller {
                return self.travel(traveller, keys, &mut findings).await;
            }
            findings.push(Finding::skip(
                "journey.login",
                "whether X-CSRFToken arrives, only somebody who signs in gets to see: give --username",
            ));
            Ok(())
        };
        if let Err(failure) = asked.await {
            findings.push(self.gone(&failure));
        }
        findings
    }

    /// Who may read, and what cookies arrive.
    async fn look_at_answers(
        &self,
        first: &Answer,
        findings: &mut Vec<Finding>,
    ) -> Result<(), NoAnswer> {
        let unlisted: Origin = UNLISTED.parse().expect("this is an origin");
        let to_unlisted = self
            .ask(Question::new("GET", "/users/csrf").header("origin", UNLISTED))
            .await?;
        let to_nobody = self.ask(Question::new("GET", "/users/csrf")).await?;
        match &self.page {
            Some(page) => findings.extend(cors::for_listed(page, first)),
            None => findings.push(Finding::skip(
                "cors.listed_origin",
                "no page is named: give --page, or list one in cors.origins",
            )),
        }
        for page in &self.other_pages {
            let question = Question::new("GET", "/users/csrf").header("origin", page.as_str());
            findings.push(cors::allowed_origin(page, &self.ask(question).await?));
        }
        findings.push(cors::for_unlisted(&unlisted, &to_unlisted));
        findings.push(cors::vary(&[first, &to_unlisted, &to_nobody]));
        if let Some(page) = self.page.as_ref().filter(|_| cors::is_told(first)) {
            let wishes: [(&'static str, &'static str, &'static str, &[&str]); 3] = [
                (
                    "cors.preflight_login",
                    "POST",
                    "/users/login",
                    &["content-type"],
                ),
                (
                    "cors.preflight_refresh",
                    "POST",
                    "/users/refresh_token",
                    &["x-csrftoken"],
                ),
                (
                    "cors.preflight_user",
                    "PATCH",
                    "/users/user",
                    &["authorization", "content-type", "x-csrftoken"],
                ),
            ];
            for (check, method, path, headers) in wishes {
                let question = Question::new("OPTIONS", path)
                    .header("access-control-request-method", method)
                    .header("access-control-request-headers", headers.join(","));
                let answer = self.ask(self.as_the_page(question)).await?;
                findings.push(cors::preflight(page, check, (method, headers), &answer));
            }
        }
        // A sign-out of nobody takes both cookies away, with the attributes that they are set with.
        let cleared = self.ask(Question::new("POST", "/users/logout")).await?;
        findings.extend(cookies::both(&self.expected(), &cleared));
        Ok(())
    }

    /// What of a request arrives at the service.
    async fn look_at_requests(
        &self,
        first: &Answer,
        findings: &mut Vec<Finding>,
    ) -> Result<(), NoAnswer> {
        let expected = self.expected();
        let name = &expected.refresh_name;
        let strange = Question::new("POST", "/users/login").header("origin", UNLISTED);
        findings.push(passage::origin(
            &self.ask(strange.json(&self.nobody())).await?,
        ));
        if let Some(page) = self.page.as_ref().filter(|_| cors::is_told(first)) {
            let wrong = self.as_the_page(Question::new("POST", "/users/login"));
            findings.push(passage::wrong_login(
                page,
                &self.ask(wrong.json(&self.nobody())).await?,
            ));
        }
        let bearer = Question::new("GET", "/users/user")
            .header("authorization", "Bearer doctor.doctor.doctor");
        findings.push(passage::authorization(&self.ask(bearer).await?));
        // Without an Origin, as programs ask: whether the page is listed is not the question here.
        let refresh = || Question::new("POST", "/users/refresh_token");
        let one = refresh().header("cookie", format!("{name}=doctor"));
        findings.push(passage::cookie(&self.ask(one).await?));
        let two = refresh().header("cookie", format!("{name}=doctor; {name}=planted"));
        findings.push(passage::two_cookies(&self.ask(two).await?));
        if let Some(plain) = &self.plain {
            let answer = plain.ask(Question::new("GET", "/users/csrf")).await.ok();
            findings.push(passage::plain_http(&self.service, answer.as_ref()));
        }
        Ok(())
    }

    /// What the service says of itself. The keys, if they can be read.
    async fn look_at_service(
        &self,
        first: &Answer,
        (sent, came): (jiff::Timestamp, jiff::Timestamp),
        findings: &mut Vec<Finding>,
    ) -> Result<Option<countersign_token::JsonWebKeySet>, NoAnswer> {
        let metadata = self
            .ask(Question::new(
                "GET",
                "/.well-known/oauth-authorization-server",
            ))
            .await?;
        findings.push(service::metadata(
            &self.service,
            self.issuer.as_deref(),
            &metadata,
        ));
        let answer = self
            .ask(Question::new("GET", "/.well-known/jwks.json"))
            .await?;
        let (finding, keys) = service::keys(&answer);
        findings.push(finding);
        findings.push(service::clock(sent, came, first));
        findings.push(service::caches(first));
        findings.extend(service::hsts(&self.service, first));
        Ok(keys)
    }

    /// Signs in, refreshes and, whatever came of that, signs out again.
    async fn travel(
        &self,
        traveller: &Traveller,
        keys: Option<countersign_token::JsonWebKeySet>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), NoAnswer> {
        let expected = self.expected();
        let body = json!({ "username": traveller.username, "password": traveller.password, "remember": false });
        let question = self.as_the_page(Question::new("POST", "/users/login"));
        let signed_in = self.ask(question.json(&body)).await?;
        findings.push(journey::login(&signed_in));
        if signed_in.status != 200 {
            return Ok(());
        }
        let metadata = self
            .ask(Question::new(
                "GET",
                "/.well-known/oauth-authorization-server",
            ))
            .await;
        let issuer = metadata
            .ok()
            .and_then(|answer| Some(answer.json()?["issuer"].as_str()?.to_owned()));
        findings.push(journey::token(
            &signed_in,
            issuer.as_deref().unwrap_or_default(),
            keys.as_ref(),
        ));
        let body = signed_in.json().unwrap_or_default();
        let csrf = body["csrf_token"].as_str().unwrap_or_default().to_owned();
        let access = body["access_token"].as_str().unwrap_or_default().to_owned();
        let cookie = cookies::value(&signed_in, &expected.refresh_name).unwrap_or_default();
        let question = self
            .as_the_page(Question::new("POST", "/users/refresh_token"))
            .header("cookie", format!("{}={cookie}", expected.refresh_name))
            .header("x-csrftoken", &csrf);
        let refreshed = self.ask(question).await;
        if let Ok(answer) = &refreshed {
            findings.push(journey::refresh(answer));
        }
        let access = refreshed
            .as_ref()
            .ok()
            .and_then(|answer| Some(answer.json()?["access_token"].as_str()?.to_owned()))
            .unwrap_or(access);
        let question = self
            .as_the_page(Question::new("POST", "/users/logout"))
            .header("authorization", format!("Bearer {access}"))
            .header("x-csrftoken", &csrf);
        findings.push(journey::logout(&self.ask(question).await?));
        refreshed.map(drop)
    }

    fn expected(&self) -> cookies::Expected {
        cookies::Expected::new(
            self.service.is_https(),
            self.is_crossing,
            self.cookies.as_ref(),
        )
    }

    /// As the page would ask.
    fn as_the_page<'q>(&self, question: Question<'q>) -> Question<'q> {
        match &self.page {
            Some(page) => question.header("origin", page.as_str()),
            None => question,
        }
    }

    /// A sign-in that cannot succeed, with a name and a password that are nobody's.
    fn nobody(&self) -> serde_json::Value {
        let mut bytes = [0; 16];
        self.randomness.fill(&mut bytes);
        let word = countersign_token::base64url::encode(&bytes);
        json!({ "username": format!("doctor-{word}"), "password": word })
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        self.client.ask(question).await
    }

    fn gone(&self, failure: &NoAnswer) -> Finding {
        gone(
            "way.service",
            &self.service,
            "server.tls.cert, its chain and its names",
            failure,
        )
    }
}

impl ApiVisit {
    /// Asks as the client would, with a token that is none and without one. It changes nothing.
    pub(crate) async fn run(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Err(failure) = self.look(&mut findings).await {
            let certificate = "its certificate, the chain and the names";
            findings.push(gone("api.way", &self.api, certificate, &failure));
        }
        findings
    }

    async fn look(&self, findings: &mut Vec<Finding>) -> Result<(), NoAnswer> {
        let first = self.ask(self.as_the_page("GET")).await?;
        let way_in = api::way_in(&self.api, &self.path, &first);
        let is_elsewhere = way_in.outcome == Outcome::Fail;
        findings.push(way_in);
        if is_elsewhere {
            return Ok(());
        }
        match &self.page {
            None => findings.push(Finding::skip(
                "api.listed_origin",
                "no page is named: give --page, or list one in cors.origins",
            )),
            // Nothing is asked of its own origin.
            Some(page) if *page == self.api => {}
            Some(page) => self.look_across(page, &first, findings).await?,
        }
        findings.push(api::refusal(&self.path, &first));
        let bearer = "Bearer doctor.doctor.doctor";
        let with_token = self.as_the_page("GET").header("authorization", bearer);
        findings.push(api::bad_token(&first, &self.ask(with_token).await?));
        Ok(())
    }

    async fn look_across(
        &self,
        page: &Origin,
        first: &Answer,
        findings: &mut Vec<Finding>,
    ) -> Result<(), NoAnswer> {
        findings.extend(api::for_page(page, first));
        let unlisted: Origin = UNLISTED.parse().expect("this is an origin");
        let strange = Question::new("GET", &self.path).header("origin", UNLISTED);
        findings.push(api::for_unlisted(&unlisted, &self.ask(strange).await?));
        let wishes: [(&'static str, &'static str, &[&str]); 2] = [
            ("api.preflight_read", "GET", &["authorization"]),
            (
                "api.preflight_write",
                "POST",
                &["authorization", "content-type", "x-csrftoken"],
            ),
        ];
        for (check, method, headers) in wishes {
            let question = self
                .as_the_page("OPTIONS")
                .header("access-control-request-method", method)
                .header("access-control-request-headers", headers.join(","));
            let answer = self.ask(question).await?;
            findings.push(api::preflight(page, check, (method, headers), &answer));
        }
        Ok(())
    }

    fn as_the_page(&self, method: &'static str) -> Question<'_> {
        let question = Question::new(method, &self.path);
        match &self.page {
            Some(page) => question.header("origin", page.as_str()),
            None => question,
        }
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        self.client.ask(question).await
    }
}

fn gone(check: &'static str, origin: &Origin, certificate: &str, failure: &NoAnswer) -> Finding {
    let remedy = match failure {
        NoAnswer::Tls(_) => {
            format!("look at {certificate}; an authority of your own is named with --ca")
        }
        NoAnswer::Unreachable(_) | NoAnswer::TimedOut | NoAnswer::Broken(_) => {
            "look at the address, and at whether it runs and its port is open".to_owned()
        }
    };
    Finding::fail(check, format!("{origin}: {failure}"), remedy)
}
