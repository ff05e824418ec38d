//! The settings: a section per room, read raw from file, environment and command line, then checked
//! into what the rooms take.
//!
//! Everything that is wrong is told at once, each with its way out. Which values are in force, and
//! where each came from, is told by [`Report`].

mod audit;
mod cookies;
mod cors;
mod csrf;
mod database;
mod django;
mod durations;
mod file_mode;
mod http_token;
pub(crate) mod keys;
mod layers;
mod legacy_tokens;
mod log;
mod mail;
mod notices;
mod password;
mod problems;
pub(crate) mod reference;
mod registration;
mod report;
mod revocations;
mod secret_text;
pub(crate) mod secrets;
mod server;
mod sessions;
mod signing_keys;
pub(crate) mod suggest;
mod throttle;
mod tokens;
mod urls;

use std::ffi::OsString;
use std::path::PathBuf;

use countersign::HttpSettings;
use countersign_core::auth::{AuthSettings, MailedTokenSettings, TokenSettings};
use countersign_core::clock::{Clock as _, SystemClock};
use countersign_core::keys::{SharedSecret, SigningAlgorithm};
use countersign_core::refresh_token::LegacyTokenSettings;
use countersign_core::secrets::RootSecret;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::audit::AuditSection;
use self::cookies::CookiesSection;
use self::cors::CorsSection;
use self::csrf::CsrfSection;
use self::database::DatabaseSection;
pub(crate) use self::database::DatabaseSettings;
use self::django::DjangoSection;
use self::layers::Layers;
pub(crate) use self::layers::{Inputs, Override, Source};
use self::log::LogSection;
pub(crate) use self::log::{LogFormat, LogSettings};
use self::mail::MailSection;
pub(crate) use self::mail::{MailSettings, SmtpSecurity, SmtpSettings, TransportSettings};
use self::notices::NoticesSection;
use self::password::PasswordSection;
pub(crate) use self::problems::Problems;
pub(crate) use self::registration::PageSettings;
use self::registration::RegistrationSection;
pub(crate) use self::report::Report;
use self::revocations::RevocationsSection;
use self::secrets::{RootSource, SecretsSection};
use self::server::ServerSection;
pub(crate) use self::server::ServerSettings;
use self::sessions::SessionsSection;
use self::signing_keys::KeysSection;
use self::throttle::ThrottleSection;
use self::tokens::TokensSection;

/// Settings of the Countersign service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Countersign settings")]
pub(crate) struct RawSettings {
    server: ServerSection,
    database: DatabaseSection,
    secrets: SecretsSection,
    tokens: TokensSection,
    keys: KeysSection,
    sessions: SessionsSection,
    revocations: RevocationsSection,
    cookies: CookiesSection,
    cors: CorsSection,
    csrf: CsrfSection,
    password: PasswordSection,
    registration: RegistrationSection,
    throttle: ThrottleSection,
    django: DjangoSection,
    mail: MailSection,
    notices: NoticesSection,
    audit: AuditSection,
    log: LogSection,
}

/// The settings in force, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) server: ServerSettings,
    pub(crate) database: DatabaseSettings,
    pub(crate) root: RootSource,
    pub(crate) previous_roots: Vec<RootSecret>,
    pub(crate) auth: AuthSettings,
    pub(crate) http: HttpSettings,
    pub(crate) mail: MailSettings,
    pub(crate) pages: PageSettings,
    pub(crate) log: LogSettings,
    /// What is not wrong and yet should be said.
    pub(crate) warnings: Vec<String>,
    /// Which values are in force and where each came from.
    pub(crate) report: Report,
}

/// Where settings come from besides the environment: what the command line says of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    /// The file of `--config`.
    pub(crate) file: Option<PathBuf>,
    /// What other options set.
    pub(crate) overrides: Vec<Override>,
    /// Whether users are to be moved to another database.
    pub(crate) moves_users: bool,
}

