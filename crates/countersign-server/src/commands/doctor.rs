//! `doctor`: which settings fit, and what a browser sees of a running service.

use countersign::Origin;
use countersign_core::clock::{SystemClock, SystemRandomness};

use crate::cli::Doctor;
use crate::config::{Chosen, Settings};
use crate::doctor::advice::{self, Parties};
use crate::doctor::client::Client;
use crate::doctor::visit::{ApiVisit, Traveller, Visit};
use crate::doctor::{Finding, Outcome, Report, is_crossing};
use crate::failure::Failure;
use crate::output::{self, Safe};

use super::passwords;

/// Looks, tells what was found, and fails if anything has to be done.
pub(super) async fn run(chosen: &Chosen, options: Doctor) -> Result<(), Failure> {
    let mut report = Report::default();
    let settings = settings(chosen, &mut report);
    let service = service(&options, settings.as_ref())?;
    let traveller = options
        .username
        .as_deref()
        .map(|name| traveller(name, &options, &service))
        .transpose()?;
    let pages = pages(&options, settings.as_ref(), &service);
    advise(&options, settings.as_ref(), &service, &pages, &mut report);
    let visit = visit(&options, settings.as_ref(), service, &pages)?;
    report.findings.extend(visit.run(traveller.as_ref()).await);
    if let Some(api_visit) = api_visit(&options, &visit)? {
        report.findings.extend(api_visit.run().await);
    }
    tell(&report, &options, &visit.service);
    match report.count(Outcome::Fail) {
        0 => Ok(()),
        1 => Err(Failure::Failed("one check has failed".to_owned())),
        many => Err(Failure::Failed(format!("{many} checks have failed"))),
    }
}

fn traveller(username: &str, options: &Doctor, service: &Origin) -> Result<Traveller, Failure> {
    if !service.is_https() && !service.is_loopback() {
        return Err(Failure::WrongUse(format!(
            "{service} is plain http, and a password would be read on the way: give its https address, \
             or leave --username out"
        )));
    }
    let password = if options.password_stdin {
        passwords::text_from_standard_input()?
    } else if output::can_ask() {
        passwords::ask_once(&format!("Password of {}: ", Safe(username)))?
    } else {
        let message = "there is nobody to ask here: give the password on standard input with \
                       --password-stdin";
        return Err(Failure::WrongUse(message.to_owned()));
    };
    Ok(Traveller {
        username: username.to_owned(),
        password,
    })
}

/// The settings in force, if anybody has set anything here: this may be another machine than the service's.
fn settings(chosen: &Chosen, report: &mut Report) -> Option<Settings> {
    const CHECK: &str = "settings.readable";
    match chosen.load() {
        Ok(settings) if settings.report.is_any_set() => {
            report
                .findings
                .push(Finding::pass(CHECK, "the settings can be read"));
            Some(settings)
        }
        Ok(_) => {
            let seen = "there are no settings here: only the running service is looked at";
            report.findings.push(Finding::skip(CHECK, seen));
            None
        }
        Err(problems) => {
            let remedy = "`countersign config check` tells the same of the settings alone";
            report
                .findings
                .push(Finding::fail(CHECK, problems.to_string(), remedy));
            None
        }
    }
}

fn service(options: &Doctor, settings: Option<&Settings>) -> Result<Origin, Failure> {
    match (&options.url, settings) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(settings)) => Ok(settings.http.public_url.clone()),
        (None, None) => "http://127.0.0.1:8000"
            .parse()
            .map_err(|error| Failure::Failed(format!("no service is named: {error}"))),
    }
}

/// The page that was named, or those that are listed.
fn pages(options: &Doctor, settings: Option<&Settings>, service: &Origin) -> Vec<Origin> {
    match (&options.page, settings) {
        (Some(page), _) => vec![page.clone()],
        // In development several are listed in case; those that share the service's host can work.
        (None, Some(settings)) => {
            let listed = settings.http.allowed_origins.iter();
            let is_likely =
                |page: &&Origin| !settings.http.is_development() || page.host() == service.host();
            listed.filter(is_likely).cloned().collect()
        }
        (None, None) => Vec::new(),
    }
}

fn advise(
    options: &Doctor,
    settings: Option<&Settings>,
    service: &Origin,
    pages: &[Origin],
    report: &mut Report,
) {
    for page in pages {
        let parties = Parties {
            page: page.clone(),
            service: service.clone(),
            api: options.api.clone().filter(|api| api != service),
        };
        report.findings.extend(advice::on_distance(&parties));
        if let Some(settings) = settings {
            report
                .findings
                .extend(advice::on_settings(&parties, &settings.http));
        }
        if options.page.is_some() {
            report.lines = Some(advice::lines(&parties));
        }
    }
}

fn visit(
    options: &Doctor,
    settings: Option<&Settings>,
    service: Origin,
    pages: &[Origin],
) -> Result<Visit<'static>, Failure> {
    let client = Client::new(&service, options.ca.as_deref()).map_err(Failure::Failed)?;
    // A host on a port of its own has no plain http beside it.
    let plain = if service.is_https() && service.host() == service.authority() {
        let plain = format!("http://{}", service.host())
            .parse()
            .map_err(|error| Failure::Failed(format!("{service} has no plain form: {error}")))?;
        Some(Client::new(&plain, None).map_err(Failure::Failed)?)
    } else {
        None
    };
    let page = pages.first();
    Ok(Visit {
        is_crossing: page.is_some_and(|page| is_crossing(page, &service)),
        page: page.cloned(),
        other_pages: pages.iter().skip(1).cloned().collect(),
        cookies: settings.map(|settings| settings.http.cookies.clone()),
        issuer: settings.map(|settings| settings.auth.tokens.issuer.clone()),
        service,
        client,
        plain,
        clock: &SystemClock,
        randomness: &SystemRandomness,
    })
}

/// To the API, if it is not at the service's own origin.
fn api_visit(options: &Doctor, visit: &Visit<'_>) -> Result<Option<ApiVisit>, Failure> {
    let Some(api) = options.api.as_ref().filter(|api| **api != visit.service) else {
        return Ok(None);
    };
    Ok(Some(ApiVisit {
        api: api.clone(),
        path: options.api_path.clone(),
        page: visit.page.clone(),
        client: Client::new(api, options.ca.as_deref()).map_err(Failure::Failed)?,
    }))
}

fn tell(report: &Report, options: &Doctor, service: &Origin) {
    if options.json {
        let mut told = report.to_json();
        told["url"] = service.as_str().into();
        return output::json(&told);
    }
    for finding in &report.findings {
        let Finding {
            check,
            outcome,
            seen,
            remedy,
        } = finding;
        output::line(format_args!(
            "{}  {check:<22} {}",
            outcome.word(),
            Safe(seen)
        ));
        if let Some(remedy) = remedy {
            output::line(format_args!("      {:<22} -> {}", "", Safe(remedy)));
        }
    }
    if let Some(lines) = &report.lines {
        output::line("\nWhat fits, for countersign.toml:\n");
        output::text(lines);
    }
    let (failed, warned) = (report.count(Outcome::Fail), report.count(Outcome::Warn));
    output::line(format_args!(
        "\n{} checks: {failed} failed, {warned} with a warning.",
        report.findings.len()
    ));
}
