//! Mailed tokens, registrations and proven addresses: each token is worth one use, and an address is one
//! user's at a time.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{after, end_reason, open, password, start, user};
use crate::audit::{AuditQuery, Caller, Event, Trail};
use crate::clock::SystemRandomness;
use crate::mail::{
    ClaimedMail, Mail, MailAnswer, MailClaim, MailId, MailOutcome, MailWaiting, Message,
};
use crate::mailed_token::{
    Binding, MOST_MAILED_TOKENS, MailedPurpose, MailedToken, MailedTokenId, Registration,
    StoredToken,
};
use crate::session::{EndReason, EndedBy, SessionEnd};
use crate::store::{
    AccountChange, AccountChangeKind, EmailOutcome, EmailProof, EndedAt, IssueToken, PasswordReset,
    Register, RegisterOutcome, RegistrationOutcome, ResetOutcome, Store,
};
use crate::user::{Email, User, Username};

fn email(text: &str) -> Email {
    Email::parse(text).expect("a good address")
}

fn token(user: &User, purpose: MailedPurpose, address: &str) -> MailedToken {
    MailedToken {
        id: MailedTokenId::new(start(), &SystemRandomness),
        purpose,
        user: user.id,
        email: address.to_owned(),
        binding: Binding([7; 32]),
        created_at: start(),
        expires_at: after(3_600),
    }
}

fn mail(message: Message) -> Mail {
    Mail {
        id: MailId::new(start(), &SystemRandomness),
        recipient: "ana@example.org".to_owned(),
        username: "ana".to_owned(),
        message,
        queued_at: start(),
    }
}

fn trail(event: Event<'_>) -> Trail {
    Trail::default().with(&event, after(60), None)
}

/// The names of the events that concern a user, the newest first.
async fn events_of(store: &dyn Store, user: &User) -> Vec<String> {
    let query = AuditQuery {
        user: Some(user.id),
        session: None,
        event: None,
        since: None,
        until: None,
        after: None,
        limit: 100,
    };
    let listed = store.list_audit(&query).await.expect("the store works");
    listed.into_iter().map(|it| it.entry.event).collect()
}

fn wish() -> Mail {
    mail(Message::ResetAsked)
}

async fn claim(store: &dyn Store, seconds: i64) -> Vec<ClaimedMail> {
    let claim = MailClaim {
        now: after(seconds),
        until: after(seconds + 60),
        limit: 100,
    };
    store.claim_mail(&claim).await.expect("the store works")
}

/// Puts a token into the store, as the worker does.
async fn keep(store: &dyn Store, token: &MailedToken) {
    store
        .queue_mail(&wish(), &Trail::default())
        .await
        .expect("the store works");
    let claimed = claim(store, 0).await;
    let mut letter = mail(Message::ResetPassword { token: token.id });
    letter.queued_at = after(100_000);
    let answer = MailAnswer {
        token: Some(token.clone()),
        mail: letter,
    };
    let answered = store.answer_mail(&claimed[0], &[answer]).await;
    assert!(answered.expect("the store works"));
}

async fn kept(
    store: &dyn Store,
    user: &User,
    purpose: MailedPurpose,
    address: &str,
) -> MailedToken {
    let token = token(user, purpose, address);
    keep(store, &token).await;
    token
}

async fn find(store: &dyn Store, id: MailedTokenId) -> Option<StoredToken> {
    store.find_mailed_token(id).await.expect("the store works")
}

async fn is_there(store: &dyn Store, token: &MailedToken) -> bool {
    find(store, token.id).await.is_some()
}

fn reset(token: &MailedToken, owner: &User) -> PasswordReset {
    PasswordReset {
        token: token.id,
        user: owner.id,
        before: password(&owner.username),
        email: owner.email.clone(),
        new: password("new"),
        ending: EndedAt {
            at: after(60),
            by: EndedBy::User(owner.id),
        },
        mail: Some(mail(Message::PasswordReset)),
        trail: trail(Event::PasswordReset { user: owner.id }),
        proof: trail(Event::EmailVerified { user: owner.id }),
    }
}

