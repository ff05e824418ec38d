//! The store that forgets: for tests, examples and throw-away services.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    AccountChange, AccountChangeKind, AccountChanged, Change, CreateUserError, EmailOutcome,
    EmailProof, EndedAt, IssueToken, NotedNames, OpenOutcome, OpenSession, PasswordChange,
    PasswordOutcome, PasswordReset, Powers, Register, RegisterOutcome, RegistrationOutcome,
    ResetOutcome, Rotation, SealedSigningKey, SessionQuery, SessionSweep, Store, Swept, TakeOver,
    TakeOverOutcome, UserQuery, Watcher, Watchers,
};
use crate::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use crate::error::StoreError;
use crate::mail::{ClaimedMail, Mail, MailAnswer, MailClaim, MailId, MailOutcome, MailWaiting};
use crate::mailed_token::{
    MOST_MAILED_TOKENS, MailedToken, MailedTokenId, Registration, StoredToken,
};
use crate::password::EncodedPassword;
use crate::session::{EndReason, EndedBy, EndedSession, Session, SessionEnd, SessionId};
use crate::throttle::{
    self, AttemptDecision, AttemptOutcome, Counter, Refund, Reservation, ThrottleKey,
};
use crate::user::{Credentials, Email, Likeness, NewUser, ProfileChange, User, UserId};

/// Everything in memory, behind one lock. Nothing outlives the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    watchers: Watchers,
}

#[derive(Debug, Default)]
struct Tables {
    last_user_id: i64,
    users: BTreeMap<UserId, (User, EncodedPassword)>,
    /// What the names of those users look like.
    looks: BTreeMap<UserId, Likeness>,
    sessions: BTreeMap<SessionId, Session>,
    /// Up to when the legacy tokens of a user are refused.
    cut_offs: BTreeMap<UserId, Timestamp>,
    keys: Vec<SealedSigningKey>,
    upkeep_until: Option<Timestamp>,
    throttles: BTreeMap<ThrottleKey, Counter>,
    outbox: BTreeMap<MailId, Queued>,
    mailed_tokens: BTreeMap<MailedTokenId, MailedToken>,
    registrations: BTreeMap<MailedTokenId, Registration>,
    /// The audit log, in the order in which it was written.
    audit: BTreeMap<i64, AuditEntry>,
    last_audit_number: i64,
}

#[derive(Debug)]
struct Queued {
    mail: Mail,
    due_at: Timestamp,
    attempts: u32,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No transition panics half-way: the tables are whole even after a poisoned lock.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_ended(&self, ended: &[EndedSession]) {
        for session in ended {
            self.watchers.tell(Change::SessionEnded(*session));
        }
    }
}

impl Tables {
    fn record(&mut self, entries: impl IntoIterator<Item = AuditEntry>) {
        for entry in entries {
            self.last_audit_number += 1;
            self.audit.insert(self.last_audit_number, entry);
        }
    }

    /// Leaves what a transition leaves that ended these sessions.
    fn leave(&mut self, trail: &Trail, ended: &[EndedSession]) {
        self.record(trail.entries.iter().cloned());
        self.record(ended.iter().map(|ended| trail.of_end(ended)));
    }

    fn end(&mut self, id: SessionId, end: SessionEnd) -> Option<EndedSession> {
        let session = self
            .sessions
            .get_mut(&id)
            .filter(|session| session.end.is_none())?;
        let end = session.end_at(end);
        session.end = Some(end);
        Some(EndedSession {
            id,
            user: session.user_id,
            end,
        })
    }

    fn queue(&mut self, mail: Option<&Mail>) {
        if let Some(mail) = mail {
            let queued = Queued {
                mail: mail.clone(),
                due_at: mail.queued_at,
                attempts: 0,
            };
            self.outbox.insert(mail.id, queued);
        }
    }

    /// Whether somebody has a name, or one that is alike.
    fn has_name(&self, username: &str) -> bool {
        let likeness = Likeness::of(username);
        self.looks.values().any(|look| look.is_alike(&likeness))
    }

