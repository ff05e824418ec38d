//! What users are told of what happens to their accounts, so that they notice what they did not do.

use crate::audit::{AuditEntry, Caller, Event};
use crate::client::Client;
use crate::mail::Message;
use crate::throttle::network;

/// What users are told of, where mail is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeSettings {
    /// A sign-in from a device that the user has not signed in from before.
    pub new_device: bool,
    /// The password was changed or set.
    pub password_changed: bool,
    /// The address was changed: the old one is told.
    pub email_changed: bool,
    /// A sign-in after so many that were refused. It is an event as well, and that also where no mail is
    /// sent. 0: never, and no event.
    pub failures_before_success: u32,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            new_device: true,
            password_changed: true,
            email_changed: true,
            // More than anybody's own mistakes: the sixth has to wait, and each after it longer.
            failures_before_success: 8,
        }
    }
}

impl NoticeSettings {
    /// Whether users are told this.
    pub(crate) const fn want(self, message: &Message) -> bool {
        match message {
            Message::PasswordChanged { .. } | Message::PasswordReset => self.password_changed,
            Message::NewDevice { .. } => self.new_device,
            Message::LoginAfterFailures { .. } => self.failures_before_success > 0,
            Message::EmailChanged { .. } => self.email_changed,
            // These answer somebody who waits for them, or are no letters.
            Message::ResetPassword { .. }
            | Message::VerifyEmail { .. }
            | Message::ChangeEmail { .. }
            | Message::Register { .. }
            | Message::AddressTaken
            | Message::ResetAsked
            | Message::VerificationAsked => true,
        }
    }
}

/// How many entries of the audit log are looked at, the latest of one user: enough to find where somebody
/// usually signs in, and more refusals than throttling lets through in a day.
pub(crate) const LOOKED_AT: u32 = 100;

/// A sign-in, before it is one.
pub(crate) struct SignIn<'a> {
    pub(crate) caller: &'a Caller,
    /// Whether the browser has shown that this user has signed in from it before.
    pub(crate) device_is_known: bool,
    /// The latest entries of this user, newest first.
    pub(crate) latest: &'a [AuditEntry],
}

/// What is noteworthy about a sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Noteworthy {
    /// So many sign-ins were refused since the last one, more than go without saying.
    pub(crate) failures: Option<u32>,
    /// What the user is told.
    pub(crate) message: Option<Message>,
}

impl SignIn<'_> {
    /// Decides what to say of it. One mail at most: that of the failures says where from as well.
    pub(crate) fn noteworthy(&self, settings: NoticeSettings) -> Noteworthy {
        let failures = self.failures();
        let least = settings.failures_before_success;
        let address = self.caller.address;
        let client = client_of(self.caller);
        if least > 0 && failures >= least {
            let message = Message::LoginAfterFailures {
                failures,
                address,
                client,
            };
            return Noteworthy {
                failures: Some(failures),
                message: Some(message),
            };
        }
        let is_new = settings.new_device && !self.device_is_known && !self.place_is_known();
        // Of the very first one nobody needs to be told.
        let message = (is_new && self.successes().next().is_some())
            .then_some(Message::NewDevice { address, client });
        Noteworthy {
            failures: None,
            message,
        }
    }

    /// How many were refused since the last that was not. The user's own count as well: nobody can tell.
    fn failures(&self) -> u32 {
        let since = self.latest.iter().take_while(|entry| !is_success(entry));
        let refused = since.filter(|entry| entry.event == Event::LOGIN_REFUSED);
        refused.map(|entry| entry.count).sum()
    }

    /// Whether somebody has signed in from the same network with the same program before: whoever does not
    /// let the browser be remembered has no other way to be known.
    fn place_is_known(&self) -> bool {
        let (here, client) = (network(self.caller.address), client_of(self.caller));
        self.successes().any(|entry| {
            network(entry.caller.address) == here && client_of(&entry.caller) == client
        })
    }

    fn successes(&self) -> impl Iterator<Item = &AuditEntry> {
        self.latest.iter().filter(|entry| is_success(entry))
    }
}

fn is_success(entry: &AuditEntry) -> bool {
    [Event::LOGIN_SUCCEEDED, Event::SESSION_TAKEN_OVER].contains(&entry.event.as_str())
}