fn proof(token: &MailedToken, owner: &User) -> EmailProof {
    EmailProof {
        token: token.id,
        user: owner.id,
        before: password(&owner.username),
        from: owner.email.clone(),
        to: token.email.clone(),
        at: after(60),
        mail: None,
        trail: trail(Event::EmailVerified { user: owner.id }),
    }
}

async fn prove(store: &dyn Store, proof: &EmailProof) -> EmailOutcome {
    store.verify_email(proof).await.expect("the store works")
}

async fn found(store: &dyn Store, user: &User) -> User {
    let found = store.find_user(user.id).await.expect("the store works");
    found.expect("the user is there")
}

fn registration(username: &str, address: &str) -> Registration {
    Registration {
        id: MailedTokenId::new(start(), &SystemRandomness),
        username: username.to_owned(),
        email: address.to_owned(),
        password: password("registered"),
        first_name: "Zoë".to_owned(),
        last_name: "O'Neill".to_owned(),
        created_at: start(),
        expires_at: after(3_600),
    }
}

async fn register(store: &dyn Store, registration: &Registration) -> RegisterOutcome {
    let register = Register {
        registration: registration.clone(),
        mail: Some(mail(Message::Register {
            registration: registration.id,
        })),
        trail: trail(Event::RegistrationAsked),
    };
    store.register(&register).await.expect("the store works")
}

async fn complete(store: &dyn Store, registration: &Registration) -> RegistrationOutcome {
    let trail = Trail::of_registrant(&Caller::default(), after(60));
    let completed = store.complete_registration(registration.id, after(60), &trail);
    completed.await.expect("the store works")
}

/// Letters take the place of the wish for them, once; whoever's claim has run out changes nothing.
pub async fn a_wish_is_answered_once(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    store.queue_mail(&wish(), &Trail::default()).await.unwrap();
    let late = claim(&*store, 0).await;
    let claimed = claim(&*store, 60).await;
    assert_eq!((late.len(), claimed.len()), (1, 1));
    let token = token(&ana, MailedPurpose::ResetPassword, "ana@example.org");
    let letter = mail(Message::ResetPassword { token: token.id });
    let answers = [MailAnswer {
        token: Some(token.clone()),
        mail: letter.clone(),
    }];
    assert!(!store.answer_mail(&late[0], &answers).await.unwrap());
    assert!(!is_there(&*store, &token).await);
    assert!(store.answer_mail(&claimed[0], &answers).await.unwrap());
    assert!(!store.answer_mail(&claimed[0], &answers).await.unwrap());
    let Some(StoredToken::OfUser(stored, owner)) = find(&*store, token.id).await else {
        panic!("no token");
    };
    assert_eq!((&stored, &owner.user), (&token, &ana));
    assert_eq!(owner.password, password("ana"));
    let letters = claim(&*store, 200).await;
    let letters: Vec<_> = letters.into_iter().map(|claimed| claimed.mail).collect();
    assert_eq!(letters, [letter]);
}

/// Mails are counted until they are settled, and those that somebody has begun with apart.
pub async fn mails_that_wait_are_counted(store: Arc<dyn Store>) {
    let count = async || {
        let MailWaiting { waiting, tried } = store.count_mail().await.unwrap();
        (waiting, tried)
    };
    assert_eq!(count().await, (0, 0));
    for _ in 0..2 {
        store.queue_mail(&wish(), &Trail::default()).await.unwrap();
    }
    assert_eq!(count().await, (2, 0));
    let claimed = claim(&*store, 0).await;
    let later = MailOutcome::Later(after(3_600));
    assert!(store.settle_mail(&claimed[0], later).await.unwrap());
    assert_eq!(count().await, (2, 2));
    let done = store.settle_mail(&claimed[1], MailOutcome::Done).await;
    assert!(done.unwrap());
    store.queue_mail(&wish(), &Trail::default()).await.unwrap();
    assert_eq!(count().await, (2, 1));
}

