//! Two services on one PostgreSQL and one mail server: each mail is somebody's, and nobody's twice.

use std::collections::HashSet;
use std::time::Duration;

use super::server::Server;
use super::{Node, ask, nodes};
use crate::harness::eventually;
use crate::mail::server::{Answer, MailServer};
use crate::mail::settings;

const COUNT: usize = 50;

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn two_services_share_the_mails_and_deliver_each_once() {
    // Slow enough that nobody has delivered all of them before the other looks.
    let slow = Answer::After(Duration::from_millis(200));
    let (database, mail_server) = (Server::new(), MailServer::start([slow; COUNT]));
    let nodes: [Node; 2] = nodes(&database, &settings(&mail_server));
    let queued = format!(
        "INSERT INTO countersign_outbox (id, recipient, username, message, queued_at, due_at, attempts)
         SELECT gen_random_uuid(), 'user' || number || '@example.org', 'user' || number,
                'password_changed command_line', now.ms, now.ms, 0
         FROM generate_series(1, {COUNT}) number,
              (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) now"
    );
    ask(&database, &queued);
    eventually("the mails come", || mail_server.received().len() >= COUNT);
    let waiting = || ask(&database, "SELECT count(*) FROM countersign_outbox");
    eventually("they are noted", || waiting() == "0");

    let received = mail_server.received();
    let names: HashSet<_> = received
        .iter()
        .map(|mail| mail.header("Message-ID"))
        .collect();
    assert_eq!((received.len(), names.len()), (COUNT, COUNT));
    for mut node in nodes {
        let said = node.stop();
        assert!(
            said.contains("mail_delivered"),
            "one has done nothing: {said}"
        );
    }
}