impl Chosen {
    /// How to call another command with the same settings.
    pub(crate) fn command(&self, command: &str) -> String {
        let program = std::env::args()
            .next()
            .filter(|program| program.contains('/'));
        let mut words = vec![program.unwrap_or_else(|| "countersign".to_owned())];
        if let Some(file) = &self.file {
            words.extend(["--config".to_owned(), file.display().to_string()]);
        }
        if let Some(database) = self
            .overrides
            .iter()
            .find(|given| given.option == "--database")
        {
            words.extend([
                "--database".to_owned(),
                urls::without_password(&database.value),
            ]);
        }
        words.push(command.to_owned());
        words.join(" ")
    }

    /// Reads and checks the settings of this process.
    pub(crate) fn load(&self) -> Result<Settings, Problems> {
        Settings::load(&self.inputs())
    }

    /// Reads and checks what says where the users stand, whatever is wrong with the rest: a way back must
    /// not need the secrets.
    pub(crate) fn load_database(&self) -> Result<DatabaseSettings, Problems> {
        DatabaseSettings::load(&self.inputs())
    }

    fn inputs(&self) -> Inputs {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        Inputs {
            now: SystemClock.now(),
            file: self.file.clone(),
            environment,
            command_line: self.overrides.clone(),
            moves_users: self.moves_users,
        }
    }
}

impl RawSettings {
    fn read(layers: &Layers, problems: &mut Problems) -> Self {
        Self::deserialize(layers.document()).unwrap_or_else(|error| {
            // The kinds were checked, so this is a number beyond its type. Not the error's display:
            // it may quote a value.
            problems.add_general(format!("a value cannot be read: {}", error.message()));
            Self::default()
        })
    }

    fn check_database(&self, layers: &Layers, problems: &mut Problems) -> DatabaseSettings {
        let users = self.django.check(problems);
        let database = self.database.check(users, problems);
        if matches!(layers.source("database.url"), Source::CommandLine(_)) {
            self.database.refuse_password(problems);
        }
        database
    }
}

impl DatabaseSettings {
    /// Reads and checks these alone. What cannot be read at all is refused wherever it stands: it may
    /// have been meant for these.
    fn load(inputs: &Inputs) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let layers = Layers::read(inputs, &mut problems);
        let raw = RawSettings::read(&layers, &mut problems);
        let database = raw.check_database(&layers, &mut problems);
        problems.none_from(&layers)?;
        Ok(database)
    }
}

impl Settings {
    /// Reads and checks those of this file alone, whatever the environment says.
    pub(crate) fn load_file_alone(file: PathBuf) -> Result<Self, Problems> {
        Self::load(&Inputs {
            now: SystemClock.now(),
            file: Some(file),
            environment: Vec::new(),
            command_line: Vec::new(),
            moves_users: false,
        })
    }