/// An address is one, whether its domain is written in Unicode or in ASCII.
pub async fn an_address_is_found_in_either_form_of_its_domain(store: Arc<dyn Store>) {
    let forms = ["ana@bücher.example", "ana@xn--bcher-kva.example"];
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    for (owner, address) in [(&ana, forms[0]), (&bob, forms[1])] {
        super::change(&*store, owner, AccountChangeKind::Email(email(address))).await;
    }
    for form in forms {
        let found = store.find_by_email(&email(form), 5).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|found| found.user.id).collect();
        assert_eq!(found, [ana.id, bob.id], "{form}");
    }
    let ana = found(&*store, &ana).await;
    let token = kept(&*store, &ana, MailedPurpose::VerifyEmail, forms[0]).await;
    assert_eq!(
        prove(&*store, &proof(&token, &ana)).await,
        EmailOutcome::Proven
    );
    for form in forms {
        let owner = store.find_verified(&email(form)).await.unwrap();
        assert_eq!(owner.unwrap().user.id, ana.id, "{form}");
    }
    // And so it is nobody else's.
    let bob = found(&*store, &bob).await;
    let token = kept(&*store, &bob, MailedPurpose::VerifyEmail, forms[1]).await;
    assert_eq!(
        prove(&*store, &proof(&token, &bob)).await,
        EmailOutcome::Taken
    );
}

/// Every kind of message is read back as it was written.
pub async fn every_message_is_read_back(store: Arc<dyn Store>) {
    let id = MailedTokenId::new(start(), &SystemRandomness);
    let to = "a…@example.org".to_owned();
    for message in [
        Message::PasswordChanged {
            by: EndedBy::CommandLine,
        },
        Message::PasswordReset,
        Message::EmailChanged { to },
        Message::ResetPassword { token: id },
        Message::VerifyEmail { token: id },
        Message::ChangeEmail { token: id },
        Message::Register { registration: id },
        Message::AddressTaken,
        Message::ResetAsked,
        Message::VerificationAsked,
    ] {
        let mail = mail(message);
        store.queue_mail(&mail, &Trail::default()).await.unwrap();
        let claimed = claim(&*store, 0).await;
        assert_eq!(claimed[0].mail, mail);
        let done = store.settle_mail(&claimed[0], MailOutcome::Done).await;
        assert!(done.unwrap());
    }
}

/// Of more than a few tokens of one purpose the oldest are removed, and none of another.
pub async fn a_user_has_a_few_tokens_of_a_purpose(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let others = [
        kept(&*store, &ana, MailedPurpose::VerifyEmail, "ana@example.org").await,
        kept(
            &*store,
            &bob,
            MailedPurpose::ResetPassword,
            "bob@example.org",
        )
        .await,
    ];
    let mut tokens = Vec::new();
    for second in 0..=i64::from(MOST_MAILED_TOKENS) {
        let mut token = token(&ana, MailedPurpose::ResetPassword, "ana@example.org");
        token.id = MailedTokenId::new(after(second), &SystemRandomness);
        keep(&*store, &token).await;
        tokens.push(token);
    }
    assert!(!is_there(&*store, &tokens[0]).await);
    for token in tokens[1..].iter().chain(&others) {
        assert!(is_there(&*store, token).await);
    }
}

/// A token is issued for a session that is alive, with its letter.
pub async fn only_a_live_session_is_issued_a_token(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let session = open(&*store, &ana).await;
    let token = token(&ana, MailedPurpose::ChangeEmail, "ana@example.com");
    let issue = IssueToken {
        session: session.id,
        mail: Some(mail(Message::ChangeEmail { token: token.id })),
        trail: trail(Event::EmailChangeAsked { user: ana.id }),
        token,
    };
    assert!(store.issue_token(&issue).await.unwrap());
    assert!(is_there(&*store, &issue.token).await);
    assert_eq!(claim(&*store, 0).await.len(), 1);
    let end = SessionEnd {
        reason: EndReason::Logout,
        at: after(1),
        by: EndedBy::User(ana.id),
    };
    assert!(
        store
            .end_session(session.id, end, &Trail::default())
            .await
            .unwrap()
    );
    let another = IssueToken {
        token: self::token(&ana, MailedPurpose::ChangeEmail, "ana@example.net"),
        ..issue.clone()
    };
    assert!(!store.issue_token(&another).await.unwrap());
    assert!(!is_there(&*store, &another.token).await);
    assert_eq!(claim(&*store, 100).await.len(), 1);
}

