//! Mail: whose password was changed hears of it, through a mail server that may be slow, busy or
//! unwilling.

pub(crate) mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

use crate::harness::{JSON, PASSWORD, Place, SignedIn, eventually, send};

use self::server::{Answer, MailServer, Received, Tls};

const NEW: &str = "another horse altogether";

/// A place whose mails go to this server.
fn place_with(server: &MailServer) -> Place {
    let place = Place::new();
    place.settings(&settings(server));
    place.add_ana();
    place
}

pub(crate) fn settings(server: &MailServer) -> String {
    let port = server.port;
    format!(
        "mail.transport = \"smtp://127.0.0.1:{port}\"\nmail.from = \"Accounts <no-reply@example.org>\"\n"
    )
}

const ADD_ANA: [&str; 6] = [
    "user",
    "add",
    "ana",
    "--email",
    "ana@example.org",
    "--password-stdin",
];
const SET_ANAS: [&str; 4] = ["user", "set-password", "ana", "--password-stdin"];

impl Place {
    /// What a settings file with a password in it must be.
    fn owner_alone(&self) {
        let owner_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path("countersign.toml"), owner_alone).unwrap();
    }

    /// Ana, who has an address.
    fn add_ana(&self) {
        let said = self.run_with_input(&ADD_ANA, PASSWORD);
        assert_eq!(said.status, Some(0), "{said:?}");
    }

    /// An administrator sets her password.
    fn set_password(&self) {
        let said = self.run_with_input(&SET_ANAS, NEW);
        assert_eq!(said.status, Some(0), "{said:?}");
    }

    /// How many mails wait, as it stands in the database.
    fn waiting_mails(&self) -> u32 {
        let count = "SELECT count(*) FROM countersign_outbox";
        let stranger = self.stranger();
        stranger.query_row(count, [], |row| row.get(0)).unwrap()
    }

    /// Makes every mail due that waits: as if the time had passed.
    fn let_time_pass(&self) {
        let sql = "UPDATE countersign_outbox SET due_at = 0";
        self.stranger().execute(sql, []).unwrap();
    }
}

fn change_password(port: u16, who: &SignedIn) {
    let body = format!(r#"{{"current_password":"{PASSWORD}","new_password":"{NEW}"}}"#);
    let headers = format!("{JSON}{}", who.bearer());
    let reply = send(port, "POST /users/password", &headers, &body);
    assert_eq!(reply.status, 204, "{reply:?}");
}

/// Waits until so many mails have come, and some time for one too many.
fn only(count: usize, server: &MailServer) -> Vec<Received> {
    eventually("the mails come", || server.received().len() >= count);
    std::thread::sleep(Duration::from_secs(6));
    let received = server.received();
    assert_eq!(received.len(), count, "{received:?}");
    received
}

#[test]
fn whose_password_is_changed_or_set_is_told_once() {
    let server = MailServer::start([]);
    let place = place_with(&server);
    let service = place.serve();
    change_password(place.port, &SignedIn::new(place.port, "ana"));
    eventually("the first mail comes", || server.received().len() == 1);
    place.set_password();
    let [changed, set] = only(2, &server).try_into().unwrap();
    assert_eq!(place.waiting_mails(), 0);

    for mail in [&changed, &set] {
        assert_eq!(mail.from, "<no-reply@example.org>");
        assert_eq!(mail.to, ["<ana@example.org>"]);
        assert_eq!(mail.header("To"), "ana@example.org");
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
        assert!(
            mail.header("Message-ID").ends_with("@example.org>"),
            "{mail:?}"
        );
        assert!(mail.text.contains("Hello ana"), "{mail:?}");
    }
    assert_eq!(changed.header("Subject"), "Your password was changed");
    assert_eq!(
        set.header("Subject"),
        "Your password was set by an administrator"
    );
    assert_ne!(changed.header("Message-ID"), set.header("Message-ID"));
    let (status, said) = service.stop();
    assert!(status.success(), "{said}");
    assert!(said.contains("mail_delivered"), "{said}");
    assert!(!said.contains("ana@example.org"), "{said}");
}

#[test]
fn a_server_that_is_busy_is_asked_again_under_the_same_name() {
    let server = MailServer::start([Answer::To("RCPT", "451 <ana@example.org> is busy")]);
    let place = place_with(&server);
    let service = place.serve();
    place.set_password();
    service.await_log("mail_postponed");
    service.await_log("the mail server answered 451");
    assert_eq!((server.received().len(), place.waiting_mails()), (0, 1));
    place.let_time_pass();
    only(1, &server);
    assert_eq!(place.waiting_mails(), 0);
    let (_, said) = service.stop();
    assert!(!said.contains("ana@example.org"), "{said}");
}

#[test]
fn what_the_server_refuses_for_good_is_given_up() {
    let server = MailServer::start([Answer::To("RCPT", "550 <ana@example.org> is not here")]);
    let place = place_with(&server);
    let service = place.serve();
    place.set_password();
    service.await_log("mail_given_up");
    service.await_log("the mail server answered 550");
    eventually("it is forgotten", || place.waiting_mails() == 0);
    let (_, said) = service.stop();
    assert!(!said.contains("ana@example.org"), "{said}");
    assert_eq!(server.received().len(), 0);
}

#[test]
fn what_is_wrong_with_this_service_costs_nobody_a_mail() {
    let server = MailServer::start([
        Answer::To("MAIL", "530 5.7.0 authentication required"),
        Answer::To("EHLO", "550 go away"),
    ]);
    let place = place_with(&server);
    let service = place.serve();
    place.set_password();
    service.await_log("the mail server answered 530");
    place.let_time_pass();
    service.await_log("the mail server answered 550");
    place.let_time_pass();
    only(1, &server);
    let (_, said) = service.stop();
    assert!(!said.contains("mail_given_up"), "{said}");
}

#[test]
fn a_service_that_is_killed_between_delivery_and_note_delivers_again() {
    let server = MailServer::start([Answer::Never]);
    let place = place_with(&server);
    let service = place.serve();
    place.set_password();
    eventually("the server has the mail", || server.received().len() == 1);
    service.kill();
    assert_eq!(place.waiting_mails(), 1);

    let _next = place.serve();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(
        server.received().len(),
        1,
        "somebody else's claim was broken"
    );
    place.let_time_pass();
    let [first, again] = only(2, &server).try_into().unwrap();
    assert_eq!(first.header("Message-ID"), again.header("Message-ID"));
    assert_eq!(first.text, again.text);
}

#[test]
fn a_mail_in_hand_is_finished_before_the_service_stops() {
    let server = MailServer::start([Answer::After(Duration::from_secs(2))]);
    let place = place_with(&server);
    let service = place.serve();
    place.set_password();
    eventually("the server has the mail", || server.received().len() == 1);
    let (status, said) = service.stop();
    assert!(status.success(), "{said}");
    assert!(said.contains("mail_delivered"), "{said}");
    assert_eq!(place.waiting_mails(), 0);
}

/// A certificate for this address, in a file, and a mail server's use of it.
fn certificate(place: &Place, address: &str) -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([address.to_owned()]).unwrap();
    place.write("authorities.pem", &made.cert.pem());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.unwrap())
}