    fn create(&mut self, new: &NewUser, trail: &Trail) -> Option<User> {
        if self.has_name(new.username.as_str()) {
            return None;
        }
        self.last_user_id += 1;
        let user = User {
            id: UserId(self.last_user_id),
            username: new.username.as_str().to_owned(),
            email: new.email.as_str().to_owned(),
            email_verified: false,
            first_name: new.first_name.as_str().to_owned(),
            last_name: new.last_name.as_str().to_owned(),
            is_active: true,
            is_staff: new.is_staff,
            is_superuser: new.is_superuser,
            last_login: None,
            date_joined: new.date_joined,
        };
        let stored = (user.clone(), new.password.clone());
        self.looks.insert(user.id, new.username.likeness());
        self.users.insert(user.id, stored);
        self.record(trail.entries.iter().map(|entry| AuditEntry {
            user: entry.user.or(Some(user.id)),
            ..entry.clone()
        }));
        Some(user)
    }

    fn keep_token(&mut self, token: &MailedToken) {
        self.mailed_tokens.insert(token.id, token.clone());
        let of_its_kind = self.mailed_tokens.values();
        let of_its_kind =
            of_its_kind.filter(|other| (other.user, other.purpose) == (token.user, token.purpose));
        let mut ids: Vec<_> = of_its_kind.map(|other| other.id).collect();
        // The names begin with the time.
        ids.sort_unstable_by(|one, other| other.cmp(one));
        for id in ids.into_iter().skip(MOST_MAILED_TOKENS as usize) {
            self.mailed_tokens.remove(&id);
        }
    }

    /// Who has proven an address and still has it.
    fn verified(&self, folded: &str) -> Option<&(User, EncodedPassword)> {
        let mut users = self.users.values();
        users.find(|(user, _)| user.email_verified && Email::fold(&user.email) == folded)
    }

    fn live_of(&self, user: UserId) -> impl Iterator<Item = &Session> {
        self.sessions
            .values()
            .filter(move |session| session.user_id == user && session.end.is_none())
    }

    fn end_all(
        &mut self,
        user: UserId,
        spared: Option<SessionId>,
        end: SessionEnd,
    ) -> Vec<EndedSession> {
        let cut_off = self.cut_offs.entry(user).or_insert(end.at);
        *cut_off = end.at.max(*cut_off);
        let doomed: Vec<SessionId> = self
            .live_of(user)
            .map(|session| session.id)
            .filter(|id| Some(*id) != spared)
            .collect();
        doomed
            .into_iter()
            .filter_map(|id| self.end(id, end))
            .collect()
    }