/// A reset sets the password, ends every session, proves the address, tells of it, and is worth nothing
/// the second time.
pub async fn a_reset_ends_every_session_and_uses_its_token_up(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let (one, other) = (open(&*store, &ana).await, open(&*store, &ana).await);
    let bobs = open(&*store, &bob).await;
    let token = kept(
        &*store,
        &ana,
        MailedPurpose::ResetPassword,
        "ana@example.org",
    )
    .await;
    let reset = reset(&token, &ana);
    let outcome = store.reset_password(&reset).await.unwrap();
    let ResetOutcome::Reset { ended, proven } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((ended.len(), proven), (2, true));
    for session in [one.id, other.id] {
        let reason = end_reason(&*store, session).await;
        assert_eq!(reason, Some(EndReason::PasswordChanged));
    }
    assert_eq!(end_reason(&*store, bobs.id).await, None);
    let now = store.find_credentials("ana").await.unwrap().unwrap();
    assert_eq!(now.password, password("new"));
    assert!(now.user.email_verified);
    let told = claim(&*store, 0).await;
    assert_eq!(told[0].mail.message, Message::PasswordReset);
    let again = PasswordReset {
        before: password("new"),
        ..reset
    };
    let outcome = store.reset_password(&again).await.unwrap();
    assert_eq!(outcome, ResetOutcome::Dead);
    let mut left = events_of(&*store, &ana).await;
    left.sort_unstable();
    let own = ["email_verified", "password_reset"];
    assert_eq!(left, [&own[..], &["session_ended"; 2]].concat());
    // Proven it is once.
    let token = kept(
        &*store,
        &ana,
        MailedPurpose::ResetPassword,
        "ana@example.org",
    )
    .await;
    let another = PasswordReset {
        before: password("new"),
        ..self::reset(&token, &ana)
    };
    let outcome = store.reset_password(&another).await.unwrap();
    let proven = matches!(outcome, ResetOutcome::Reset { proven: true, .. });
    assert!(!proven, "{outcome:?}");
    let left = events_of(&*store, &ana).await;
    let proofs = left.iter().filter(|event| *event == "email_verified");
    assert_eq!(proofs.count(), 1, "{left:?}");
}

/// Whose password or address is another by now, or who may not sign in, resets nothing.
pub async fn a_reset_is_of_the_account_as_it_was(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let token = kept(
        &*store,
        &ana,
        MailedPurpose::ResetPassword,
        "ana@example.org",
    )
    .await;
    let good = reset(&token, &ana);
    let another_password = PasswordReset {
        before: password("another"),
        ..good.clone()
    };
    let another_address = PasswordReset {
        email: "ana@example.com".to_owned(),
        ..good.clone()
    };
    for dead in [another_password, another_address] {
        let outcome = store.reset_password(&dead).await.unwrap();
        assert_eq!(outcome, ResetOutcome::Dead);
    }
    let set_active = async |active| {
        super::change(&*store, &ana, AccountChangeKind::Active(active)).await;
    };
    set_active(false).await;
    let outcome = store.reset_password(&good).await.unwrap();
    assert_eq!(outcome, ResetOutcome::Dead);
    set_active(true).await;
    let outcome = store.reset_password(&good).await.unwrap();
    assert!(matches!(outcome, ResetOutcome::Reset { .. }), "{outcome:?}");
}

/// Fifty at once with one token: one of them sets the password.
pub async fn of_many_resets_at_once_exactly_one_happens(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let token = kept(
        &*store,
        &ana,
        MailedPurpose::ResetPassword,
        "ana@example.org",
    )
    .await;
    let mut resets = JoinSet::new();
    for number in 0..50 {
        let (store, mut reset) = (Arc::clone(&store), reset(&token, &ana));
        reset.new = password(&number.to_string());
        reset.mail = None;
        resets.spawn(async move { store.reset_password(&reset).await.unwrap() });
    }
    let outcomes = resets.join_all().await;
    let happened = outcomes.iter().filter(|it| **it != ResetOutcome::Dead);
    assert_eq!(happened.count(), 1);
}