/// An address that leads here and does not look like it.
const ELSEWHERE: &str = "0.0.0.0";

#[test]
fn mail_beyond_this_machine_does_not_travel_in_the_clear() {
    let server = MailServer::start([]);
    let place = Place::new();
    let more = settings(&server).replace("smtp://127.0.0.1", "smtp://ana:CANARY@0.0.0.0");
    place.settings(&more);
    place.owner_alone();
    place.add_ana();
    let service = place.serve();
    place.set_password();
    service.await_log("the mail server does not offer what is needed");
    let (_, said) = service.stop();
    assert!(
        said.contains("mail_postponed") && !said.contains("CANARY"),
        "{said}"
    );
    assert_eq!((server.received().len(), server.signed_in().len()), (0, 0));
}

#[test]
fn a_server_is_signed_in_to_over_tls_if_its_certificate_is_good() {
    for (scheme, at_once) in [("smtp", false), ("smtps", true)] {
        let place = Place::new();
        let config = certificate(&place, ELSEWHERE);
        let tls = if at_once {
            Tls::AtOnce(config)
        } else {
            Tls::WhenAsked(config)
        };
        let server = MailServer::start_with(tls, []);
        let url = format!("{scheme}://ana@{ELSEWHERE}");
        place.settings(&settings(&server).replace("smtp://127.0.0.1", &url));
        let password = ("COUNTERSIGN_MAIL__PASSWORD", "CANARY");
        let authorities = place.path("authorities.pem");
        let trusted = ("SSL_CERT_FILE", authorities.to_str().unwrap());
        let said = place.run_with_input_and(&[password], &ADD_ANA, PASSWORD);
        assert_eq!(said.status, Some(0), "{said:?}");
        let said = place.run_with_input_and(&[password], &SET_ANAS, NEW);
        assert_eq!(said.status, Some(0), "{said:?}");

        let service = place.serve_with(&[password]);
        service.await_log("mail_postponed");
        let (_, said) = service.stop();
        assert!(!said.contains("CANARY"), "{said}");
        assert_eq!((server.received().len(), server.signed_in().len()), (0, 0));

        place.let_time_pass();
        let service = place.serve_with(&[password, trusted]);
        service.await_log("mail_delivered");
        // "\0ana\0CANARY" in Base64 (RFC 4616).
        assert_eq!(server.signed_in(), ["AUTH PLAIN AGFuYQBDQU5BUlk="]);
        assert_eq!(server.received().len(), 1);
    }
}

#[test]
fn on_a_developers_machine_mails_are_printed() {
    let place = Place::new();
    place.add_ana();
    let service = place.serve();
    place.set_password();
    service.await_log("Subject: Your password was set by an administrator\n\nHello ana,");
    eventually("it is delivered", || place.waiting_mails() == 0);
}

#[test]
fn mails_can_be_files_in_words_of_ones_own() {
    let place = Place::new();
    fs::create_dir(place.path("words")).unwrap();
    place.write(
        "words/password_set.txt",
        "Subject: Neues Kennwort\n\nHallo {{username}}\n",
    );
    place.settings("mail.transport = \"file:mails\"\nmail.templates = \"words\"");
    place.add_ana();
    let service = place.serve();
    place.set_password();
    service.await_log("mail_delivered");
    let mails: Vec<_> = fs::read_dir(place.path("mails")).unwrap().collect();
    let [mail] = mails.try_into().unwrap();
    let text = fs::read_to_string(mail.unwrap().path()).unwrap();
    assert!(text.contains("Subject: Neues Kennwort\r\n"), "{text}");
    assert!(text.contains("Hallo ana"), "{text}");
}

#[test]
fn where_nobody_delivers_nothing_is_kept() {
    let place = Place::new();
    place.settings("mail.transport = \"none\"");
    place.add_ana();
    place.set_password();
    assert_eq!(place.waiting_mails(), 0);
}
