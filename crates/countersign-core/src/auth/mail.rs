//! Mail: queued with what it tells of, delivered later by one process at a time.

use std::time::Duration;

use tokio::sync::watch;

use super::Auth;
use super::mailed_tokens::Prepared;
use crate::audit::Event;
use crate::error::StoreError;
use crate::mail::{
    ClaimedMail, DeliveryFailure, Mail, MailClaim, MailId, MailOutcome, MailTransport, Message,
    masked, schedule,
};
use crate::session::saturating_add;
use crate::user::User;

/// How often somebody looks whether a mail is due.
const INTERVAL: Duration = Duration::from_secs(5);

/// Mails that are claimed at once.
const BATCH: u32 = 10;

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a claim holds: longer than a batch takes at worst, so that nobody else begins with what this
/// process is still at.
const LEASE: Duration = Duration::from_mins(15);

/// What one round of deliveries did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailReport {
    /// Mails that were delivered.
    pub delivered: u32,
    /// Mails that are to be tried again.
    pub postponed: u32,
    /// Mails that nobody will deliver.
    pub given_up: u32,
    /// Wishes for letters, in whose place the letters have come.
    pub answered: u32,
    /// Mails that were not sent, because what they are about is over.
    pub dropped: u32,
}

impl Auth {
    /// Delivers what is due every five seconds, until `stop` holds true or nobody is left who could say so.
    /// Then the mail in hand is finished, and those claimed with it are left to others. Of several
    /// processes on one store each takes its share.
    pub async fn run_mail(&self, transport: &dyn MailTransport, mut stop: watch::Receiver<bool>) {
        loop {
            let delivered = self.deliver_due(transport, Some(&stop)).await;
            if let Err(error) = delivered.and(self.count_mail().await) {
                tracing::warn!(event = "mail_failed", cause = %error);
            }
            let stopping = stop.wait_for(|stopping| *stopping);
            if tokio::time::timeout(INTERVAL, stopping).await.is_ok() {
                return;
            }
        }
    }

    /// Notes how many mails wait, for [`Auth::load`].
    ///
    /// # Errors
    /// The store's.
    pub async fn count_mail(&self) -> Result<(), StoreError> {
        let waiting = self.store.count_mail().await?;
        *self.mail_waiting() = Some(waiting);
        Ok(())
    }

    /// Delivers the mails that are due.
    ///
    /// # Errors
    /// The store's. What was delivered and could not be settled is delivered again, under the same
    /// [`MailId`].
    pub async fn deliver_mail(
        &self,
        transport: &dyn MailTransport,
    ) -> Result<MailReport, StoreError> {
        self.deliver_due(transport, None).await
    }

    async fn deliver_due(
        &self,
        transport: &dyn MailTransport,
        stop: Option<&watch::Receiver<bool>>,
    ) -> Result<MailReport, StoreError> {
        let is_stopping = || stop.is_some_and(|stop| *stop.borrow());
        let mut report = MailReport::default();
        loop {
            let answered_before = report.answered;
            let now = self.clock.now();
            let claim = MailClaim {
                now,
                until: saturating_add(now, LEASE),
                limit: BATCH,
            };
            let claimed = self.store.claim_mail(&claim).await?;
            for claimed in &claimed {
                if is_stopping() {
                    let at_once = MailOutcome::Later(self.clock.now());
                    self.store.settle_mail(claimed, at_once).await?;
                } else {
                    self.deliver(transport, claimed, &mut report).await?;
                }
            }
            let were_answered = report.answered > answered_before;
            if (claimed.len() < BATCH as usize && !were_answered) || is_stopping() {
                return Ok(report);
            }
        }
    }