/// A user proves the address of the account, or the one that takes its place.
pub async fn a_proof_makes_the_address_the_users(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    assert!(!ana.email_verified);
    assert!(
        store
            .find_verified(&email("ana@example.org"))
            .await
            .unwrap()
            .is_none()
    );
    let token = kept(&*store, &ana, MailedPurpose::VerifyEmail, "ana@example.org").await;
    let proof = proof(&token, &ana);
    assert_eq!(prove(&*store, &proof).await, EmailOutcome::Proven);
    assert_eq!(prove(&*store, &proof).await, EmailOutcome::Dead);
    assert!(found(&*store, &ana).await.email_verified);
    let by_address = store.find_verified(&email("ANA@example.org")).await;
    assert_eq!(by_address.unwrap().unwrap().user.id, ana.id);

    let token = kept(&*store, &ana, MailedPurpose::ChangeEmail, "ana@example.com").await;
    let change = EmailProof {
        mail: Some(mail(Message::EmailChanged {
            to: "a…@example.com".to_owned(),
        })),
        ..self::proof(&token, &ana)
    };
    assert_eq!(prove(&*store, &change).await, EmailOutcome::Proven);
    let ana = found(&*store, &ana).await;
    assert_eq!((&*ana.email, ana.email_verified), ("ana@example.com", true));
    let told = claim(&*store, 0).await;
    assert!(matches!(told[0].mail.message, Message::EmailChanged { .. }));
    let old = store.find_verified(&email("ana@example.org")).await;
    assert!(old.unwrap().is_none());
    // The session that was opened knows it as well.
    let session = open(&*store, &ana).await;
    let (_, user) = store.find_session(session.id).await.unwrap().unwrap();
    assert!(user.unwrap().email_verified);
}

/// What an administrator sets is not proven, until it is what was proven before.
pub async fn an_address_that_is_set_is_not_proven(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let token = kept(&*store, &ana, MailedPurpose::VerifyEmail, "ana@example.org").await;
    prove(&*store, &proof(&token, &ana)).await;
    let set = async |address: &str| {
        let change = AccountChange {
            user: ana.id,
            kind: AccountChangeKind::Email(email(address)),
            ending: super::by_service(),
            mail: None,
            trail: Trail::default(),
        };
        let changed = store.change_account(&change).await.unwrap().unwrap();
        assert!(changed.ended.is_empty());
        assert_eq!(found(&*store, &ana).await, changed.user);
        changed.user
    };
    let same = set("ana@example.org").await;
    assert!(same.email_verified);
    let another = set("ana@example.com").await;
    assert_eq!(
        (&*another.email, another.email_verified),
        ("ana@example.com", false)
    );
}

/// An address is one user's: whoever comes second has not proven it, unless the first has another by now.
pub async fn an_address_is_proven_for_one_user(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let both = "both@example.org";
    let anas = kept(&*store, &ana, MailedPurpose::ChangeEmail, both).await;
    let bobs = kept(
        &*store,
        &bob,
        MailedPurpose::ChangeEmail,
        "BOTH@example.org",
    )
    .await;
    assert_eq!(
        prove(&*store, &proof(&anas, &ana)).await,
        EmailOutcome::Proven
    );
    assert_eq!(
        prove(&*store, &proof(&bobs, &bob)).await,
        EmailOutcome::Taken
    );
    assert_eq!(found(&*store, &bob).await, bob);
    super::change(
        &*store,
        &ana,
        AccountChangeKind::Email(email("ana@example.net")),
    )
    .await;
    assert_eq!(
        prove(&*store, &proof(&bobs, &bob)).await,
        EmailOutcome::Proven
    );
    let owner = store.find_verified(&email(both)).await.unwrap().unwrap();
    assert_eq!(owner.user.id, bob.id);
}