    /// Reads and checks the settings.
    pub(crate) fn load(inputs: &Inputs) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut layers = Layers::read(inputs, &mut problems);
        let raw = RawSettings::read(&layers, &mut problems);
        let mut warnings = layers.take_warnings();
        let settings = Self::check(&raw, &layers, inputs.now, &mut problems, &mut warnings);
        if !inputs.moves_users {
            refuse_missing_root(&settings.database, &settings.root, &mut problems);
        }
        problems.none_from(&layers)?;
        Ok(Self {
            warnings,
            ..settings
        })
    }

    fn check(
        raw: &RawSettings,
        layers: &Layers,
        now: Timestamp,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> Self {
        let server = raw.server.check(problems);
        let database = raw.check_database(layers, problems);
        let root = raw.secrets.check(problems);
        let tokens = raw.tokens.check(&server.public_url, problems, warnings);
        let previous_roots = raw.secrets.check_previous(&root, problems);
        refuse_shared_root(&root, &previous_roots, &tokens, problems);
        let sessions = raw
            .sessions
            .check(tokens.access_lifetime, problems, warnings);
        let cookies = raw.cookies.check(&server, problems, warnings);
        let legacy = raw.django.check_tokens(&cookies, now, problems, warnings);
        let (legacy_tokens, legacy_transport) = legacy.unzip();
        refuse_root_as_sites_key(&root, &previous_roots, legacy_tokens.as_ref(), problems);
        let mail = raw.mail.check(&server, problems, warnings);
        let auth = AuthSettings {
            tokens,
            keys: raw.keys.check(problems),
            sessions: sessions.limits,
            max_sessions_per_user: sessions.max_per_user,
            keep_ended_sessions: sessions.keep_ended,
            keep_audit: raw.audit.check(problems),
            passwords: raw
                .password
                .check_policy(&server.public_url.to_string(), problems),
            hashing: raw.password.check_hashing(problems),
            throttle: raw.throttle.check(&server, problems, warnings),
            legacy_tokens,
            mailed_tokens: MailedTokenSettings {
                reset_lifetime: raw.password.check_reset_lifetime(problems),
                verify_lifetime: raw.registration.check_lifetime(problems),
            },
            registration: raw.registration.check(&server, &mail.transport, problems),
            queue_mail: mail.transport.delivers(),
            notices: raw.notices.check(),
        };
        let http = HttpSettings {
            public_url: server.public_url.clone(),
            allowed_origins: raw.cors.check(&server, problems),
            cookies,
            csrf_for_bearer: raw.csrf.require_for_bearer,
            header_schemes: raw.tokens.check_header_schemes(problems),
            trusted_proxies: server.trusted_proxies.clone(),
            tls_ends_here: server.tls.is_some(),
            revocations_token: raw.revocations.check(problems),
            legacy: legacy_transport,
            ..HttpSettings::new(server.public_url.clone())
        };
        let pages = PageSettings {
            reset: raw.password.check_reset_page(&server, problems),
            verify: raw.registration.check_page(&server, problems),
        };
        let log = raw.log.check(problems);
        let report = Report::new(raw, layers, &auth, &http, &server, &database);
        Self {
            server,
            database,
            root,
            previous_roots,
            auth,
            http,
            mail,
            pages,
            log,
            warnings: Vec::new(),
            report,
        }
    }
}

/// Refuses to make a root secret where several nodes must have the same.
fn refuse_missing_root(database: &DatabaseSettings, root: &RootSource, problems: &mut Problems) {
    if let (DatabaseSettings::Postgres(_), RootSource::ToBeMade(file)) = (database, root) {
        problems.add(
            "secrets.root_file",
            format!(
                "{} does not exist, and with PostgreSQL every node must have the same root secret: \
                 give each that of the other nodes, or of the service on SQLite that users have moved \
                 from, in this file, readable by its owner alone, or in COUNTERSIGN_SECRET. Where \
                 there is none yet, make one with `openssl rand -base64 32`",
                file.display()
            ),
        );
    }
}

/// Refuses a secret that is the root secret and shared with resource servers at once.
fn refuse_shared_root(
    root: &RootSource,
    previous: &[RootSecret],
    tokens: &TokenSettings,
    problems: &mut Problems,
) {
    let SigningAlgorithm::Hs256(shared) = &tokens.algorithm else {
        return;
    };
    if is_any_root(shared, root, previous) {
        problems.add(
            "tokens.shared_secret",
            "is a root secret, from which refresh and CSRF tokens are derived: every resource \
             server could make them; make another with `openssl rand -base64 32`"
                .to_owned(),
        );
    }
}

/// Refuses a secret that is the root secret and the site's at once.
fn refuse_root_as_sites_key(
    root: &RootSource,
    previous: &[RootSecret],
    legacy: Option<&LegacyTokenSettings>,
    problems: &mut Problems,
) {
    if legacy.is_some_and(|legacy| is_any_root(&legacy.key, root, previous)) {
        problems.add(
            "django.secret_key",
            "is a root secret, from which everything else is derived: the site must not hold it; make \
             another root secret with `openssl rand -base64 32`",
        );
    }
}

fn is_any_root(shared: &SharedSecret, root: &RootSource, previous: &[RootSecret]) -> bool {
    let current = match root {
        RootSource::Given(root) => Some(root),
        RootSource::ToBeMade(_) | RootSource::Refused => None,
    };
    let mut roots = current.into_iter().chain(previous);
    roots.any(|root| shared.is_root(root))
}