    async fn deliver(
        &self,
        transport: &dyn MailTransport,
        claimed: &ClaimedMail,
        report: &mut MailReport,
    ) -> Result<(), StoreError> {
        let (mail, link) = match self.prepare(&claimed.mail).await? {
            Prepared::Letter(mail, link) => (mail, link),
            Prepared::Answers(answers) => {
                let (id, kind) = (claimed.mail.id, claimed.mail.message.kind());
                let letters = answers.len();
                if self.store.answer_mail(claimed, &answers).await? {
                    report.answered += 1;
                    Event::MailAnswered { id, kind, letters }.tell();
                }
                return Ok(());
            }
            Prepared::Dead => {
                let (id, kind) = (claimed.mail.id, claimed.mail.message.kind());
                report.dropped += 1;
                Event::MailDropped { id, kind }.tell();
                self.store.settle_mail(claimed, MailOutcome::Done).await?;
                return Ok(());
            }
        };
        let mail = &mail;
        let delivering = tokio::time::timeout(PATIENCE, transport.deliver(mail, link.as_ref()));
        let delivered = delivering.await.unwrap_or_else(|_| {
            Err(DeliveryFailure::Temporary(format!(
                "not done within {PATIENCE:?}"
            )))
        });
        let (id, kind) = (mail.id, mail.message.kind());
        let retry = || schedule::next_attempt(mail.queued_at, claimed.attempts, self.clock.now());
        let outcome = match &delivered {
            Ok(()) => {
                report.delivered += 1;
                Event::MailDelivered { id, kind }.tell();
                MailOutcome::Done
            }
            Err(failure @ DeliveryFailure::Temporary(_)) => match retry() {
                Some(next) => {
                    report.postponed += 1;
                    let reason = &failure.to_string();
                    Event::MailPostponed { id, kind, reason }.tell();
                    MailOutcome::Later(next)
                }
                None => give_up(mail, failure, report),
            },
            Err(failure @ DeliveryFailure::Permanent(_)) => give_up(mail, failure, report),
        };
        // Whose claim has run out meanwhile leaves it to whoever has the next.
        self.store.settle_mail(claimed, outcome).await?;
        Ok(())
    }

    /// A mail to a user, if mail is sent at all, this is among what users are told, and there is an address to
    /// send it to.
    pub(super) fn mail_to(&self, user: &User, message: Message) -> Option<Mail> {
        let is_wanted = self.settings.queue_mail && self.settings.notices.want(&message);
        if !is_wanted || user.email.is_empty() {
            return None;
        }
        let now = self.clock.now();
        let message = match message {
            Message::EmailChanged { .. } if !self.may_be_quoted(user) => {
                Message::EmailChanged { to: masked("") }
            }
            other => other,
        };
        Some(Mail {
            id: MailId::new(now, &*self.randomness),
            recipient: user.email.clone(),
            username: self.greeting(user),
            message,
            queued_at: now,
        })
    }

    /// The name that a letter greets a user by; none where it would be a stranger's words.
    pub(super) fn greeting(&self, user: &User) -> String {
        if self.may_be_quoted(user) {
            user.username.clone()
        } else {
            String::new()
        }
    }

    /// Whether letters to a user's address may hold what the user has typed. Not to an address that is yet to
    /// be proven where people make accounts with whichever address they like: its reader may be somebody else,
    /// and is to be sent nobody's words by us.
    fn may_be_quoted(&self, user: &User) -> bool {
        let registration = self.settings.registration;
        user.email_verified || !registration.enabled || registration.verify_email
    }
}