    /// Makes room for one more session of a user who may have so many.
    fn end_least_recently_used(
        &mut self,
        user: UserId,
        most: usize,
        ending: EndedAt,
    ) -> Vec<EndedSession> {
        let mut live: Vec<_> = self
            .live_of(user)
            .map(|session| (session.rotated_at, session.id))
            .collect();
        live.sort_unstable();
        let surplus = (live.len() + 1).saturating_sub(most);
        let doomed = live.into_iter().take(surplus);
        let end = ending.because(EndReason::TooManySessions);
        doomed.filter_map(|(_, id)| self.end(id, end)).collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        self.watchers.add(watcher);
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.tables().users.get(&id).map(|(user, _)| user.clone()))
    }

    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        let tables = self.tables();
        let found = tables
            .users
            .values()
            .find(|(user, _)| user.username == username);
        Ok(found.map(credentials))
    }

    async fn find_verified(&self, address: &Email) -> Result<Option<Credentials>, StoreError> {
        let tables = self.tables();
        Ok(tables.verified(&address.folded()).map(credentials))
    }

    async fn find_by_email(
        &self,
        address: &Email,
        most: u32,
    ) -> Result<Vec<Credentials>, StoreError> {
        let folded = address.folded();
        let tables = self.tables();
        let users = tables.users.values();
        let mut found: Vec<_> = users
            .filter(|(user, _)| Email::fold(&user.email) == folded)
            .map(credentials)
            .collect();
        found.sort_by_key(|found| (!found.user.email_verified, found.user.id));
        found.truncate(most as usize);
        Ok(found)
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        let search = query.search.as_ref().map(|search| search.to_lowercase());
        let matches = |user: &User| {
            search.as_ref().is_none_or(|search| {
                user.username.to_lowercase().contains(search)
                    || user.email.to_lowercase().contains(search)
            })
        };
        let tables = self.tables();
        let users = tables.users.values().map(|(user, _)| user);
        Ok(users
            .filter(|user| query.after.is_none_or(|after| user.id > after) && matches(user))
            .take(query.limit as usize)
            .cloned()
            .collect())
    }

    async fn sample_passwords(&self, ends: u32) -> Result<Vec<EncodedPassword>, StoreError> {
        let tables = self.tables();
        let passwords = || tables.users.values().map(|(_, password)| password);
        let ends = ends as usize;
        let both = passwords().take(ends).chain(passwords().rev().take(ends));
        let mut sample: Vec<EncodedPassword> = Vec::new();
        for password in both {
            if !sample.contains(password) {
                sample.push(password.clone());
            }
        }
        Ok(sample)
    }

    fn is_named_by_email(&self) -> bool {
        false
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        Ok(!self.tables().users.is_empty())
    }

    async fn create_user(&self, new: &NewUser, trail: &Trail) -> Result<User, CreateUserError> {
        let created = self.tables().create(new, trail);
        let user = created.ok_or(CreateUserError::UsernameTaken)?;
        self.watchers.tell(Change::UserChanged(user.id));
        Ok(user)
    }

    /// Nobody else makes users here, so all names are known.
    async fn note_names(&self, _: Option<UserId>, _: u32) -> Result<NotedNames, StoreError> {
        Ok(NotedNames {
            next: None,
            noted: 0,
        })
    }

    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
        trail: &Trail,
    ) -> Result<Option<User>, StoreError> {
        let mut tables = self.tables();
        let Some((user, _)) = tables.users.get_mut(&id) else {
            return Ok(None);
        };
        if let Some(first_name) = &change.first_name {
            first_name.as_str().clone_into(&mut user.first_name);
        }
        if let Some(last_name) = &change.last_name {
            last_name.as_str().clone_into(&mut user.last_name);
        }
        let user = user.clone();
        tables.leave(trail, &[]);
        drop(tables);
        self.watchers.tell(Change::UserChanged(id));
        Ok(Some(user))
    }

    async fn change_account(
        &self,
        change: &AccountChange,
    ) -> Result<Option<AccountChanged>, StoreError> {
        let mut tables = self.tables();
        let Some((user, password)) = tables.users.get_mut(&change.user) else {
            return Ok(None);
        };
        let reason = change.kind.ends_sessions(user);
        match &change.kind {
            AccountChangeKind::Password(new) => *password = new.clone(),
            AccountChangeKind::Active(active) => user.is_active = *active,
            AccountChangeKind::Roles {
                is_staff,
                is_superuser,
            } => (user.is_staff, user.is_superuser) = (*is_staff, *is_superuser),
            AccountChangeKind::Email(email) => {
                user.email_verified &= user.email == email.as_str();
                email.as_str().clone_into(&mut user.email);
            }
        }
        let user = user.clone();
        let ended = reason.map(|reason| change.ending.because(reason));
        let ended = ended.map_or(Vec::new(), |end| tables.end_all(user.id, None, end));
        tables.queue(change.mail.as_ref());
        tables.leave(&change.trail, &ended);
        drop(tables);
        self.tell_ended(&ended);
        self.watchers.tell(Change::UserChanged(user.id));
        Ok(Some(AccountChanged { user, ended }))
    }

    async fn change_password(
        &self,
        change: &PasswordChange,
    ) -> Result<PasswordOutcome, StoreError> {
        let mut tables = self.tables();
        if !tables
            .live_of(change.user)
            .any(|live| live.id == change.session)
        {
            return Ok(PasswordOutcome::SessionOver);
        }
        let found = tables.users.get_mut(&change.user);
        let Some((_, password)) = found.filter(|(_, password)| *password == change.verified) else {
            return Ok(PasswordOutcome::Outdated);
        };
        *password = change.new.clone();
        let end = change.ending.because(EndReason::PasswordChanged);
        let ended = tables.end_all(change.user, Some(change.session), end);
        tables.queue(change.mail.as_ref());
        tables.leave(&change.trail, &ended);
        drop(tables);
        self.tell_ended(&ended);
        self.watchers.tell(Change::UserChanged(change.user));
        Ok(PasswordOutcome::Changed(ended))
    }

    async fn delete_user(
        &self,
        id: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        let mut tables = self.tables();
        if tables.users.remove(&id).is_none() {
            return Ok(None);
        }
        tables.mailed_tokens.retain(|_, token| token.user != id);
        tables.looks.remove(&id);
        let ended = tables.end_all(id, None, ending.because(EndReason::UserDeleted));
        tables.leave(trail, &ended);
        drop(tables);
        self.tell_ended(&ended);
        self.watchers.tell(Change::UserChanged(id));
        Ok(Some(ended))
    }

    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError> {
        let mut tables = self.tables();
        let session = &opening.session;
        let found = tables.users.get_mut(&session.user_id);
        let Some((user, password)) = found.filter(|(_, password)| *password == opening.verified)
        else {
            return Ok(OpenOutcome::Changed);
        };
        if !user.is_active {
            return Ok(OpenOutcome::Inactive);
        }
        if let Some(upgraded) = &opening.upgraded {
            *password = upgraded.clone();
        }
        user.last_login = Some(session.opened_at);
        let user = user.clone();
        let ending = EndedAt {
            at: session.opened_at,
            by: EndedBy::User(session.user_id),
        };
        let mut ended = Vec::new();
        if let Some(replaced) = opening.replaced {
            ended.extend(tables.end(replaced, ending.because(EndReason::ReplacedByLogin)));
        }
        if let Some(most) = opening.most {
            let most = most.get() as usize;
            ended.extend(tables.end_least_recently_used(user.id, most, ending));
        }
        // A transition that cannot know whether it was made may be tried again.
        if tables
            .sessions
            .insert(session.id, session.clone())
            .is_none()
        {
            tables.leave(&opening.trail, &ended);
            tables.queue(opening.mail.as_ref());
        }
        drop(tables);
        self.tell_ended(&ended);
        self.watchers.tell(Change::UserChanged(user.id));
        Ok(OpenOutcome::Opened { user, ended })
    }

    async fn take_over(&self, takeover: &TakeOver) -> Result<TakeOverOutcome, StoreError> {
        let mut tables = self.tables();
        let session = &takeover.session;
        let Some((user, _)) = tables.users.get(&session.user_id) else {
            return Ok(TakeOverOutcome::NoSuchUser);
        };
        if session.end.is_none() && !user.is_active {
            return Ok(TakeOverOutcome::Inactive);
        }
        if tables.sessions.contains_key(&session.id) {
            return Ok(TakeOverOutcome::Used);
        }
        let cut_off = tables.cut_offs.get(&user.id);
        if session.end.is_none() && cut_off.is_some_and(|cut_off| session.opened_at <= *cut_off) {
            return Ok(TakeOverOutcome::CutOff);
        }
        let user = user.clone();
        let mut ended = Vec::new();
        if let Some(most) = takeover.most {
            let ending = EndedAt {
                at: session.rotated_at,
                by: EndedBy::User(user.id),
            };
            ended = tables.end_least_recently_used(user.id, most.get() as usize, ending);
        }
        tables.sessions.insert(session.id, session.clone());
        tables.leave(&takeover.trail, &ended);
        drop(tables);
        self.tell_ended(&ended);
        Ok(TakeOverOutcome::TakenOver { user, ended })
    }

    /// No site keeps its tables here: nobody is in any group.
    async fn find_powers(&self, _: UserId, _: u32) -> Result<Powers, StoreError> {
        Ok(Powers::default())
    }

    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError> {
        let tables = self.tables();
        let Some(session) = tables.sessions.get(&id) else {
            return Ok(None);
        };
        let user = tables
            .users
            .get(&session.user_id)
            .map(|(user, _)| user.clone());
        Ok(Some((session.clone(), user)))
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let Some(session) = tables.sessions.get_mut(&rotation.session) else {
            return Ok(false);
        };
        let active = tables
            .users
            .get(&session.user_id)
            .is_some_and(|(user, _)| user.is_active);
        if !active || session.end.is_some() || session.generation != rotation.from {
            return Ok(false);
        }
        session.generation = rotation.from.next();
        session.rotated_at = rotation.at;
        Ok(true)
    }

    async fn list_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        let after = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let sessions = tables.sessions.range((after, Bound::Unbounded));
        Ok(sessions
            .map(|(_, session)| session)
            .filter(|session| query.user.is_none_or(|user| session.user_id == user))
            .filter(|session| !query.live || session.end.is_none())
            .take(query.limit as usize)
            .cloned()
            .collect())
    }

    async fn ended_since(&self, since: Timestamp) -> Result<Vec<EndedSession>, StoreError> {
        let tables = self.tables();
        let ended = tables.sessions.values().filter_map(|session| {
            Some(EndedSession {
                id: session.id,
                user: session.user_id,
                end: session.end?,
            })
        });
        Ok(ended.filter(|session| session.end.at > since).collect())
    }

    async fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let ended = tables.end(id, end);
        if ended.is_some() {
            tables.leave(trail, ended.as_slice());
        }
        drop(tables);
        self.tell_ended(ended.as_slice());
        Ok(ended.is_some())
    }

    async fn end_sessions(
        &self,
        user: UserId,
        spared: Option<SessionId>,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<Vec<EndedSession>, StoreError> {
        let mut tables = self.tables();
        let ended = tables.end_all(user, spared, end);
        tables.leave(trail, &ended);
        drop(tables);
        self.tell_ended(&ended);
        Ok(ended)
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        Ok(self.tables().keys.clone())
    }

    async fn swap_signing_keys(
        &self,
        seen: &[SealedSigningKey],
        new: &[SealedSigningKey],
        trail: &Trail,
    ) -> Result<Vec<SealedSigningKey>, StoreError> {
        let mut tables = self.tables();
        if tables.keys != seen || seen == new {
            return Ok(tables.keys.clone());
        }
        tables.keys = new.to_vec();
        tables.leave(trail, &[]);
        drop(tables);
        self.watchers.tell(Change::KeysChanged);
        Ok(new.to_vec())
    }

    async fn take_upkeep_turn(&self, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        // A turn that ends implausibly late was taken by a clock that has been set back since.
        let turn = until.duration_since(now);
        let is_taken = tables
            .upkeep_until
            .is_some_and(|taken| taken > now && taken.duration_since(now) <= turn);
        if !is_taken {
            tables.upkeep_until = Some(until);
        }
        Ok(!is_taken)
    }

    async fn claim_mail(&self, claim: &MailClaim) -> Result<Vec<ClaimedMail>, StoreError> {
        let mut tables = self.tables();
        let mut due: Vec<_> = tables
            .outbox
            .values_mut()
            .filter(|queued| queued.due_at <= claim.now)
            .collect();
        due.sort_by_key(|queued| (queued.due_at, queued.mail.id));
        let claimed = due.into_iter().take(claim.limit as usize).map(|queued| {
            queued.due_at = claim.until;
            queued.attempts += 1;
            ClaimedMail {
                mail: queued.mail.clone(),
                attempts: queued.attempts,
                until: claim.until,
            }
        });
        Ok(claimed.collect())
    }

    async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        outcome: MailOutcome,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let id = claimed.mail.id;
        let Some(queued) = tables
            .outbox
            .get_mut(&id)
            .filter(|queued| queued.due_at == claimed.until && queued.attempts == claimed.attempts)
        else {
            return Ok(false);
        };
        match outcome {
            MailOutcome::Later(due_at) => queued.due_at = due_at,
            MailOutcome::Done => {
                tables.outbox.remove(&id);
            }
        }
        Ok(true)
    }

    async fn count_mail(&self) -> Result<MailWaiting, StoreError> {
        let outbox = &self.tables().outbox;
        let tried = outbox.values().filter(|waiting| waiting.attempts > 0);
        Ok(MailWaiting {
            tried: tried.count() as u64,
            waiting: outbox.len() as u64,
        })
    }

    async fn queue_mail(&self, mail: &Mail, trail: &Trail) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.queue(Some(mail));
        tables.record(trail.entries.iter().cloned());
        Ok(())
    }

    async fn answer_mail(
        &self,
        claimed: &ClaimedMail,
        answers: &[MailAnswer],
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let id = claimed.mail.id;
        let is_ours = tables.outbox.get(&id).is_some_and(|queued| {
            queued.due_at == claimed.until && queued.attempts == claimed.attempts
        });
        if !is_ours {
            return Ok(false);
        }
        tables.outbox.remove(&id);
        for MailAnswer { token, mail } in answers {
            if let Some(token) = token {
                tables.keep_token(token);
            }
            tables.queue(Some(mail));
        }
        Ok(true)
    }

    async fn issue_token(&self, issue: &IssueToken) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let mut live = tables.live_of(issue.token.user);
        if !live.any(|live| live.id == issue.session) {
            return Ok(false);
        }
        drop(live);
        tables.keep_token(&issue.token);
        tables.queue(issue.mail.as_ref());
        tables.record(issue.trail.entries.iter().cloned());
        Ok(true)
    }

    async fn find_mailed_token(
        &self,
        id: MailedTokenId,
    ) -> Result<Option<StoredToken>, StoreError> {
        let tables = self.tables();
        if let Some(registration) = tables.registrations.get(&id) {
            return Ok(Some(StoredToken::OfRegistration(registration.clone())));
        }
        let token = tables.mailed_tokens.get(&id);
        Ok(token.and_then(|token| {
            let user = tables.users.get(&token.user)?;
            Some(StoredToken::OfUser(token.clone(), credentials(user)))
        }))
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Result<ResetOutcome, StoreError> {
        let mut guard = self.tables();
        let tables = &mut *guard;
        let folded = Email::fold(&reset.email);
        let is_others = tables
            .verified(&folded)
            .is_some_and(|(user, _)| user.id != reset.user);
        let found = tables.users.get_mut(&reset.user);
        let Some((user, password)) = found.filter(|(user, password)| {
            user.is_active && user.email == reset.email && *password == reset.before
        }) else {
            return Ok(ResetOutcome::Dead);
        };
        if tables.mailed_tokens.remove(&reset.token).is_none() {
            return Ok(ResetOutcome::Dead);
        }
        *password = reset.new.clone();
        let proven = !user.email_verified && !is_others;
        user.email_verified |= proven;
        let end = reset.ending.because(EndReason::PasswordChanged);
        let ended = tables.end_all(reset.user, None, end);
        tables.queue(reset.mail.as_ref());
        tables.leave(&reset.trail, &ended);
        if proven {
            tables.record(reset.proof.entries.iter().cloned());
        }
        drop(guard);
        self.tell_ended(&ended);
        self.watchers.tell(Change::UserChanged(reset.user));
        Ok(ResetOutcome::Reset { ended, proven })
    }

    async fn verify_email(&self, proof: &EmailProof) -> Result<EmailOutcome, StoreError> {
        let mut guard = self.tables();
        let tables = &mut *guard;
        let is_others = tables
            .verified(&Email::fold(&proof.to))
            .is_some_and(|(user, _)| user.id != proof.user);
        let found = tables.users.get_mut(&proof.user);
        let Some((user, _)) = found.filter(|(user, password)| {
            user.is_active && user.email == proof.from && *password == proof.before
        }) else {
            return Ok(EmailOutcome::Dead);
        };
        if !tables.mailed_tokens.contains_key(&proof.token) {
            return Ok(EmailOutcome::Dead);
        }
        if is_others {
            return Ok(EmailOutcome::Taken);
        }
        tables.mailed_tokens.remove(&proof.token);
        user.email.clone_from(&proof.to);
        user.email_verified = true;
        tables.queue(proof.mail.as_ref());
        tables.record(proof.trail.entries.iter().cloned());
        drop(guard);
        self.watchers.tell(Change::UserChanged(proof.user));
        Ok(EmailOutcome::Proven)
    }

    async fn register(&self, register: &Register) -> Result<RegisterOutcome, StoreError> {
        let new = &register.registration;
        let mut tables = self.tables();
        let now = new.created_at;
        tables
            .registrations
            .retain(|_, registration| registration.expires_at > now);
        let likeness = Likeness::of(&new.username);
        let mut reserved = tables.registrations.values();
        if reserved.any(|other| Likeness::of(&other.username).is_alike(&likeness))
            || tables.has_name(&new.username)
        {
            return Ok(RegisterOutcome::UsernameTaken);
        }
        if register.mail.is_some() {
            tables.registrations.insert(new.id, new.clone());
        }
        tables.queue(register.mail.as_ref());
        tables.record(register.trail.entries.iter().cloned());
        Ok(RegisterOutcome::Pending)
    }

    async fn find_registrations(
        &self,
        address: &Email,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let folded = address.folded();
        let tables = self.tables();
        let waiting = tables.registrations.values().rev();
        let waiting = waiting
            .filter(|waiting| waiting.expires_at > now && Email::fold(&waiting.email) == folded);
        Ok(waiting.take(most as usize).cloned().collect())
    }

    async fn complete_registration(
        &self,
        id: MailedTokenId,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<RegistrationOutcome, StoreError> {
        let mut tables = self.tables();
        let found = tables.registrations.get(&id);
        let Some(registration) = found.filter(|found| found.expires_at > now).cloned() else {
            return Ok(RegistrationOutcome::Dead);
        };
        if tables.verified(&Email::fold(&registration.email)).is_some() {
            return Ok(RegistrationOutcome::EmailTaken);
        }
        let new = registration.into_user(now)?;
        let Some(mut user) = tables.create(&new, trail) else {
            return Ok(RegistrationOutcome::UsernameTaken);
        };
        tables.registrations.remove(&id);
        if let Some((stored, _)) = tables.users.get_mut(&user.id) {
            stored.email_verified = true;
        }
        user.email_verified = true;
        drop(tables);
        self.watchers.tell(Change::UserChanged(user.id));
        Ok(RegistrationOutcome::Made(user))
    }

    async fn sweep_mailed_tokens(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        let mut tables = self.tables();
        let tokens = tables.mailed_tokens.values();
        let tokens = tokens.filter(|token| token.expires_at <= now);
        let registrations = tables.registrations.values();
        let registrations = registrations.filter(|waiting| waiting.expires_at <= now);
        let expired = tokens.map(|token| token.id);
        let expired = expired.chain(registrations.map(|registration| registration.id));
        let expired: Vec<_> = expired.take(most as usize).collect();
        for id in &expired {
            tables.mailed_tokens.remove(id);
            tables.registrations.remove(id);
        }
        Ok(u32::try_from(expired.len()).unwrap_or(most))
    }

    async fn sweep_sessions(&self, sweep: &SessionSweep) -> Result<Swept, StoreError> {
        let mut tables = self.tables();
        let after = sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        let looked_at: Vec<Session> = tables
            .sessions
            .range((after, Bound::Unbounded))
            .take(sweep.limit as usize)
            .map(|(_, session)| session.clone())
            .collect();
        let mut swept = Swept {
            next: (looked_at.len() == sweep.limit as usize)
                .then(|| looked_at.last().map(|session| session.id))
                .flatten(),
            expired: 0,
            removed: 0,
        };
        for session in looked_at {
            let limit = session.refresh_expires_at(&sweep.limits);
            match session.end {
                None if limit <= sweep.now => {
                    let end = SessionEnd {
                        reason: EndReason::Expired,
                        at: limit,
                        by: EndedBy::Service,
                    };
                    let ended = tables.end(session.id, end);
                    tables.leave(&Trail::default(), ended.as_slice());
                    swept.expired += 1;
                }
                Some(end) if end.at < sweep.forget_before => {
                    tables.sessions.remove(&session.id);
                    swept.removed += 1;
                }
                None | Some(_) => {}
            }
        }
        Ok(swept)
    }

    async fn reserve_attempt(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<AttemptOutcome, StoreError> {
        let throttles = &mut self.tables().throttles;
        let standing = |key| throttles.get(&key).copied();
        match throttle::decide(reservations, standing, now) {
            AttemptDecision::Wait(wait) => Ok(AttemptOutcome::Wait(wait)),
            AttemptDecision::Reserve(counters, refunds) => {
                throttles.extend(counters);
                Ok(AttemptOutcome::Reserved(refunds))
            }
        }
    }

    async fn refund_attempt(&self, refunds: &[Refund], now: Timestamp) -> Result<(), StoreError> {
        let throttles = &mut self.tables().throttles;
        for Refund { key, taken } in refunds {
            if let Some(counter) = throttles.remove(key)
                && let Some(left) = taken.give_back(counter, now)
            {
                throttles.insert(*key, left);
            }
        }
        Ok(())
    }

    async fn forget_attempts(&self, keys: &[ThrottleKey], trail: &Trail) -> Result<(), StoreError> {
        let tables = &mut *self.tables();
        for key in keys {
            tables.throttles.remove(key);
        }
        tables.record(trail.entries.iter().cloned());
        Ok(())
    }

    async fn sweep_throttles(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        let throttles = &mut self.tables().throttles;
        let drained = throttles
            .iter()
            .filter(|(_, counter)| counter.is_drained(now));
        let keys: Vec<_> = drained.map(|(key, _)| *key).take(most as usize).collect();
        for key in &keys {
            throttles.remove(key);
        }
        Ok(u32::try_from(keys.len()).unwrap_or(most))
    }

    async fn record_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.tables().record(entries.iter().cloned());
        Ok(())
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, StoreError> {
        let tables = self.tables();
        let is_asked_for = |place: (Timestamp, i64), entry: &AuditEntry| {
            query.user.is_none_or(|user| entry.user == Some(user))
                && query
                    .session
                    .is_none_or(|session| entry.session == Some(session))
                && query
                    .event
                    .as_ref()
                    .is_none_or(|event| entry.event == *event)
                && query.since.is_none_or(|since| entry.at >= since)
                && query.until.is_none_or(|until| entry.at < until)
                && query.after.is_none_or(|after| place < after)
        };
        let mut listed: Vec<_> = tables
            .audit
            .iter()
            .map(|(number, entry)| ((entry.at, *number), entry))
            .filter(|(place, entry)| is_asked_for(*place, entry))
            .collect();
        listed.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let recorded = listed
            .into_iter()
            .take(query.limit as usize)
            .map(|((_, number), entry)| RecordedEntry {
                number,
                entry: entry.clone(),
            });
        Ok(recorded.collect())
    }

    async fn audit_end(&self) -> Result<AuditPosition, StoreError> {
        Ok(AuditPosition {
            transaction: 0,
            number: self.tables().last_audit_number,
        })
    }

    async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError> {
        let tables = self.tables();
        let next = (Bound::Excluded(from.number), Bound::Unbounded);
        let next = tables.audit.range(next).take(most as usize);
        let recorded = next.map(|(number, entry)| {
            let recorded = RecordedEntry {
                number: *number,
                entry: entry.clone(),
            };
            let position = AuditPosition {
                number: *number,
                ..from
            };
            (position, recorded)
        });
        Ok(recorded.collect())
    }

    async fn sweep_audit(&self, before: Timestamp, most: u32) -> Result<u32, StoreError> {
        let audit = &mut self.tables().audit;
        let old = audit.iter().filter(|(_, entry)| entry.at < before);
        let numbers: Vec<_> = old.map(|(number, _)| *number).take(most as usize).collect();
        for number in &numbers {
            audit.remove(number);
        }
        Ok(u32::try_from(numbers.len()).unwrap_or(most))
    }
}

fn credentials((user, password): &(User, EncodedPassword)) -> Credentials {
    Credentials {
        user: user.clone(),
        password: password.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;

    crate::store_contract!(async || Arc::new(MemoryStore::default()));
}