/// Two users prove one address at the same moment: one of them has it.
pub async fn of_many_who_prove_one_address_at_once_exactly_one_has_it(store: Arc<dyn Store>) {
    let mut proofs = JoinSet::new();
    for number in 0..10 {
        let owner = user(&*store, &format!("user{number}")).await;
        let token = kept(
            &*store,
            &owner,
            MailedPurpose::ChangeEmail,
            "one@example.org",
        )
        .await;
        let (store, proof) = (Arc::clone(&store), proof(&token, &owner));
        proofs.spawn(async move { store.verify_email(&proof).await.unwrap() });
    }
    let outcomes = proofs.join_all().await;
    let proven = outcomes.iter().filter(|it| **it == EmailOutcome::Proven);
    assert_eq!(proven.count(), 1, "{outcomes:?}");
}

/// Who has an address is found in whichever case it is typed; whoever has proven it comes first.
pub async fn users_are_found_by_their_address(store: Arc<dyn Store>) {
    let (ana, bob) = (user(&*store, "ana").await, user(&*store, "bob").await);
    let kind = || AccountChangeKind::Email(email("Ana@Example.org"));
    super::change(&*store, &bob, kind()).await;
    let named = async |address: &str, most| {
        let found = store.find_by_email(&email(address), most).await.unwrap();
        found.into_iter().map(|it| it.user.id).collect::<Vec<_>>()
    };
    assert_eq!(named("ANA@example.ORG", 10).await, [ana.id, bob.id]);
    let token = kept(&*store, &bob, MailedPurpose::VerifyEmail, "Ana@example.org").await;
    let bob = found(&*store, &bob).await;
    assert_eq!(
        prove(&*store, &proof(&token, &bob)).await,
        EmailOutcome::Proven
    );
    assert_eq!(named("ana@example.org", 10).await, [bob.id, ana.id]);
    assert_eq!(named("ana@example.org", 1).await, [bob.id]);
    assert!(named("eva@example.org", 10).await.is_empty());
    assert!(named("ana%@example.org", 10).await.is_empty());
}

/// A registration reserves its name until it becomes a user, with everything that was said of it.
pub async fn a_registration_becomes_a_user_once(store: Arc<dyn Store>) {
    let zoe = registration("Zoë", "Zoe@example.org");
    assert_eq!(register(&*store, &zoe).await, RegisterOutcome::Pending);
    assert!(store.find_credentials("Zoë").await.unwrap().is_none());
    assert_eq!(claim(&*store, 0).await.len(), 1);
    let stored = find(&*store, zoe.id).await;
    let Some(StoredToken::OfRegistration(stored)) = stored else {
        panic!("{stored:?}");
    };
    assert_eq!(stored, zoe);
    let address = email("zoe@EXAMPLE.org");
    let waiting = store.find_registrations(&address, start(), 10).await;
    assert_eq!(waiting.unwrap(), std::slice::from_ref(&zoe));
    let expired = store.find_registrations(&address, after(3_600), 10).await;
    assert!(expired.unwrap().is_empty());

    let outcome = complete(&*store, &zoe).await;
    let RegistrationOutcome::Made(made) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(found(&*store, &made).await, made);
    assert_eq!(
        (&*made.username, &*made.email, made.email_verified),
        ("Zoë", "Zoe@example.org", true)
    );
    assert_eq!((&*made.first_name, &*made.last_name), ("Zoë", "O'Neill"));
    assert!(made.is_active && !made.is_staff && !made.is_superuser);
    let credentials = store.find_credentials("Zoë").await.unwrap().unwrap();
    assert_eq!(credentials.password, password("registered"));
    assert_eq!(complete(&*store, &zoe).await, RegistrationOutcome::Dead);
    assert!(find(&*store, zoe.id).await.is_none());
    let left = events_of(&*store, &made).await;
    assert_eq!(left, ["email_verified", "user_created"]);
}