fn client_of(caller: &Caller) -> Client {
    Client::of_user_agent(caller.user_agent.as_deref())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Map;

    use super::*;
    use crate::user::UserId;

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0";
    const NEXT_FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Firefox/141.0";
    const CURL: &str = "curl/8.14.1";

    fn caller(address: &str, user_agent: &str) -> Caller {
        Caller {
            address: Some(address.parse().unwrap()),
            user_agent: Some(user_agent.to_owned()),
            request_id: None,
        }
    }

    fn entry(event: &str, caller: Caller) -> AuditEntry {
        AuditEntry {
            at: Timestamp::UNIX_EPOCH,
            event: event.to_owned(),
            user: Some(UserId(1)),
            session: None,
            by: None,
            caller,
            details: Map::new(),
            count: 1,
        }
    }

    fn home() -> Caller {
        caller("192.0.2.1", FIREFOX)
    }

    fn abroad() -> Caller {
        caller("198.51.100.7", FIREFOX)
    }

    fn noteworthy(latest: &[AuditEntry], caller: &Caller, device_is_known: bool) -> Noteworthy {
        let sign_in = SignIn {
            caller,
            device_is_known,
            latest,
        };
        sign_in.noteworthy(NoticeSettings::default())
    }

    fn tells_of_a_new_device(latest: &[AuditEntry], caller: &Caller) -> bool {
        let message = noteworthy(latest, caller, false).message;
        matches!(message, Some(Message::NewDevice { .. }))
    }

    #[test]
    fn the_first_sign_in_of_all_is_no_news() {
        assert_eq!(noteworthy(&[], &home(), false), Noteworthy::default());
        let created = [entry("user_created", Caller::default())];
        assert!(!tells_of_a_new_device(&created, &home()));
    }

    #[test]
    fn another_network_or_another_program_is_a_new_device_unless_it_is_known() {
        let past = [entry("login_succeeded", home())];
        assert!(tells_of_a_new_device(&past, &abroad()));
        assert!(tells_of_a_new_device(&past, &caller("192.0.2.1", CURL)));
        assert!(!tells_of_a_new_device(&past, &home()));
        assert!(!tells_of_a_new_device(
            &past,
            &caller("192.0.2.1", NEXT_FIREFOX)
        ));
        assert_eq!(noteworthy(&past, &abroad(), true), Noteworthy::default());
    }

    #[test]
    fn who_came_from_the_django_site_is_known_by_that() {
        let past = [entry("session_taken_over", home())];
        assert!(!tells_of_a_new_device(&past, &home()));
        assert!(tells_of_a_new_device(&past, &abroad()));
    }

    #[test]
    fn what_was_refused_makes_no_place_known() {
        let past = [
            entry("login_refused", abroad()),
            entry("login_succeeded", home()),
        ];
        assert!(tells_of_a_new_device(&past, &abroad()));
    }

    #[test]
    fn eight_refusals_since_the_last_success_are_told_once_and_seven_are_not() {
        let mut past = vec![entry("login_succeeded", home())];
        past.splice(0..0, (0..7).map(|_| entry("login_refused", abroad())));
        assert_eq!(noteworthy(&past, &home(), true).failures, None);
        past.insert(0, entry("session_ended", home()));
        past.insert(0, entry("login_refused", home()));
        let told = noteworthy(&past, &home(), true);
        assert_eq!(told.failures, Some(8));
        let message = told.message.unwrap();
        assert!(matches!(
            message,
            Message::LoginAfterFailures { failures: 8, .. }
        ));
        past.insert(0, entry("login_succeeded", home()));
        assert_eq!(noteworthy(&past, &home(), true), Noteworthy::default());
    }

    #[test]
    fn what_is_switched_off_is_not_told() {
        let settings = NoticeSettings {
            new_device: false,
            failures_before_success: 0,
            ..NoticeSettings::default()
        };
        let mut past = vec![entry("login_succeeded", home())];
        past.splice(0..0, (0..50).map(|_| entry("login_refused", abroad())));
        let (caller, device_is_known) = (&abroad(), false);
        let sign_in = SignIn {
            caller,
            device_is_known,
            latest: &past,
        };
        assert_eq!(sign_in.noteworthy(settings), Noteworthy::default());
    }
}
