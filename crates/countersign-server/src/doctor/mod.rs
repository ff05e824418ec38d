//! What `countersign doctor` knows: which settings fit a page and a service ([`advice`]), and what the
//! answers of a running service say about the way to it ([`cors`], [`cookies`], [`passage`], [`service`],
//! [`journey`]), and those of an API that verifies its tokens ([`api`]).
//!
//! All of that is pure: from origins and settings to findings, from answers to findings. [`client`] and
//! [`visit`] do the asking.

pub(crate) mod advice;
mod answer;
mod api;
mod certificate;
pub(crate) mod client;
mod cookies;
mod cors;
mod finding;
mod journey;
mod passage;
mod service;
mod site;
pub(crate) mod visit;

use countersign::Origin;

pub(crate) use finding::{Finding, Outcome, Report};

/// Whether the page is on another site than the service.
pub(crate) fn is_crossing(page: &Origin, service: &Origin) -> bool {
    site::distance(page, service) == site::Distance::OtherSite
}