/// A name is reserved for one, in whichever case; and free again when the reservation has expired.
pub async fn a_name_is_reserved_for_one(store: Arc<dyn Store>) {
    user(&*store, "ana").await;
    let taken = registration("ana", "eva@example.org");
    assert_eq!(
        register(&*store, &taken).await,
        RegisterOutcome::UsernameTaken
    );
    let first = registration("zoe", "zoe@example.org");
    assert_eq!(register(&*store, &first).await, RegisterOutcome::Pending);
    for alike in ["ZOE", "z0e", "zо\u{435}"] {
        let alike = registration(alike, "eva@example.org");
        let outcome = register(&*store, &alike).await;
        assert_eq!(
            outcome,
            RegisterOutcome::UsernameTaken,
            "{}",
            alike.username
        );
    }
    let second = registration("Zoe", "eva@example.org");
    assert_eq!(
        register(&*store, &second).await,
        RegisterOutcome::UsernameTaken
    );
    assert!(find(&*store, second.id).await.is_none());
    let later = Registration {
        created_at: first.expires_at,
        expires_at: after(7_200),
        ..second
    };
    assert_eq!(register(&*store, &later).await, RegisterOutcome::Pending);
    assert!(find(&*store, first.id).await.is_none());
    assert_eq!(complete(&*store, &first).await, RegistrationOutcome::Dead);
    assert!(Username::parse(&later.username).is_ok());
}

/// Twenty register one name at the same moment: one of them has it.
pub async fn of_many_registrations_of_one_name_exactly_one_is_kept(store: Arc<dyn Store>) {
    let mut registrations = JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        let one = registration("zoe", &format!("zoe{number}@example.org"));
        registrations.spawn(async move { register(&*store, &one).await });
    }
    let outcomes = registrations.join_all().await;
    let kept = outcomes
        .iter()
        .filter(|it| **it == RegisterOutcome::Pending);
    assert_eq!(kept.count(), 1);
    assert_eq!(claim(&*store, 0).await.len(), 1);
}

/// What a registration asks for may be somebody else's by the time that its address is proven.
pub async fn a_registration_may_come_too_late(store: Arc<dyn Store>) {
    let zoe = registration("zoe", "zoe@example.org");
    let eve = registration("eve", "ZOE@example.org");
    for registration in [&zoe, &eve] {
        let outcome = register(&*store, registration).await;
        assert_eq!(outcome, RegisterOutcome::Pending);
    }
    let made = user(&*store, "zoe").await;
    assert_eq!(
        complete(&*store, &zoe).await,
        RegistrationOutcome::UsernameTaken
    );
    let token = kept(
        &*store,
        &made,
        MailedPurpose::VerifyEmail,
        "zoe@example.org",
    )
    .await;
    assert_eq!(
        prove(&*store, &proof(&token, &made)).await,
        EmailOutcome::Proven
    );
    assert_eq!(
        complete(&*store, &eve).await,
        RegistrationOutcome::EmailTaken
    );
    assert!(store.find_credentials("eve").await.unwrap().is_none());
    let expired = registration("ida", "ida@example.org");
    register(&*store, &expired).await;
    let trail = Trail::default();
    let late = store.complete_registration(expired.id, expired.expires_at, &trail);
    assert_eq!(late.await.unwrap(), RegistrationOutcome::Dead);
}

/// What nobody can complete keeps nobody else from the name.
pub async fn a_registration_without_a_letter_is_not_kept(store: Arc<dyn Store>) {
    let zoe = registration("zoe", "zoe@example.org");
    let without = Register {
        registration: zoe.clone(),
        mail: None,
        trail: trail(Event::RegistrationAsked),
    };
    let outcome = store.register(&without).await.unwrap();
    assert_eq!(outcome, RegisterOutcome::Pending);
    assert_eq!(complete(&*store, &zoe).await, RegistrationOutcome::Dead);
    let other = registration("zoe", "eve@example.org");
    assert_eq!(register(&*store, &other).await, RegisterOutcome::Pending);
    // A name that is taken is told all the same.
    let outcome = store.register(&without).await.unwrap();
    assert_eq!(outcome, RegisterOutcome::UsernameTaken);
}