fn give_up(mail: &Mail, failure: &DeliveryFailure, report: &mut MailReport) -> MailOutcome {
    report.given_up += 1;
    Event::MailGivenUp {
        id: mail.id,
        kind: mail.message.kind(),
        reason: &failure.to_string(),
    }
    .tell();
    MailOutcome::Done
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use jiff::SignedDuration;

    use super::*;
    use crate::auth::{AuthSettings, NewAccount};
    use crate::clock::Clock as _;
    use crate::clock::{ManualClock, SystemRandomness};
    use crate::mailed_token::MailedLink;
    use crate::password::{HashingSettings, Password};
    use crate::secrets::RootSecret;
    use crate::session::EndedBy;
    use crate::store::{MemoryStore, Store as _};
    use crate::user::{Email, Username};

    /// A mail server that answers as it is told to, and then takes everything.
    #[derive(Default)]
    struct Mailbox {
        answers: Mutex<VecDeque<DeliveryFailure>>,
        asked: Mutex<Vec<Mail>>,
    }

    impl Mailbox {
        fn answering(answers: impl IntoIterator<Item = DeliveryFailure>) -> Self {
            Self {
                answers: Mutex::new(answers.into_iter().collect()),
                asked: Mutex::default(),
            }
        }

        fn asked(&self) -> Vec<Mail> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl MailTransport for Mailbox {
        async fn deliver(
            &self,
            mail: &Mail,
            _: Option<&MailedLink>,
        ) -> Result<(), DeliveryFailure> {
            self.asked.lock().unwrap().push(mail.clone());
            match self.answers.lock().unwrap().pop_front() {
                Some(failure) => Err(failure),
                None => Ok(()),
            }
        }
    }

    fn busy() -> DeliveryFailure {
        DeliveryFailure::Temporary("450 mailbox busy".to_owned())
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    /// A service over a store, and ana.
    struct House {
        auth: Auth,
        store: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
        ana: User,
    }

    impl House {
        async fn new(queue_mail: bool, address: &str) -> Self {
            let (store, clock) = (Arc::<MemoryStore>::default(), Arc::<ManualClock>::default());
            let settings = AuthSettings {
                hashing: HashingSettings::CHEAP,
                queue_mail,
                ..AuthSettings::default()
            };
            let auth = Auth::start_with(
                Arc::clone(&store) as _,
                &RootSecret::generate(&SystemRandomness),
                settings,
                Arc::clone(&clock) as _,
                Arc::new(SystemRandomness),
            )
            .await
            .unwrap();
            let account = NewAccount {
                username: Username::parse("ana").unwrap(),
                email: Email::parse(address).unwrap(),
                password: None,
                is_staff: false,
                is_superuser: false,
            };
            let ana = auth
                .create_user(account, EndedBy::CommandLine)
                .await
                .unwrap();
            Self {
                auth,
                store,
                clock,
                ana,
            }
        }

        async fn set_password(&self) {
            let new = password("another horse altogether");
            let by = EndedBy::CommandLine;
            self.auth.set_password(&self.ana, new, by).await.unwrap();
        }

        async fn deliver(&self, mailbox: &Mailbox) -> MailReport {
            self.auth.deliver_mail(mailbox).await.unwrap()
        }

        fn wait(&self, minutes: i64) {
            self.clock.advance(SignedDuration::from_mins(minutes));
        }
    }

    const NOTHING: MailReport = MailReport {
        delivered: 0,
        postponed: 0,
        given_up: 0,
        answered: 0,
        dropped: 0,
    };

    #[tokio::test]
    async fn whose_password_was_set_is_told_once() {
        let house = House::new(true, "ana@example.org").await;
        let mailbox = Mailbox::default();
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
        house.set_password().await;
        let delivered = MailReport {
            delivered: 1,
            ..NOTHING
        };
        assert_eq!(house.deliver(&mailbox).await, delivered);
        house.wait(60);
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
        let [mail] = mailbox.asked().try_into().unwrap();
        assert_eq!(
            (&*mail.recipient, &*mail.username),
            ("ana@example.org", "ana")
        );
        let by = EndedBy::CommandLine;
        assert_eq!(mail.message, Message::PasswordChanged { by });
    }

    #[tokio::test]
    async fn where_nobody_delivers_or_nobody_can_be_reached_nothing_is_queued() {
        for (queue_mail, address) in [(false, "ana@example.org"), (true, "")] {
            let house = House::new(queue_mail, address).await;
            house.set_password().await;
            assert_eq!(house.deliver(&Mailbox::default()).await, NOTHING);
        }
    }

    #[tokio::test]
    async fn what_is_refused_for_now_comes_again_under_the_same_name() {
        let house = House::new(true, "ana@example.org").await;
        house.set_password().await;
        let mailbox = Mailbox::answering([busy(), busy()]);
        let postponed = MailReport {
            postponed: 1,
            ..NOTHING
        };
        assert_eq!(house.deliver(&mailbox).await, postponed);
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
        house.wait(1);
        assert_eq!(house.deliver(&mailbox).await, postponed);
        house.wait(1);
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
        house.wait(1);
        assert_eq!(house.deliver(&mailbox).await.delivered, 1);
        let asked = mailbox.asked();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|mail| *mail == asked[0]), "{asked:?}");
    }

    #[tokio::test]
    async fn what_is_refused_for_good_or_for_two_days_is_given_up() {
        let given_up = MailReport {
            given_up: 1,
            ..NOTHING
        };
        let house = House::new(true, "ana@example.org").await;
        house.set_password().await;
        let refusal = DeliveryFailure::Permanent("550 no such mailbox".to_owned());
        let mailbox = Mailbox::answering([refusal]);
        assert_eq!(house.deliver(&mailbox).await, given_up);

        house.set_password().await;
        let mailbox = Mailbox::answering((0..100).map(|_| busy()));
        let mut rounds = 0;
        while house.deliver(&mailbox).await != given_up {
            rounds += 1;
            assert!(rounds < 50, "never given up");
            house.wait(60);
        }
        house.wait(60 * 24 * 7);
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
    }

    #[tokio::test]
    async fn whoever_dies_between_delivery_and_settlement_leaves_it_to_be_delivered_again() {
        let house = House::new(true, "ana@example.org").await;
        house.set_password().await;
        let now = house.clock.now();
        let claim = MailClaim {
            now,
            until: saturating_add(now, LEASE),
            limit: BATCH,
        };
        // A process delivers, and dies.
        let delivered = house.store.claim_mail(&claim).await.unwrap();
        let mailbox = Mailbox::default();
        assert_eq!(house.deliver(&mailbox).await, NOTHING);
        house.wait(15);
        assert_eq!(house.deliver(&mailbox).await.delivered, 1);
        assert_eq!(mailbox.asked()[0].id, delivered[0].mail.id);
        let late = house.store.settle_mail(&delivered[0], MailOutcome::Done);
        assert!(!late.await.unwrap());
    }

    /// A mail server at whose first mail somebody says that it is time to stop.
    struct LastMail(watch::Sender<bool>, Mailbox);

    #[async_trait]
    impl MailTransport for LastMail {
        async fn deliver(
            &self,
            mail: &Mail,
            link: Option<&MailedLink>,
        ) -> Result<(), DeliveryFailure> {
            self.0.send_replace(true);
            self.1.deliver(mail, link).await
        }
    }

    #[tokio::test]
    async fn whoever_stops_finishes_one_mail_and_leaves_the_others_to_others() {
        let house = House::new(true, "ana@example.org").await;
        for _ in 0..3 {
            house.set_password().await;
        }
        let (stop, stopped) = watch::channel(false);
        let last = LastMail(stop, Mailbox::default());
        house.auth.run_mail(&last, stopped).await;
        let asked = last.1.asked();
        assert_eq!(asked.len(), 1);

        let mailbox = Mailbox::default();
        assert_eq!(house.deliver(&mailbox).await.delivered, 2);
        assert!(!mailbox.asked().contains(&asked[0]));
    }

    #[tokio::test]
    async fn more_than_a_batch_is_delivered_in_one_round() {
        let house = House::new(true, "ana@example.org").await;
        for _ in 0..=2 * BATCH {
            house.set_password().await;
        }
        let report = house.deliver(&Mailbox::default()).await;
        assert_eq!(report.delivered, 2 * BATCH + 1);
    }
}