/// Fifty show one registration's token at once: one user is made.
pub async fn of_many_completions_at_once_exactly_one_makes_a_user(store: Arc<dyn Store>) {
    let zoe = registration("zoe", "zoe@example.org");
    register(&*store, &zoe).await;
    let mut completions = JoinSet::new();
    for _ in 0..50 {
        let (store, zoe) = (Arc::clone(&store), zoe.clone());
        completions.spawn(async move { complete(&*store, &zoe).await });
    }
    let outcomes = completions.join_all().await;
    let made = outcomes
        .iter()
        .filter(|it| matches!(it, RegistrationOutcome::Made(_)));
    assert_eq!(made.count(), 1, "{outcomes:?}");
}

/// A deleted user leaves no token behind and no proof: the address is free.
pub async fn deletion_forgets_what_was_mailed_and_proven(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let token = kept(&*store, &ana, MailedPurpose::VerifyEmail, "ana@example.org").await;
    prove(&*store, &proof(&token, &ana)).await;
    let token = kept(
        &*store,
        &ana,
        MailedPurpose::ResetPassword,
        "ana@example.org",
    )
    .await;
    store
        .delete_user(ana.id, super::by_service(), &Trail::default())
        .await
        .unwrap();
    assert!(!is_there(&*store, &token).await);
    let another = registration("ana", "ana@example.org");
    assert_eq!(register(&*store, &another).await, RegisterOutcome::Pending);
    let outcome = complete(&*store, &another).await;
    assert!(
        matches!(outcome, RegistrationOutcome::Made(_)),
        "{outcome:?}"
    );
}

/// What has expired is removed, so many at a time, and nothing else.
pub async fn expired_tokens_are_removed(store: Arc<dyn Store>) {
    let ana = user(&*store, "ana").await;
    let alive = kept(&*store, &ana, MailedPurpose::VerifyEmail, "ana@example.org").await;
    for _ in 0..3 {
        let mut token = token(&ana, MailedPurpose::ResetPassword, "ana@example.org");
        token.expires_at = after(10);
        keep(&*store, &token).await;
    }
    let waiting = registration("zoe", "zoe@example.org");
    register(&*store, &waiting).await;
    let expired = Registration {
        expires_at: after(10),
        ..registration("eva", "eva@example.org")
    };
    register(&*store, &expired).await;
    assert_eq!(store.sweep_mailed_tokens(after(9), 100).await.unwrap(), 0);
    assert_eq!(store.sweep_mailed_tokens(after(10), 3).await.unwrap(), 3);
    assert_eq!(store.sweep_mailed_tokens(after(10), 3).await.unwrap(), 1);
    assert!(is_there(&*store, &alive).await);
    assert!(find(&*store, waiting.id).await.is_some());
}

/// Not for every store: where the users table has one column for the name and for the address, whoever
/// registers has both in one, and whoever moves is called otherwise.
pub async fn where_the_name_is_the_address(store: Arc<dyn Store>) {
    let other = registration("zoe", "zoe@example.org");
    let outcome = register(&*store, &other).await;
    assert_eq!(outcome, RegisterOutcome::NameIsNotTheAddress);
    let mut made = Vec::new();
    for address in ["zoe@example.org", "ida@example.org"] {
        let own = registration(address, address);
        assert_eq!(register(&*store, &own).await, RegisterOutcome::Pending);
        let outcome = complete(&*store, &own).await;
        let RegistrationOutcome::Made(user) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (&*user.username, &*user.email, user.email_verified),
            (address, address, true)
        );
        made.push(user);
    }
    let [zoe, _] = <[User; 2]>::try_from(made).unwrap();
    let moving = async |to: &str| {
        let token = kept(&*store, &zoe, MailedPurpose::ChangeEmail, to).await;
        let proof = EmailProof {
            before: password("registered"),
            ..proof(&token, &zoe)
        };
        prove(&*store, &proof).await
    };
    assert_eq!(moving("ida@example.org").await, EmailOutcome::Taken);
    assert_eq!(moving("zoe@example.com").await, EmailOutcome::Proven);
    let moved = found(&*store, &zoe).await;
    assert_eq!(
        (&*moved.username, &*moved.email, moved.email_verified),
        ("zoe@example.com", "zoe@example.com", true)
    );
}
